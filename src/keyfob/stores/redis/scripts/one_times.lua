--#include state
-- A step on one-time records: if everything is as the caller has read it, all is written. KEYS[8] records, KEYS[9] whose each alias is,
-- KEYS[10] until when each record is kept.
read_feed()
for _, write in ipairs(asked.records) do
  if redis.call('HGET', KEYS[8], write[1]) ~= write[2] then
    return 0
  end
end
for _, write in ipairs(asked.aliases) do
  if redis.call('HGET', KEYS[9], write[1]) ~= write[2] then
    return 0
  end
end
for _, write in ipairs(asked.records) do
  if write[3] then
    redis.call('HSET', KEYS[8], write[1], write[3])
    redis.call('ZADD', KEYS[10], text(write[4]), write[1])
  else
    redis.call('HDEL', KEYS[8], write[1])
    redis.call('ZREM', KEYS[10], write[1])
  end
  note('one_times', write[1])
end
for _, write in ipairs(asked.aliases) do
  if write[3] then
    redis.call('HSET', KEYS[9], write[1], write[3])
  else
    redis.call('HDEL', KEYS[9], write[1])
  end
end
return 1
