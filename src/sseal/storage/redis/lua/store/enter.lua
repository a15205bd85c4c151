-- Puts entries into sets or takes them out: owner, then set, id, whether it stays, value of each. Answers {set, how many
-- it has now}..., or nothing when the owner holds no lease.
local owner = ARGV[1]
local found, renewed = leases()
if not holds(found[owner], renewed) then
  return false
end
local sets = {}
for i = 2, #ARGV, 4 do
  local set, id = ARGV[i], ARGV[i + 1]
  sets[set] = true
  if ARGV[i + 2] == '1' then
    redis.call('HSET', entries_key(owner, set), id, ARGV[i + 3])
    redis.call('SADD', owners_key(set), owner)
    redis.call('SADD', sets_key(owner), set)
  else
    take_out(owner, set, id)
  end
end
local counts = {}
for set in pairs(sets) do
  local number = 0
  for _, other in ipairs(redis.call('SMEMBERS', owners_key(set))) do
    if holds(found[other], renewed) then
      number = number + redis.call('HLEN', entries_key(other, set))
    end
  end
  counts[#counts + 1] = { set, number }
end
return counts
