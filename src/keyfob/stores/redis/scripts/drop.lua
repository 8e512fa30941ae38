--#include state
-- FeedStore.delete_expired: entries first, then cut-offs. KEYS[8]: how far consumers have read; what they have not read stays until it is
-- over at *asked.unread* too.
local feed = read_feed()
local now, left = text(asked.now), asked.limit
local read = feed.position
for _, raw in ipairs(redis.call('HVALS', KEYS[8])) do
  local row = cmsgpack.unpack(raw)
  if row.cursor.timeline == feed.timeline then
    read = math.min(read, row.cursor.position)
  end
end

local function drop(number)
  redis.call('XDEL', ENTRIES, number .. '-0')
  redis.call('ZREM', UNTIL, number)
  note('entries', number_key(tonumber(number)))
  left = left - 1
end

for _, number in ipairs(redis.call('ZRANGEBYSCORE', UNTIL, '-inf', text(asked.unread), 'LIMIT', 0, left)) do
  drop(number)
end
local first, page = 0, asked.limit
while left > 0 do
  local over, kept = redis.call('ZRANGEBYSCORE', UNTIL, '-inf', now, 'LIMIT', first, page), 0
  for _, number in ipairs(over) do
    if left > 0 and tonumber(number) <= read then
      drop(number)
    else
      kept = kept + 1
    end
  end
  if #over < page then
    break
  end
  first = first + kept
end
for _, place in ipairs(redis.call('ZRANGEBYSCORE', DROPS, '-inf', now, 'LIMIT', 0, left)) do
  redis.call('HDEL', CUT_OFFS, place)
  redis.call('ZREM', DROPS, place)
  note('cut_offs', place)
  left = left - 1
end
return asked.limit - left
