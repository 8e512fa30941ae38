--#include steps
-- The argument of most steps.
local asked = cmsgpack.unpack(ARGV[1])
