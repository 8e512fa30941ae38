--#include state rows ending cluster/slot
-- SessionStore.read_data
local instead = catch_up()
if instead then
  return instead
end
--#include read_data
