-- Make the state of a slot, unless it is there: nothing was applied yet. ARGV: timeline, role (empty: none).
if redis.call('HEXISTS', KEYS[1], 'timeline') == 0 then
  redis.call('HSET', KEYS[1], 'timeline', ARGV[1], 'position', 0)
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], 'role', ARGV[2])
  end
end
return 1
