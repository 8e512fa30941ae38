--#include state
-- AuditStore.delete_expired, of the earliest *asked.limit*.
read_feed()
local gone = 0
for _, item in ipairs(redis.call('XRANGE', EVENTS, '-', '+', 'COUNT', asked.limit)) do
  if tonumber(item[2][2]) < asked.before then
    redis.call('XDEL', EVENTS, item[1])
    note('events', number_key(tonumber(string.sub(item[1], 1, -3))))
    gone = gone + 1
  end
end
return gone
