-- What several scripts share. Keys: all begin with the prefix.
--   meta            epoch, head, run_id, replid, lineage, floor (newest trimmed offset), bytes, count, age, size,
--                   forgotten, forgotten_at (newest offset whose topic's record of what was trimmed was given up)
--   log             every event once, id <offset>-0
--   topic:<topic>   the offsets of one topic, as a sorted set: a stream with one entry takes 4 KiB
--   head:<topic>    its newest offset, until that is trimmed
--   key:<hash>      the offset and digest of an idempotency key; keys: all of them by the time they were used
--   trimmed, trimmed_at   per topic the newest offset that was trimmed before its time was over, and when published
local prefix = KEYS[1]
local META, LOG, KEYS_USED = prefix .. 'meta', prefix .. 'log', prefix .. 'keys'
local TRIMMED, TRIMMED_AT = prefix .. 'trimmed', prefix .. 'trimmed_at'
local CANARY = '$sseal/canary'
local OVERHEAD, TOPIC_OVERHEAD = 100, 200 -- bytes an event costs beside its text, measured with INFO memory
local KEY_LIFETIME, MAX_KEYS = 86400, 100000 -- seconds; keys: about 30 MiB
local MAX_TRIMMED = 100000 -- topics with a record of what was trimmed: about 20 MiB; older ones share one floor

local function whole(number)
  return string.format('%.0f', number) -- the default turns to 1e+15 where offsets still count
end

local function id(offset)
  return whole(offset) .. '-0'
end

local function offset_of(entry_id)
  return tonumber(string.match(entry_id, '^%d+'))
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

local function is_canary(topics)
  return string.sub(topics, 1, #CANARY) == CANARY
end

local function cost_of(topics, blob)
  if is_canary(topics) then
    return 0
  end
  local _, more_topics = string.gsub(topics, '\n', '')
  return #topics + #blob + OVERHEAD + TOPIC_OVERHEAD * (1 + more_topics)
end

local function forget_oldest_records()
  local excess = redis.call('ZCARD', TRIMMED) - MAX_TRIMMED
  if excess <= 0 then
    return
  end
  local popped = redis.call('ZPOPMIN', TRIMMED, math.min(excess, 1000))
  for i = 1, #popped, 2 do
    local at = redis.call('HGET', TRIMMED_AT, popped[i])
    redis.call('HDEL', TRIMMED_AT, popped[i])
    redis.call('HSET', META, 'forgotten', popped[i + 1], 'forgotten_at', at or '0')
  end
end

-- Drops the keys whose time is over, and the oldest when there are too many.
local function forget_keys(at)
  redis.call('ZREMRANGEBYSCORE', KEYS_USED, '-inf', string.format('%.6f', at - KEY_LIFETIME))
  local excess = redis.call('ZCARD', KEYS_USED) - MAX_KEYS
  if excess > 0 then
    local popped = redis.call('ZPOPMIN', KEYS_USED, math.min(excess, 1000))
    for i = 1, #popped, 2 do
      redis.call('DEL', prefix .. 'key:' .. popped[i])
    end
  end
end

-- Removes at most `budget` events that no limit of the retention allows any more, the oldest first.
local function trim(at, budget)
  local meta = redis.call('HMGET', META, 'count', 'age', 'size', 'bytes')
  local bytes = tonumber(meta[4] or 0)
  local left = redis.call('XLEN', LOG)
  local last, start = nil, '-'
  while budget > 0 and left > 0 do
    local entry = redis.call('XRANGE', LOG, start, '+', 'COUNT', 1)[1]
    if not entry then
      break
    end
    local fields = fields_of(entry[2])
    if left <= tonumber(meta[1]) and bytes <= tonumber(meta[3]) and tonumber(fields.a) > at - tonumber(meta[2]) then
      break
    end
    last = offset_of(entry[1])
    start = '(' .. entry[1]
    bytes = bytes - cost_of(fields.t, fields.b)
    left = left - 1
    budget = budget - 1
    -- What was over by its own time to live is missed by nobody (W25).
    local missed = not is_canary(fields.t) and (fields.x == '' or tonumber(fields.x) > at)
    for topic in string.gmatch(fields.t, '[^\n]+') do
      -- A key that somebody else has written is no reason to keep everything.
      redis.pcall('ZREMRANGEBYSCORE', prefix .. 'topic:' .. topic, '-inf', whole(last))
      if redis.pcall('GET', prefix .. 'head:' .. topic) == whole(last) then
        redis.call('DEL', prefix .. 'head:' .. topic)
      end
      if missed then
        redis.call('ZADD', TRIMMED, whole(last), topic)
        redis.call('HSET', TRIMMED_AT, topic, fields.a)
      end
    end
  end
  if last then
    redis.call('XTRIM', LOG, 'MINID', id(last + 1))
    redis.call('HSET', META, 'floor', whole(last), 'bytes', whole(bytes))
    forget_oldest_records()
  end
end
