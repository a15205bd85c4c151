-- Tells which nodes have been alive within so many seconds.
local time = redis.call('TIME')
local at = tonumber(time[1]) + tonumber(time[2]) / 1000000
return redis.call('ZRANGEBYSCORE', KEYS[1] .. 'nodes', string.format('(%.6f', at - tonumber(ARGV[1])), '+inf')
