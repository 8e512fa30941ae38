--#include state rows ending cluster/slot
-- SessionStore.write_data
local instead = catch_up()
if instead then
  return instead
end
--#include write_data
