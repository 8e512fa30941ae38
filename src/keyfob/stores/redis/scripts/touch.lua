--#include state rows
-- SessionStore.touch, of one session: *asked.uses* ascend.
read_feed()
local key, has_moved = KEYS[8], 0
local s = find_row(key, asked.field)
if not s then
  return 0
end
for _, at in ipairs(asked.uses) do
  if s.seen < at and is_live(key, s, at) then
    s.seen, has_moved = at, 1
  end
end
if has_moved == 1 then
  redis.call('HSET', key, asked.field, packed(s))
  note('sessions', hex(asked.field))
end
return has_moved
