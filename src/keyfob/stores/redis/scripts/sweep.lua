--#include state
-- SessionStore.delete_expired, of one hash: KEYS[8] rows, KEYS[9] their data.
read_feed()
local flat, gone = redis.call('HGETALL', KEYS[8]), 0
for i = 1, #flat, 2 do
  local expires = struct.unpack('>i8', flat[i + 1], 31)
  if expires <= asked.now and gone < asked.limit then
    redis.call('HDEL', KEYS[8], flat[i])
    redis.call('HDEL', KEYS[9], flat[i])
    note('sessions', hex(flat[i]))
    gone = gone + 1
  end
end
return gone
