-- Shows that a node is alive: node, seconds after which one that does not is forgotten.
local nodes = KEYS[1] .. 'nodes'
local time = redis.call('TIME')
local at = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZADD', nodes, string.format('%.6f', at), ARGV[1])
redis.call('ZREMRANGEBYSCORE', nodes, '-inf', string.format('%.6f', at - 10 * tonumber(ARGV[2])))
