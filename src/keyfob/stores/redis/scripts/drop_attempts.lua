--#include state
-- ThrottleStore.delete_expired: KEYS[8] counts, KEYS[9] when each was last raised, KEYS[10] what is familiar.
read_feed()
local left = asked.limit
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[9], '-inf', text(asked.counted), 'LIMIT', 0, left)) do
  redis.call('HDEL', KEYS[8], key)
  redis.call('ZREM', KEYS[9], key)
  note('attempts', key)
  left = left - 1
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', text(asked.familiar), 'LIMIT', 0, left)) do
  redis.call('ZREM', KEYS[10], key)
  note('familiar', key)
  left = left - 1
end
return asked.limit - left
