-- Drop the cut-offs of a slot that nothing can need any more. KEYS[1] its state; ARGV: now.
local flat, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #flat, 2 do
  if string.find(flat[i], '^subject ') or string.find(flat[i], '^client ') or flat[i] == 'everything ' then
    local _, _, ends = struct.unpack('>i8i8i8', flat[i + 1])
    if ends <= tonumber(ARGV[1]) then
      gone = gone + redis.call('HDEL', KEYS[1], flat[i])
    end
  end
end
return gone
