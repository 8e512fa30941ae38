--#include state rows ending cluster/slot
-- SessionStore.touch
local instead = catch_up()
if instead then
  return instead
end
--#include touch
