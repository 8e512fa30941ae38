-- Movable.set_mark: KEYS[1] the state of an open store, KEYS[2] of a closed one, KEYS[3] changes; ARGV: the mark before, the one after it
-- (empty: none), and its role.
local present = redis.call('EXISTS', KEYS[1]) == 1 and KEYS[1] or KEYS[2]
if (redis.call('HGET', present, 'move') or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', present, 'move', 'role')
  redis.call('DEL', KEYS[3])
else
  redis.call('HSET', present, 'move', ARGV[2], 'role', ARGV[3])
end
local wanted = (ARGV[3] == 'moved' or ARGV[3] == 'target') and KEYS[2] or KEYS[1]
if wanted ~= present then
  redis.call('RENAME', present, wanted)
end
return 1
