-- Tells what is in sets: their names. Answers for each {owner, id, value}...
local found, renewed = leases()
local answer = {}
for i, set in ipairs(ARGV) do
  answer[i] = {}
  for _, owner in ipairs(redis.call('SMEMBERS', owners_key(set))) do
    if holds(found[owner], renewed) then
      local flat = redis.call('HGETALL', entries_key(owner, set))
      for j = 1, #flat, 2 do
        table.insert(answer[i], { owner, flat[j], flat[j + 1] })
      end
    end
  end
end
return answer
