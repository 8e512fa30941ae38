--#include state
-- ClientStore.delete_expired: KEYS[8] assertions by their ends.
read_feed()
local over = redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', text(asked.now), 'LIMIT', 0, asked.limit)
for _, digest in ipairs(over) do
  redis.call('ZREM', KEYS[8], digest)
  note('assertions', hex(digest))
end
return #over
