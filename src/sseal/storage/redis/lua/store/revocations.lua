-- Reads the revocation log after a number: number, whether a log is known, its name. Answers {last number looked at,
-- whether there is more, {number, record}..., its name}; everything when the log is another one.
local PAGE = 1000
local time = redis.call('TIME')
local at = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local after = tonumber(ARGV[1])
local log = redis.call('GET', KEYS[1] .. 'revocations:log') or ''
local another = ARGV[2] == '1' and ARGV[3] ~= log
if another or tonumber(redis.call('GET', KEYS[1] .. 'revocations:last') or 0) < after then
  after = 0
end
local entries = redis.call(
  'XRANGE', KEYS[1] .. 'revocations', string.format('(%.0f-0', after), '+', 'COUNT', PAGE
)
local found = {}
for _, entry in ipairs(entries) do
  if tonumber(entry[2][2]) > at then
    found[#found + 1] = { string.match(entry[1], '^%d+'), entry[2][4] }
  end
end
local last = #entries > 0 and string.match(entries[#entries][1], '^%d+') or '0'
return { last, #entries == PAGE and 1 or 0, found, log }
