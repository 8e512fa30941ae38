--#include sha256 state feed rows ending
-- A step on small tables: if everything is as the caller has read it, all is written, and what it revokes is carried out.
local feed = read_feed()
for _, check in ipairs(asked.checks) do
  if redis.call('HGET', KEYS[check[1]], check[2]) ~= check[3] then
    return { 'changed' }
  end
end
for _, size in ipairs(asked.sizes) do
  if redis.call('HLEN', KEYS[size[1]]) ~= size[2] then
    return { 'changed' }
  end
end

local function has_session(order)
  for _, row in ipairs(all_rows(order.key)) do
    if row.session.subject == order.id and row.session.ended_at < 0 then
      return true
    end
  end
  return false
end

local order = asked.order and order_of(asked.order)
local entry
if order and not (asked.only_if_session and not has_session(order)) then
  entry = carry_out(feed, order, asked.now)
end
if asked.canary then
  entry = append(feed, asked.canary, asked.now, 0)
  redis.call('HSET', KEYS[8], asked.canary.number, struct.pack('>i8i8', entry.position, asked.now))
  note('canaries', number_key(tonumber(asked.canary.number)))
end
for _, write in ipairs(asked.writes) do
  if write[3] then
    redis.call('HSET', KEYS[write[1]], write[2], write[3])
  else
    redis.call('HDEL', KEYS[write[1]], write[2])
  end
  if write[4] ~= '' then
    note(write[4], write[5])
  end
end
for _, name in ipairs(asked.names) do
  if name[3] then
    redis.call('ZADD', KEYS[name[1]], 0, name[2])
  else
    redis.call('ZREM', KEYS[name[1]], name[2])
  end
end
for _, forget in ipairs(asked.forget or {}) do
  local prefix = forget[3]
  for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[forget[2]], '[' .. prefix, '(' .. prefix .. '\255')) do
    redis.call('HDEL', KEYS[forget[1]], name)
    redis.call('ZREM', KEYS[forget[2]], name)
    note(forget[4], name)
  end
end
if asked.event then
  write_event(feed, asked.event)
end
save_feed(feed)
return entry and { 'done', shown(feed, entry) } or { 'done' }
