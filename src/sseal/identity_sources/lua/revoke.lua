-- Appends to the revocation log: record, lifetime in ms, channel, a name for the log if this is its first.
-- Answers its number.
local log = KEYS[1] .. 'revocations'
local time = redis.call('TIME')
local at = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local number = redis.call('INCR', KEYS[1] .. 'revocations:last')
redis.call('SET', KEYS[1] .. 'revocations:log', ARGV[4], 'NX')
redis.call('XADD', log, string.format('%.0f-0', number), 'x', string.format('%.0f', at + tonumber(ARGV[2])), 'r', ARGV[1])
-- What has expired goes, the oldest first, as far as nothing before it is still in force.
for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', 100)) do
  if tonumber(entry[2][2]) > at then
    break
  end
  redis.call('XDEL', log, entry[1])
end
-- It counts whether or not anybody can be told: every node reads on by itself as well.
redis.pcall('PUBLISH', ARGV[3], string.format('%.0f', number))
return number
