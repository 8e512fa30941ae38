--#include state
-- AuditStore.add
local feed = read_feed()
write_event(feed, asked.event)
save_feed(feed)
return 0
