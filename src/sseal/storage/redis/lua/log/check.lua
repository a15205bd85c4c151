-- Removes what is too old and tells where the log stands: {epoch, head, time}.
local at = now()
local meta = redis.call('HMGET', META, 'epoch', 'head')
if meta[1] then
  trim(at, 1000)
  forget_keys(at)
end
return { meta[1] or '', meta[2] or '0', string.format('%.6f', at) }
