-- Make what every store begins with, unless it is there; return what there is, and the mark of a store that is closed.
local closed = redis.call('HMGET', KEYS[2], 'schema', 'salt', 'move')
if closed[1] then
  return closed
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call(
    'HSET', KEYS[1], 'schema', ARGV[1], 'salt', ARGV[2], 'timeline', ARGV[3], 'position', 0, 'chain', string.rep('\0', 32),
    'at', 0, 'credential', 0, 'session', 0, 'events', 0
  )
end
local open = redis.call('HMGET', KEYS[1], 'schema', 'salt')
return { open[1], open[2], '' }
