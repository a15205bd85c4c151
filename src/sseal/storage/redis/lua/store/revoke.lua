-- Appends to the revocation log: record, lifetime in ms, channel, a name for the log if this is its first.
-- Answers its number.
local log = KEYS[1] .. 'revocations'
local time = redis.call('TIME')
local at = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local number = redis.call('INCR', KEYS[1] .. 'revocations:last')
redis.call('SET', KEYS[1] .. 'revocations:log', ARGV[4], 'NX')
local ends = string.format('%.0f', at + tonumber(ARGV[2]))
redis.call('XADD', log, string.format('%.0f-0', number), 'x', ends, 'r', ARGV[1])
redis.call('ZADD', log .. ':ends', ends, string.format('%.0f', number))
-- What has expired goes, wherever it stands: before and behind it may be what is in force for a year.
local over = redis.call('ZRANGEBYSCORE', log .. ':ends', '-inf', string.format('%.0f', at), 'LIMIT', 0, 100)
for _, old in ipairs(over) do
  redis.call('XDEL', log, old .. '-0')
  redis.call('ZREM', log .. ':ends', old)
end
-- It counts whether or not anybody can be told: every node reads on by itself as well.
redis.pcall('PUBLISH', ARGV[3], string.format('%.0f', number))
return number
