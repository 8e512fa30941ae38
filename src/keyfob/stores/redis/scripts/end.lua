--#include sha256 state feed rows ending
-- SessionStore.end
local feed, order = read_feed(), order_of(asked.order)
if order.scope == 'session' then
  local s = find_row(order.key, order.field)
  local since, by
  if s then
    since, by = over(order.key, s, asked.now)
  end
  if since then
    return { 'over', by }
  end
end
local entry, count = carry_out(feed, order, asked.now)
write_event(feed, asked.event)
save_feed(feed)
return { 'ended', count, shown(feed, entry) }
