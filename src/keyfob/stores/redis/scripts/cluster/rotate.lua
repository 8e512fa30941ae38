--#include sha256 steps feed rows ending
-- SessionStore.rotate: an end for reuse is owed. The last argument is what every step on a slot is told.
local asked = cmsgpack.unpack(ARGV[8])
--#include cluster/slot
local instead = catch_up()
if instead then
  return instead
end
local debt = owed_for(ARGV[1])
if debt then
  return { 'owed', { debt } }
end
--#include rotate
