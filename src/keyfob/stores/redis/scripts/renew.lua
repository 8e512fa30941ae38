--#include sha256 state feed rows ending
-- SessionStore.renew: *asked.row* takes the place of *asked.instead_of*, which the caller has read and decided upon.
local feed, now, key = read_feed(), asked.now, KEYS[8]
local present = find_raw(key, asked.field)
if not present then
  return { 'unknown' }
end
if present ~= asked.instead_of then
  return { 'changed' }
end
if not is_live(key, read_row(present), now) then
  return { 'unknown' }
end
local order = { scope = 'session', id = asked.id, reach = 'claims', spared = '' }
local entry = append(feed, order, now, feed.credential)
local s = read_row(asked.row)
s.as_of = entry.position
local row = packed(s)
put_row(key, asked.field, row)
write_event(feed, asked.event)
save_feed(feed)
return { 'renewed', row, shown(feed, entry) }
