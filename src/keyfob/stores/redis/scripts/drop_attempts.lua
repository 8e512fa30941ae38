-- ThrottleStore.delete_expired: KEYS[1] counts, KEYS[2] when each was last raised, KEYS[3] what is familiar.
local left = tonumber(ARGV[3])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, left)) do
  redis.call('HDEL', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
  left = left - 1
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2], 'LIMIT', 0, left)) do
  redis.call('ZREM', KEYS[3], key)
  left = left - 1
end
return tonumber(ARGV[3]) - left
