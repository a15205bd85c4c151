-- Opens the log on a new connection: run_id, replid, a fresh epoch, retention (count, age, size), whether it rules, and
-- the epochs the hub knows as "epoch:last", the youngest first.
local known = redis.call('HMGET', META, 'epoch', 'head', 'run_id', 'replid', 'lineage')
local epoch, head, lineage = known[1], known[2] or '0', known[5] or ''
-- Offsets are not used again, should only this record be gone or be behind.
if redis.call('EXISTS', LOG) == 1 then
  local info = fields_of(redis.call('XINFO', 'STREAM', LOG))
  head = whole(math.max(tonumber(head), offset_of(info['last-generated-id'])))
end
if not epoch then
  epoch, lineage = ARGV[3], ''
elseif known[3] ~= ARGV[1] or known[4] ~= ARGV[2] then
  -- Another process, or one whose data came from another: it cannot prove that it has everything (W10).
  lineage = epoch .. ':' .. head .. ' ' .. lineage
  epoch = ARGV[3]
end
-- Epochs the hub has seen and this server has not, as it is a replica or a backup from before them, are true up to where
-- the two part: the end of the youngest epoch that both know.
local lasts, unheard, parting = { [epoch] = tonumber(head) }, {}, nil
for name, last in string.gmatch(lineage, '(%w+):(%d+)') do
  lasts[name] = tonumber(last)
end
for name, last in string.gmatch(ARGV[8], '(%w+):(%d+)') do
  if lasts[name] then
    parting = math.min(lasts[name], tonumber(last))
    break
  end
  table.insert(unheard, 1, { name, tonumber(last) })
end
for _, each in ipairs(parting and unheard or {}) do
  lineage = each[1] .. ':' .. whole(math.min(parting, each[2])) .. ' ' .. lineage
end
local cut, count = 0, 0
for stop in string.gmatch(lineage, '() ') do
  count = count + 1
  if count == 256 then
    cut = stop
  end
end
if cut > 0 then
  lineage = string.sub(lineage, 1, cut)
end
redis.call('HSET', META, 'epoch', epoch, 'head', head, 'run_id', ARGV[1], 'replid', ARGV[2], 'lineage', lineage)
if ARGV[7] == '1' then
  redis.call('HSET', META, 'count', ARGV[4], 'age', ARGV[5], 'size', ARGV[6])
else
  redis.call('HSETNX', META, 'count', ARGV[4])
  redis.call('HSETNX', META, 'age', ARGV[5])
  redis.call('HSETNX', META, 'size', ARGV[6])
end
return { epoch, head, lineage, string.format('%.6f', now()) }
