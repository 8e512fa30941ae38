--#include state
-- Note that all entries up to *asked.through* were applied to the rows that they are about. It only ever rises.
read_feed()
if asked.through > tonumber(redis.call('HGET', META, 'applied') or '0') then
  redis.call('HSET', META, 'applied', text(asked.through))
end
return 1
