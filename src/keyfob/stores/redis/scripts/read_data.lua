--#include state rows
-- SessionStore.read_data
if redis.call('EXISTS', META) == 0 then
  error('KEYFOB-EMPTY')
end
local s = find_row(KEYS[8], asked.field)
if not s or not is_live(KEYS[8], s, asked.now) then
  return { 'none' }
end
return { 'data', redis.call('HGET', KEYS[9], asked.field) or '' }
