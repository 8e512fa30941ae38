--#include state
-- FeedStore.delete_expired: entries that were applied to their rows, then cut-offs. The last key is for what is known of slots.
read_feed()
local SLOTS, applied = KEYS[#KEYS], tonumber(redis.call('HGET', META, 'applied') or '0')
local now, left = text(asked.now), asked.limit

local function forget(number)
  local item = redis.call('XRANGE', ENTRIES, number .. '-0', number .. '-0')[1]
  local fields = item and item[2] or {}
  if fields[16] then
    for slot in string.gmatch(fields[16], '%d+') do
      if tonumber(redis.call('HGET', SLOTS, 'g' .. slot) or '0') < tonumber(number) then
        redis.call('HSET', SLOTS, 'g' .. slot, number)
      end
    end
  end
  if fields[4] == 'session' then
    for _, name in ipairs({ 'session ' .. fields[6], 'renewed ' .. fields[6] }) do
      local kept = redis.call('HGET', CUT_OFFS, name)
      if kept and struct.unpack('>i8', kept) <= tonumber(number) then
        redis.call('HDEL', CUT_OFFS, name)
      end
    end
  end
  redis.call('XDEL', ENTRIES, number .. '-0')
  redis.call('ZREM', UNTIL, number)
  note('entries', number_key(tonumber(number)))
end

for _, number in ipairs(redis.call('ZRANGEBYSCORE', UNTIL, '-inf', now, 'LIMIT', 0, left)) do
  if tonumber(number) <= applied then
    forget(number)
    left = left - 1
  end
end
for _, place in ipairs(redis.call('ZRANGEBYSCORE', DROPS, '-inf', now, 'LIMIT', 0, left)) do
  redis.call('HDEL', CUT_OFFS, place)
  redis.call('ZREM', DROPS, place)
  redis.call('HDEL', SLOTS, 'c' .. place)
  note('cut_offs', place)
  left = left - 1
end
return asked.limit - left
