-- Note that a slot comes into use: KEYS[1] the state of the feed, KEYS[2] slots; ARGV: the slot, and '1' once its state was made.
-- Returns what was noted before, and the role of the store.
local name = 'u' .. ARGV[1]
local before = redis.call('HGET', KEYS[2], name) or ''
if before ~= '1' then
  redis.call('HSET', KEYS[2], name, ARGV[2])
end
return { before, redis.call('HGET', KEYS[1], 'role') or '' }
