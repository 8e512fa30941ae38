-- SessionStore.find: the row, its parent's, and the cut-offs of both, of one moment with the head; and before them what is recorded of the
-- subject, where KEYS[4] holds that.
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
  return { found[1] or '', found[2] or '', found[3] or '' }, subject
end

local head = redis.call('HMGET', KEYS[1], 'timeline', 'position')
local row = find(ARGV[1])
if not row then
  return { head[1], head[2] }
end
local flags = string.byte(row, 2)
local cuts, subject = cut_offs(row, flags)
local reply = { head[1], head[2], row, cuts }
if KEYS[4] then
  table.insert(reply, 3, redis.call('HGET', KEYS[4], subject) or '')
end
if bit.band(flags, 2) ~= 0 then -- it is a child
  local parent = find(string.sub(row, FIRST, FIRST + 15))
  reply[#reply + 1] = parent or ''
  if parent then
    reply[#reply + 1] = (cut_offs(parent, string.byte(parent, 2)))
  end
end
return reply
