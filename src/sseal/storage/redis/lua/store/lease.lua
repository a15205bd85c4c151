-- What the scripts about leases share.
-- leases: owner to "<end> <length>" in seconds · lease:owners:<set>: who has entries in it · lease:sets:<owner>: where
-- an owner has entries · lease:<length of the owner's name>:<owner>:<set>: id to value.
local prefix = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function owners_key(set)
  return prefix .. 'lease:owners:' .. set
end

local function sets_key(owner)
  return prefix .. 'lease:sets:' .. owner
end

local function entries_key(owner, set)
  return string.format('%slease:%d:%s:%s', prefix, #owner, owner, set)
end

-- Returns owner to {end, length}, and when a lease was last renewed.
local function leases()
  local found, renewed = {}, 0
  local flat = redis.call('HGETALL', prefix .. 'leases')
  for i = 1, #flat, 2 do
    local ends, length = string.match(flat[i + 1], '^(%S+) (%S+)$')
    found[flat[i]] = { tonumber(ends), tonumber(length) }
    renewed = math.max(renewed, tonumber(ends) - tonumber(length))
  end
  return found, renewed
end

-- Who held a lease when anybody last renewed holds it while nobody can, and gets a whole one afterwards.
local function holds(lease, renewed)
  return lease and (lease[1] > now or (lease[1] > renewed and now - renewed > lease[2] / 2))
end

local function hold(owner, length)
  redis.call('HSET', prefix .. 'leases', owner, string.format('%.6f %.6f', now + length, length))
end

local function take_out(owner, set, id)
  local key = entries_key(owner, set)
  if redis.call('HDEL', key, id) == 1 and redis.call('EXISTS', key) == 0 then
    redis.call('SREM', owners_key(set), owner)
    redis.call('SREM', sets_key(owner), set)
  end
end

local function release(owner)
  redis.call('HDEL', prefix .. 'leases', owner)
  for _, set in ipairs(redis.call('SMEMBERS', sets_key(owner))) do
    redis.call('DEL', entries_key(owner, set))
    redis.call('SREM', owners_key(set), owner)
  end
  redis.call('DEL', sets_key(owner))
end
