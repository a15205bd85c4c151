-- Counts one more: name, milliseconds after the first when it starts anew.
local key = KEYS[1] .. ARGV[1]
local number = redis.call('INCR', key)
if number == 1 then
  redis.call('PEXPIRE', key, ARGV[2])
end
return number
