-- SessionStore.delete_expired, of one hash: KEYS[1] rows, KEYS[2] their data; ARGV: the moment, and at most how many.
local flat, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #flat, 2 do
  local expires = struct.unpack('>i8', flat[i + 1], 31)
  if expires <= tonumber(ARGV[1]) and gone < tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], flat[i])
    redis.call('HDEL', KEYS[2], flat[i])
    gone = gone + 1
  end
end
return gone
