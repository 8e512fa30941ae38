--#include state rows ending cluster/slot
-- What was owed stands in the feed at *asked.position* (0: it was needless): let it take effect, once.
local instead = catch_up()
if instead then
  return instead
end
local key, field = KEYS[8], asked.field
if owed_for(field) ~= asked.debt then
  return { 'paid', find_raw(key, field) or '' }
end
redis.call('HDEL', META, OWED .. field)
local present = find_row(key, field)
if asked.row ~= '' and asked.position > 0 and present then
  local s = read_row(unhex(asked.row))
  s.as_of, s.seen = math.max(present.as_of, asked.position), math.max(present.seen, s.seen)
  s.ended_at, s.ended_position = present.ended_at, present.ended_position
  put_row(key, field, packed(s))
end
return { 'paid', find_raw(key, field) or '' }
