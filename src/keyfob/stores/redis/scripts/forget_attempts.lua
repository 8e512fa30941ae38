-- ThrottleStore.forget: KEYS[1] counts, KEYS[2] when each was last raised.
for _, key in ipairs(ARGV) do
  redis.call('HDEL', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
end
return 0
