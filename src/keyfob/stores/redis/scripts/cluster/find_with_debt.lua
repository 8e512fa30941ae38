-- As find.lua, with what is owed for the session ('': nothing) before its row.
local function found()
--#include find
end
local reply = found()
if reply[3] then
  table.insert(reply, 3, redis.call('HGET', KEYS[1], 'owed ' .. ARGV[1]) or '')
end
return reply
