-- What has become of the feed: KEYS[1] its state, KEYS[2] entries; ARGV: the last known position, and how many entries to give.
local head = redis.call('HMGET', KEYS[1], 'timeline', 'position', 'chain', 'session', 'applied')
if not head[1] then
  return { head }
end
return { head, redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2]) }
