-- One page of one snapshot (W7): epoch, after, upto or '', limit, bytes, query (MessagePack).
-- The query is {exact topics, their bounds, patterns as Lua patterns, their bounds}; a bound is the time before which
-- a trimmed event is no loss (W21). Answers {upto, more, lost, entries}.
local EPOCH, AFTER, LIMIT = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local SCAN, SCAN_RECORDS = 500, 10000 -- what one page looks through for patterns: a few milliseconds
local STEP = 64 -- places read at once of a topic that has more than its share

local at = now()
local meta = redis.call('HMGET', META, 'epoch')
if meta[1] ~= EPOCH then
  return redis.error_reply('EPOCH the log is in another epoch')
end
trim(at, 1000)
meta = redis.call('HMGET', META, 'head', 'forgotten', 'forgotten_at')
local query = cmsgpack.unpack(ARGV[6])
local exact, exact_since, patterns, patterns_since = query[1], query[2], query[3], query[4]
local upto = math.max(math.min(tonumber(ARGV[3]) or math.huge, tonumber(meta[1])), 0)
local more = false

local function matches(topics)
  for topic in string.gmatch(topics, '[^\n]+') do
    for number, pattern in ipairs(patterns) do
      if string.find(topic, pattern) then
        return number
      end
    end
  end
end

local found, offsets = {}, {}
local function find(offset, entry)
  if found[offset] == nil then
    offsets[#offsets + 1] = offset
    found[offset] = entry
  elseif entry then
    found[offset] = entry
  end
end

-- Reads some places of a topic; its last one when there may be others after it.
local function places(topic, after, count)
  local key = prefix .. 'topic:' .. topic
  local index = redis.call('ZRANGE', key, '(' .. whole(after), whole(upto), 'BYSCORE', 'LIMIT', 0, count)
  for _, offset in ipairs(index) do
    find(tonumber(offset), false)
  end
  return #index == count and tonumber(index[count]) or nil
end

-- First a share of the page of every topic, then more of those that have most, until there are enough for a page.
local share = math.min(LIMIT, math.ceil(2 * LIMIT / #exact)) + 1
local ends = {}
for _, topic in ipairs(exact) do
  ends[topic] = places(topic, AFTER, share)
end
local function shortest()
  local least
  for _, topic in ipairs(exact) do
    if ends[topic] and (not least or ends[topic] < ends[least]) then
      least = topic
    end
  end
  return least
end
local spare, topic = share > LIMIT and 0 or LIMIT, shortest()
while topic and spare > 0 do
  local step = math.max(share, STEP)
  ends[topic] = places(topic, ends[topic], step)
  spare, topic = spare - step, shortest()
end
if topic then
  -- Nothing beyond what this topic has given may be given of others: the page is cut there.
  upto, more = math.min(upto, ends[topic] - 1), true
end

if #patterns > 0 then
  local scanned = redis.call('XRANGE', LOG, '(' .. id(AFTER), id(upto), 'COUNT', SCAN)
  for _, entry in ipairs(scanned) do
    local topics = entry[2][2]
    if not is_canary(topics) and matches(topics) then
      find(offset_of(entry[1]), entry)
    end
  end
  if #scanned == SCAN then
    local last = offset_of(scanned[SCAN][1])
    if last < upto then
      upto, more = last, true
    end
  end
end

table.sort(offsets)
local entries, room, taken = {}, tonumber(ARGV[5]), 0
for _, offset in ipairs(offsets) do
  if offset > upto then
    break
  end
  if taken == LIMIT or room <= 0 then
    upto, more = math.min(upto, offset - 1), true
    break
  end
  local entry = found[offset] or redis.call('XRANGE', LOG, id(offset), id(offset))[1]
  if entry then
    taken = taken + 1
    local expires = entry[2][6]
    if expires == '' or tonumber(expires) > at then
      entries[#entries + 1] = entry
      room = room - #entry[2][8]
    end
  end
end

local lost = 0
local function lose(offset, published_at, since)
  if offset > AFTER and offset > lost and published_at >= since then
    lost = offset
  end
end
local floor, floor_at = tonumber(meta[2] or 0), tonumber(meta[3] or 0)
for number, topic in ipairs(exact) do
  local offset = redis.call('ZSCORE', TRIMMED, topic)
  if offset then
    lose(tonumber(offset), tonumber(redis.call('HGET', TRIMMED_AT, topic) or 0), exact_since[number])
  else
    lose(floor, floor_at, exact_since[number])
  end
end
if #patterns > 0 then
  local records = redis.call(
    'ZRANGE', TRIMMED, '+inf', '(' .. whole(AFTER), 'BYSCORE', 'REV', 'LIMIT', 0, SCAN_RECORDS, 'WITHSCORES'
  )
  for i = 1, #records, 2 do
    local offset = tonumber(records[i + 1])
    if offset <= lost then
      break
    end
    for number, pattern in ipairs(patterns) do
      if string.find(records[i], pattern) then
        lose(offset, tonumber(redis.call('HGET', TRIMMED_AT, records[i]) or 0), patterns_since[number])
      end
    end
  end
  if #records == 2 * SCAN_RECORDS then
    lose(tonumber(records[#records]), math.huge, 0) -- not looked at: rather a gap too many than a silent loss
  end
  for _, since in ipairs(patterns_since) do
    lose(floor, floor_at, since)
  end
end
return { whole(math.max(upto, AFTER)), more and 1 or 0, whole(lost), entries }
