-- What a slot is in a move: KEYS[1] its state, KEYS[2] what has changed in it; ARGV: 'source', 'fenced', or empty: nothing.
if ARGV[1] == '' then
  redis.call('HDEL', KEYS[1], 'role', 'changes')
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[1], 'role', ARGV[1])
end
return 1
