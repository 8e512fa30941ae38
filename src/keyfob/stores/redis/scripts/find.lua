-- SessionStore.find: the row, its parent's, and the cut-offs of both, of one moment with the head.
local FIRST = 95 -- where a row goes on behind what has a fixed place: with the parent's id, the end, the subject (rows.lua)

local function find(field)
  local found = redis.call('HMGET', KEYS[3], field, field .. '\1', field .. '\2', field .. '\3', field .. '\4')
  return found[1] and found[1] .. (found[2] or '') .. (found[3] or '') .. (found[4] or '') .. (found[5] or '')
end

local function cut_offs(row, flags)
  local at = FIRST + (bit.band(flags, 2) ~= 0 and 16 or 0) + (bit.band(flags, 4) ~= 0 and 16 or 0)
  local subject, client
  subject, at = struct.unpack('>I2c0', row, at)
  client = struct.unpack('>I2c0', row, at)
  local found = redis.call('HMGET', KEYS[2], 'subject ' .. subject, 'client ' .. client, 'everything ')
  return { found[1] or '', found[2] or '', found[3] or '' }
end

local head = redis.call('HMGET', KEYS[1], 'timeline', 'position')
local row = find(ARGV[1])
if not row then
  return { head[1], head[2] }
end
local flags = string.byte(row, 2)
if bit.band(flags, 2) == 0 then -- it is no child
  return { head[1], head[2], row, cut_offs(row, flags) }
end
local parent = find(string.sub(row, FIRST, FIRST + 15))
if not parent then
  return { head[1], head[2], row, cut_offs(row, flags), '' }
end
return { head[1], head[2], row, cut_offs(row, flags), parent, cut_offs(parent, string.byte(parent, 2)) }
