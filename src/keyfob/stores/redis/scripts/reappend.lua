--#include sha256 state feed rows ending
-- FeedStore.reappend: *asked.entries* continue *asked.instead_of*, as the caller has checked.
local feed = read_feed()
local head = asked.instead_of
if feed.timeline ~= head[1] or feed.position ~= head[2] or feed.chain ~= head[3] then
  return 0
end
for _, entry in ipairs(asked.entries) do
  local order = order_of(entry)
  local ending, kept = touched(order, asked.now)
  put_entry(feed, entry)
  take_effect(order, entry, ending, kept)
end
write_event(feed, asked.event)
save_feed(feed)
return 1
