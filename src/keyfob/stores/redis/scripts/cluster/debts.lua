-- What a slot owes: KEYS[1] its state.
local flat, found = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #flat, 2 do
  if string.sub(flat[i], 1, 5) == 'owed ' then
    found[#found + 1] = flat[i + 1]
  end
end
return found
