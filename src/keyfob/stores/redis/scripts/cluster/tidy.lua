-- Drop cut-offs of a slot that are still as they were read: KEYS[1] the state of the slot; ARGV: each with its value.
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 1
