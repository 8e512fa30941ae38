--#include state rows ending cluster/slot
-- SessionStore.delete_expired, of one hash
local instead = catch_up()
if instead then
  return instead
end
--#include sweep
