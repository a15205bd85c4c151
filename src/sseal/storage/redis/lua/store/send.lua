-- Hands a message to a node that is alive: node, seconds within which it must have shown so, channel, body.
local time = redis.call('TIME')
local at = tonumber(time[1]) + tonumber(time[2]) / 1000000
local seen = redis.call('ZSCORE', KEYS[1] .. 'nodes', ARGV[1])
if not seen or tonumber(seen) <= at - tonumber(ARGV[2]) then
  return 0
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
