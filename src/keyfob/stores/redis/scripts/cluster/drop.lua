--#include state
-- FeedStore.delete_expired: as drop.lua; and an entry stays until it was applied to the rows that it is about. KEYS[8]: how far consumers
-- have read. The last key is for what is known of slots.
local feed = read_feed()
local SLOTS, applied = KEYS[#KEYS], tonumber(redis.call('HGET', META, 'applied') or '0')
local now, left, read = text(asked.now), asked.limit, feed.position
for _, raw in ipairs(redis.call('HVALS', KEYS[8])) do
  local row = cmsgpack.unpack(raw)
  if row.cursor.timeline == feed.timeline then
    read = math.min(read, row.cursor.position)
  end
end

-- Note what slots cannot have from the feed any more, and forget how a session was ended.
local function forget(number, fields)
  for slot in string.gmatch(fields[16] or '', '%d+') do
    if tonumber(redis.call('HGET', SLOTS, 'g' .. slot) or '0') < tonumber(number) then
      redis.call('HSET', SLOTS, 'g' .. slot, number)
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
end

local function drop(number)
  local item = redis.call('XRANGE', ENTRIES, number .. '-0', number .. '-0')[1]
  forget(number, item and item[2] or {})
  redis.call('XDEL', ENTRIES, number .. '-0')
  redis.call('ZREM', UNTIL, number)
  note('entries', number_key(tonumber(number)))
  left = left - 1
end

-- Drop what is over at *moment*, up to the position *last*.
local function drop_over(moment, last)
  local first, page = 0, asked.limit
  while left > 0 do
    local over, kept = redis.call('ZRANGEBYSCORE', UNTIL, '-inf', moment, 'LIMIT', first, page), 0
    for _, number in ipairs(over) do
      if left > 0 and tonumber(number) <= last then
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
end

drop_over(text(asked.unread), applied)
drop_over(now, math.min(applied, read))
-- Forget what cut off everybody's rows, also where it spared somebody: it was kept for as long as the last one of its kind.
local function forget_cut_off(place)
  redis.call('HDEL', SLOTS, 'c' .. place)
  if place == 'everything ' or string.find(place, '^client ') then
    for _, name in ipairs(redis.call('HKEYS', SLOTS)) do
      if string.sub(name, 1, #place + 2) == 'c' .. place .. '\0' then
        redis.call('HDEL', SLOTS, name)
      end
    end
  end
end

for _, place in ipairs(redis.call('ZRANGEBYSCORE', DROPS, '-inf', now, 'LIMIT', 0, left)) do
  redis.call('HDEL', CUT_OFFS, place)
  redis.call('ZREM', DROPS, place)
  forget_cut_off(place)
  note('cut_offs', place)
  left = left - 1
end
return asked.limit - left
