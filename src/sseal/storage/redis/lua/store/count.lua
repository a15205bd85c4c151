-- Counts: name, milliseconds after the first when it starts anew, how many to add (negative: take back; 0: only ask).
local key = KEYS[1] .. ARGV[1]
local by = tonumber(ARGV[3])
local known = redis.call('GET', key)
if not known then
  if by > 0 then
    redis.call('SET', key, string.format('%.0f', by), 'PX', ARGV[2])
  end
  return math.max(0, by)
end
local number = math.max(0, tonumber(known) + by)
redis.call('SET', key, string.format('%.0f', number), 'KEEPTTL')
return number
