--#include state deliveries
-- OutboxStore.lease: KEYS[8] deliveries, KEYS[9] when each is due, KEYS[10] when each is over.
local PAGE = 100
read_feed()
local leased, first = {}, 0
while #leased < asked.limit do
  -- What is leased leaves the range behind the loop only, so that pages do not shift.
  local due = redis.call('ZRANGEBYSCORE', KEYS[9], '-inf', text(asked.now), 'LIMIT', first, PAGE)
  for _, id in ipairs(due) do
    local ends = tonumber(redis.call('ZSCORE', KEYS[10], id) or '0')
    if #leased < asked.limit and ends > asked.now then
      leased[#leased + 1] = id
    end
  end
  if #due < PAGE then
    break
  end
  first = first + PAGE
end
local found = {}
for place, id in ipairs(leased) do
  local count, packed = leases_of(redis.call('HGET', KEYS[8], id))
  redis.call('HSET', KEYS[8], id, text(count + 1) .. ':' .. packed)
  redis.call('ZADD', KEYS[9], text(asked.until_at), id)
  note('deliveries', id)
  found[place] = { packed, count + 1 }
end
return found
