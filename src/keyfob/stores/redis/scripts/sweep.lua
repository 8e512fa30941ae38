--#include state rows
-- SessionStore.delete_expired, of one hash: KEYS[8] rows, KEYS[9] their data.
read_feed()
local flat, gone = redis.call('HGETALL', KEYS[8]), 0
for i = 1, #flat, 2 do
  if #flat[i] == ID and gone < asked.limit and struct.unpack('>i8', flat[i + 1], 31) <= asked.now then
    drop_row(KEYS[8], KEYS[9], flat[i])
    gone = gone + 1
  end
end
return gone
