--#include state
-- OutboxStore.delivered (*asked.id*) and delete_expired (up to *asked.limit* that are over at *asked.now*): KEYS[8] deliveries, KEYS[9] when
-- each is due, KEYS[10] when each is over.
read_feed()
local ids = asked.id and { asked.id }
  or redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', text(asked.now), 'LIMIT', 0, asked.limit)
local gone = 0
for _, id in ipairs(ids) do
  gone = gone + redis.call('HDEL', KEYS[8], id)
  redis.call('ZREM', KEYS[9], id)
  redis.call('ZREM', KEYS[10], id)
  note('deliveries', id)
end
return gone
