-- ClientStore.delete_expired: KEYS[1] assertions by their ends; ARGV: the moment, and at most how many.
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, digest in ipairs(over) do
  redis.call('ZREM', KEYS[1], digest)
end
return #over
