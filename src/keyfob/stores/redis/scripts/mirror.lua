--#include sha256 state feed rows ending
-- Mirror.carry_out: orders of another store's feed, and how far they reach. Their events are written there.
local feed = read_feed()
local before = redis.call('HMGET', META, 'mirror-timeline', 'mirror-position')
local expected = asked.instead_of
if (before[1] or '') ~= expected[1] or (before[2] or '0') ~= expected[2] then
  return { 0 }
end
local appended = {}
for _, wanted in ipairs(asked.orders) do
  local order, is_over = order_of(wanted), nil
  if order.scope == 'session' then
    local s = find_row(order.key, order.field)
    is_over = s and over(order.key, s, asked.now)
  end
  if not is_over then
    appended[#appended + 1] = shown(feed, (carry_out(feed, order, asked.now)))
  end
end
save_feed(feed)
local reached = asked.reached
redis.call('HSET', META, 'mirror-timeline', reached[1], 'mirror-position', reached[2], 'mirror-chain', reached[3])
return { 1, appended }
