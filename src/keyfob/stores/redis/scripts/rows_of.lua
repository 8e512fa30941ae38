--#include pieces
-- All rows of one hash, each with the cut-offs that may cover it; and the head of the same moment.
local FIRST = 95 -- as in find.lua
local head = redis.call('HMGET', KEYS[1], 'timeline', 'position')
local rows = all_raw(KEYS[3])
for i, row in ipairs(rows) do
  local raw, flags = row[2], string.byte(row[2], 2)
  local at = FIRST + (bit.band(flags, 2) ~= 0 and 16 or 0) + (bit.band(flags, 4) ~= 0 and 16 or 0)
  local subject, client
  subject, at = struct.unpack('>I2c0', raw, at)
  client = struct.unpack('>I2c0', raw, at)
  local found = redis.call('HMGET', KEYS[2], 'subject ' .. subject, 'client ' .. client, 'everything ')
  rows[i] = { row[1], raw, { found[1] or '', found[2] or '', found[3] or '' } }
end
return { head[1], head[2], rows }
