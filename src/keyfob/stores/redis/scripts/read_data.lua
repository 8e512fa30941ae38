--#include state rows
-- SessionStore.read_data
read_feed()
local s = find_row(KEYS[7], asked.field)
if not s or not is_live(KEYS[7], s, asked.now) then
  return { 'none' }
end
return { 'data', redis.call('HGET', KEYS[8], asked.field) or '' }
