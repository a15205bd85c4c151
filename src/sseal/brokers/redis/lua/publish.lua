-- Appends events and tells who listens: epoch, nonce, prefix of the channels, calls (MessagePack), blobs.
-- A call is a list of {topics, ttl or -1, key or '', digest}, whose blobs follow in order over all calls; it is
-- appended whole or not at all.
-- Answers MessagePack: per call its offsets, or the number of the draft whose key is known with another digest.
local EPOCH, CHANNELS = ARGV[1], ARGV[3]
local NONCE = prefix .. 'nonce:' .. ARGV[2]
local KEY_LIFETIME, NONCE_LIFETIME = 86400, 60

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

local function tell(channel, offset, previous, body)
  redis.call('PUBLISH', CHANNELS .. channel, table.concat({ EPOCH, whole(offset), previous, body }, ' '))
end

local function append(offset, draft, blob)
  local topics = table.concat(draft[1], '\n')
  local expires = draft[2] >= 0 and string.format('%.6f', at + draft[2]) or ''
  local canary = is_canary(topics)
  redis.call('XADD', LOG, id(offset), 't', topics, 'a', at_text, 'x', expires, 'b', blob)
  bytes = bytes + cost_of(topics, blob)
  local body = at_text .. ' ' .. expires .. ' ' .. #topics .. ' ' .. topics .. blob
  for _, topic in ipairs(draft[1]) do
    local previous = redis.call('SET', prefix .. 'head:' .. topic, whole(offset), 'PX', head_lifetime, 'GET') or '0'
    if not canary then
      redis.call('ZADD', prefix .. 'topic:' .. topic, whole(offset), whole(offset))
    elseif previous ~= '0' then
      redis.call('XDEL', LOG, previous .. '-0')
    end
    tell('t:' .. topic, offset, previous, body)
  end
  tell('log', offset, whole(offset - 1), body)
end

-- Looks up every key before anything is appended: offsets for known drafts, false for new ones.
local function plan(drafts)
  local planned, claimed = {}, {}
  for number, draft in ipairs(drafts) do
    local key, digest, offset = draft[3], draft[4], false
    if key ~= '' then
      local known = claimed[key] or redis.call('GET', prefix .. 'key:' .. key)
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
  return planned
end

local answers, blobs = {}, 4
for _, drafts in ipairs(cmsgpack.unpack(ARGV[4])) do
  local start, count = head, appended
  local planned, conflict = plan(drafts)
  if planned then
    local offsets = {}
    for number, draft in ipairs(drafts) do
      local offset, new = planned[number][1], planned[number][2]
      offsets[number] = offset
      if new then
        append(offset, draft, ARGV[blobs + number])
        if draft[3] ~= '' then
          redis.call('SET', prefix .. 'key:' .. draft[3], whole(offset) .. ':' .. draft[4], 'EX', KEY_LIFETIME)
        end
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
redis.call('SET', NONCE, answer, 'EX', NONCE_LIFETIME)
redis.call('HSET', META, 'head', whole(head), 'bytes', whole(bytes))
trim(at, 2 * appended + 8)
return answer
