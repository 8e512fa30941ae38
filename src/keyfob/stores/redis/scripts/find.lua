-- SessionStore.find: the row, its parent's, and the cut-offs of both, of one moment with the head.
local head = redis.call('HMGET', KEYS[1], 'timeline', 'position')
local raw = redis.call('HGET', KEYS[3], ARGV[1])
if not raw then
  return { head[1], head[2] }
end
local FIXED, PARENT = '>I2c0', 111 -- where the parent's id begins; the subject follows it
local function cut_offs(row)
  local subject, at = struct.unpack(FIXED, row, PARENT + 16)
  local client = struct.unpack(FIXED, row, at)
  local found = redis.call('HMGET', KEYS[2], 'subject ' .. subject, 'client ' .. client, 'everything ')
  return { found[1] or '', found[2] or '', found[3] or '' }
end
if bit.band(string.byte(raw, 2), 2) == 0 then -- it is no child
  return { head[1], head[2], raw, cut_offs(raw) }
end
local parent = redis.call('HGET', KEYS[3], string.sub(raw, PARENT, PARENT + 15))
if not parent then
  return { head[1], head[2], raw, cut_offs(raw), '' }
end
return { head[1], head[2], raw, cut_offs(raw), parent, cut_offs(parent) }
