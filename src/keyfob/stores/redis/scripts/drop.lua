--#include state
-- FeedStore.delete_expired: entries first, then cut-offs.
read_feed()
local now, left = text(asked.now), asked.limit
for _, number in ipairs(redis.call('ZRANGEBYSCORE', UNTIL, '-inf', now, 'LIMIT', 0, left)) do
  redis.call('XDEL', ENTRIES, number .. '-0')
  redis.call('ZREM', UNTIL, number)
  note('entries', number_key(tonumber(number)))
  left = left - 1
end
for _, place in ipairs(redis.call('ZRANGEBYSCORE', DROPS, '-inf', now, 'LIMIT', 0, left)) do
  redis.call('HDEL', CUT_OFFS, place)
  redis.call('ZREM', DROPS, place)
  note('cut_offs', place)
  left = left - 1
end
return asked.limit - left
