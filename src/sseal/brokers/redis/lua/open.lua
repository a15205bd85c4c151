-- Opens the log on a new connection: run_id, replid, a fresh epoch, retention (count, age, size), whether it rules.
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
  epoch = ARGV[3]
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
