--#include state rows
-- SessionStore.touch, of one session: *asked.uses* ascend.
read_position()
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
  put_fixed(key, asked.field, packed(s))
end
return has_moved
