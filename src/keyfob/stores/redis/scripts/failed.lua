--#include state deliveries
-- OutboxStore.failed: KEYS[8] deliveries, KEYS[9] when each is due.
read_feed()
local kept = redis.call('HGET', KEYS[8], asked.id)
if not kept or leases_of(kept) ~= asked.attempts then
  return 0
end
redis.call('ZADD', KEYS[9], text(asked.due), asked.id)
note('deliveries', asked.id)
return 1
