--#include sha256 state feed rows ending cluster/slot
-- SessionStore.add: what makes room is owed, and the event is told by whoever asked.
local instead = catch_up()
if instead then
  return instead
end
local debts = all_owed(KEYS[8])
if #debts > 0 then
  return { 'owed', debts }
end
--#include add
