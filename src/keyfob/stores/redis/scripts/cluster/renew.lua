--#include state rows ending cluster/slot
-- SessionStore.renew: the entry is owed, and the row that takes the place of *asked.instead_of*, which the caller has read and decided upon.
local instead = catch_up()
if instead then
  return instead
end
local debt = owed_for(asked.field)
if debt then
  return { 'owed', { debt } }
end
local present = find_raw(KEYS[8], asked.field)
if not present then
  return { 'unknown' }
end
if present ~= asked.instead_of then
  return { 'changed' }
end
if not is_live(KEYS[8], read_row(present), asked.now) then
  return { 'unknown' }
end
local event = { text(asked.event[1]), asked.event[2], asked.event[3], asked.event[4] }
return { 'owes', owe({ kind = 'renew', session = asked.id, event = event, row = hex(asked.row) }, asked.field) }
