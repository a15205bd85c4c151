-- Writes a record if it is still what it was: name, whether it was there, old, new, lifetime in ms (0 deletes).
local key = KEYS[1] .. ARGV[1]
local known = redis.call('GET', key)
if known ~= (ARGV[2] == '1' and ARGV[3]) then
  return 0
end
if tonumber(ARGV[5]) > 0 then
  redis.call('SET', key, ARGV[4], 'PX', ARGV[5])
else
  redis.call('DEL', key)
end
return 1
