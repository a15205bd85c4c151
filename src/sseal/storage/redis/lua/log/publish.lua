-- Appends events and tells who listens: epoch, nonce, prefix of the channels, calls (MessagePack), blobs.
-- A call is a list of {topics, ttl or -1, key or '', digest}, whose blobs follow in order over all calls; it is
-- appended whole or not at all.
-- Answers MessagePack: per call its offsets, or the number of the draft whose key is known with another digest.
local EPOCH, CHANNELS = ARGV[1], ARGV[3]
local NONCE = prefix .. 'nonce:' .. ARGV[2]
local NONCE_LIFETIME = 60
-- Bytes of an event that go to the channels of all its topics; of a longer one only where it is in the log goes.
-- A hub that listens to many of them would otherwise get it many times, and be cut off as too slow.
local MAX_TOLD = 16 * 1024

local before = redis.call('GET', NONCE)
if before then
  return before -- the answer was lost on its way (W9)
end
local meta = redis.call('HMGET', META, 'epoch', 'head', 'bytes', 'age')
if meta[1] ~= EPOCH then
  return redis.error_reply('EPOCH the log is in another epoch')
end
local at = now()
local at_text = string.format('%.6f', at)
local head, bytes = tonumber(meta[2]), tonumber(meta[3] or 0)
local head_lifetime = whole(1000 * (math.max(tonumber(meta[4]), 60) + 3600))
local appended = 0

local fresh = {} -- the events to append: {offset, draft, blob, topics as text, previous offset per topic}

-- Nobody is to be kept from publishing because somebody cannot be told.
local function tell(channel, offset, previous, body)
  redis.pcall('PUBLISH', CHANNELS .. channel, table.concat({ EPOCH, whole(offset), previous, body }, ' '))
end

-- Lists an event under its topics, which is what may fail; answers the error if it does.
local function list(event)
  local offset, topics, previous = event[1], event[2][1], event[5]
  for number, topic in ipairs(topics) do
    local known = redis.pcall('SET', prefix .. 'head:' .. topic, whole(offset), 'PX', head_lifetime, 'GET')
    if type(known) == 'table' and known.err then
      return known
    end
    previous[number] = known or redis.call('ZSCORE', TRIMMED, topic) or '0'
    if not is_canary(event[4]) then
      local added = redis.pcall('ZADD', prefix .. 'topic:' .. topic, whole(offset), whole(offset))
      if type(added) == 'table' then
        return added
      end
    end
  end
end

local function append(event)
  local offset, draft, blob, topics, previous = unpack(event)
  local expires = draft[2] >= 0 and string.format('%.6f', at + draft[2]) or ''
  redis.call('XADD', LOG, id(offset), 't', topics, 'a', at_text, 'x', expires, 'b', blob)
  if draft[3] ~= '' then
    redis.call('SET', prefix .. 'key:' .. draft[3], whole(offset) .. ':' .. draft[4], 'EX', KEY_LIFETIME)
    redis.call('ZADD', KEYS_USED, at_text, draft[3])
  end
  local body = at_text .. ' ' .. expires .. ' ' .. #topics .. ' ' .. topics
  if #blob * #draft[1] <= MAX_TOLD then
    body = body .. blob
  end
  for number, topic in ipairs(draft[1]) do
    if is_canary(topics) and previous[number] ~= '0' then
      redis.call('XDEL', LOG, previous[number] .. '-0')
    end
    tell('t:' .. topic, offset, previous[number], body)
  end
  tell('log', offset, whole(offset - 1), body)
end

-- Looks up every key before anything is appended: per draft its offset, and whether it is new. What earlier calls of
-- this script have claimed is known in `claims`, to which those of a call without a conflict are added.
local claims = {}
local function plan(drafts)
  local planned, claimed = {}, {}
  for number, draft in ipairs(drafts) do
    local key, digest, offset = draft[3], draft[4], false
    if key ~= '' then
      local known = claimed[key] or claims[key] or redis.call('GET', prefix .. 'key:' .. key)
      if known then
        local split = string.find(known, ':', 1, true)
        if string.sub(known, split + 1) ~= digest then
          return nil, number - 1
        end
        offset = tonumber(string.sub(known, 1, split - 1))
      end
    end
    if not offset then
      head = head + 1
      appended = appended + 1
      if key ~= '' then
        claimed[key] = whole(head) .. ':' .. digest
      end
      planned[number] = { head, true }
    else
      planned[number] = { offset, false }
    end
  end
  for key, claim in pairs(claimed) do
    claims[key] = claim
  end
  return planned
end

local answers, blobs = {}, 4
for _, drafts in ipairs(cmsgpack.unpack(ARGV[4])) do
  local start, count = head, appended
  local planned, conflict = plan(drafts)
  if planned then
    local offsets = {}
    for number, draft in ipairs(drafts) do
      local blob, topics = ARGV[blobs + number], table.concat(draft[1], '\n')
      offsets[number] = planned[number][1]
      if planned[number][2] then
        fresh[#fresh + 1] = { offsets[number], draft, blob, topics, {} }
        bytes = bytes + cost_of(topics, blob)
      end
    end
    answers[#answers + 1] = offsets
  else
    head, appended = start, count
    answers[#answers + 1] = conflict
  end
  blobs = blobs + #drafts
end
local answer = cmsgpack.pack(answers)
if appended > 0 then
  -- A script that fails is not undone. So what it needs comes before what can be seen, and the head first of all:
  -- then a failure leaves offsets that nothing has, and the next event gets another.
  redis.call('HSET', META, 'head', whole(head))
  for _, event in ipairs(fresh) do
    local failure = list(event)
    if failure then
      for _, listed in ipairs(fresh) do
        for _, topic in ipairs(listed[2][1]) do
          redis.pcall('ZREM', prefix .. 'topic:' .. topic, whole(listed[1]))
        end
      end
      return failure
    end
  end
  for _, event in ipairs(fresh) do
    append(event)
  end
  redis.call('HSET', META, 'bytes', whole(bytes))
end
redis.call('SET', NONCE, answer, 'EX', NONCE_LIFETIME)
-- What is appended is, whatever becomes of what is old: a check tells of that.
pcall(trim, at, 2 * appended + 8)
pcall(forget_keys, at)
return answer
