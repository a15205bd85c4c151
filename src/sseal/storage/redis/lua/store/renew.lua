-- Holds a lease: owner, seconds. Answers whether it was held until now.
local found, renewed = leases()
for owner, lease in pairs(found) do
  if not holds(lease, renewed) then
    release(owner)
    found[owner] = nil
  elseif now - renewed > lease[2] / 2 or lease[1] > now + lease[2] then -- nobody could, or the clock was set back
    hold(owner, lease[2])
  end
end
hold(ARGV[1], tonumber(ARGV[2]))
return found[ARGV[1]] and 1 or 0
