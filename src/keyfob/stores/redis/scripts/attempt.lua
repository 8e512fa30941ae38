-- ThrottleStore.attempt: KEYS[1] counts, KEYS[2] when each was last raised. The rules are those of keyfob/accounts/rules.py.
local FREE, FIRST, LONGEST, MEMORY = 5, 1000000, 300000000, 86400000000
local now, counts, wait = tonumber(ARGV[1]), {}, 0
for i = 2, #ARGV do
  local key = ARGV[i]
  if counts[key] == nil then
    local last = tonumber(redis.call('ZSCORE', KEYS[2], key) or false or nil)
    local count = last and tonumber(redis.call('HGET', KEYS[1], key)) or 0
    if last and last > now then
      last = now -- a clock was set back
      redis.call('ZADD', KEYS[2], ARGV[1], key)
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
  redis.call('HSET', KEYS[1], key, count + 1)
  redis.call('ZADD', KEYS[2], ARGV[1], key)
end
return '0'
