--#include state
-- ThrottleStore.attempt: KEYS[8] counts, KEYS[9] when each was last raised. The rules are those of keyfob/accounts/rules.py.
local FREE, FIRST, LONGEST, MEMORY = 5, 1000000, 300000000, 86400000000
read_feed()
local now, counts, wait = asked.now, {}, 0
for _, key in ipairs(asked.keys) do
  if counts[key] == nil then
    local last = tonumber(redis.call('ZSCORE', KEYS[9], key) )
    local count = last and tonumber(redis.call('HGET', KEYS[8], key)) or 0
    if last and last > now then
      last = now -- a clock was set back
      redis.call('ZADD', KEYS[9], text(now), key)
      note('attempts', key)
    end
    if last and now - last >= MEMORY then
      count = 0
    end
    counts[key] = count
    if count >= FREE then
      wait = math.max(wait, last + math.min(FIRST * 2 ^ math.min(count - FREE, 16), LONGEST) - now)
    end
  end
end
if wait > 0 then
  return string.format('%.0f', wait)
end
for key, count in pairs(counts) do
  redis.call('HSET', KEYS[8], key, count + 1)
  redis.call('ZADD', KEYS[9], text(now), key)
  note('attempts', key)
end
return '0'
