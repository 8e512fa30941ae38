--#include state rows ending cluster/slot
-- Apply entries to the rows of this slot: how far it is now, and how many sessions each has ended.
local instead = catch_up()
if instead then
  return instead
end
return { 'brought', text(mark), brought }
