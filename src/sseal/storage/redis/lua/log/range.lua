-- Reads on in the log: epoch, after, count, bytes. Answers {epoch, head, floor, entries}; the entries end early
-- when they are that many bytes, and go up to the head when none is left out.
local meta = redis.call('HMGET', META, 'epoch', 'head', 'floor')
if meta[1] ~= ARGV[1] then
  return redis.error_reply('EPOCH the log is in another epoch')
end
local entries, room, start = {}, tonumber(ARGV[4]), '(' .. id(tonumber(ARGV[2]))
local count = tonumber(ARGV[3])
local more = 0
while true do
  local some = redis.call('XRANGE', LOG, start, '+', 'COUNT', 16)
  for _, entry in ipairs(some) do
    if #entries >= count or room <= 0 then
      more = 1
      break
    end
    entries[#entries + 1] = entry
    room = room - #entry[2][8]
  end
  if more == 1 or #some < 16 then
    break
  end
  start = '(' .. some[16][1]
end
return { meta[2], meta[3] or '0', more, entries }
