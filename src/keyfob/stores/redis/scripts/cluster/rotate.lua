--#include state rows ending cluster/slot
-- SessionStore.rotate: an end for reuse is owed.
local instead = catch_up()
if instead then
  return instead
end
local debt = owed_for(asked.field)
if debt then
  return { 'owed', { debt } }
end
--#include rotate
