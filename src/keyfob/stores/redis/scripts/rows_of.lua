-- All rows of one hash, each with the cut-offs that may cover it; and the head of the same moment.
local head = redis.call('HMGET', KEYS[1], 'timeline', 'position')
local flat, rows = redis.call('HGETALL', KEYS[3]), {}
for i = 1, #flat, 2 do
  local subject, at = struct.unpack('>I2c0', flat[i + 1], 127)
  local client = struct.unpack('>I2c0', flat[i + 1], at)
  local found = redis.call('HMGET', KEYS[2], 'subject ' .. subject, 'client ' .. client, 'everything ')
  rows[#rows + 1] = { flat[i], flat[i + 1], { found[1] or '', found[2] or '', found[3] or '' } }
end
return { head[1], head[2], rows }
