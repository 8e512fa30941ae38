--#include state
-- ThrottleStore.forget: KEYS[8] counts, KEYS[9] when each was last raised.
read_feed()
for _, key in ipairs(asked.keys) do
  redis.call('HDEL', KEYS[8], key)
  redis.call('ZREM', KEYS[9], key)
  note('attempts', key)
end
return 0
