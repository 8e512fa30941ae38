-- The cut-offs of a slot that are over, each with its value: KEYS[1] the state of the slot; ARGV: now.
local flat, over = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #flat, 2 do
  if string.find(flat[i], '^subject ') or string.find(flat[i], '^client ') or flat[i] == 'everything ' then
    local _, _, ends = struct.unpack('>i8i8i8', flat[i + 1])
    if ends <= tonumber(ARGV[1]) then
      over[#over + 1], over[#over + 2] = flat[i], flat[i + 1]
    end
  end
end
return over
