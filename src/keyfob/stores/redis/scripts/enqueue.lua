--#include state
-- OutboxStore.enqueue: KEYS[8] deliveries, KEYS[9] when each is due, KEYS[10] when each is over, KEYS[11] cursors.
read_feed()
if redis.call('HGET', KEYS[11], asked.consumer) ~= asked.before then
  return 0
end
redis.call('HSET', KEYS[11], asked.consumer, asked.after)
note('cursors', asked.consumer)
for _, delivery in ipairs(asked.deliveries) do
  local id, packed, due, ends = unpack(delivery)
  if redis.call('HSETNX', KEYS[8], id, '0:' .. packed) == 1 then
    redis.call('ZADD', KEYS[9], text(due), id)
    redis.call('ZADD', KEYS[10], text(ends), id)
    note('deliveries', id)
  end
end
return 1
