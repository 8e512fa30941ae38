--#include sha256 state feed
-- Append one entry, whose rows are elsewhere, unless it is needless:
-- an end of this session stands already, or its subject, its client or everybody was cut off since *asked.standing*, which was read of its
-- row. A session that has no row (*asked.has_no_row*) gets its entry in any case.
local feed, order = read_feed(), asked.order
local row = asked.standing

local function entry_at(position)
  local item = redis.call('XRANGE', ENTRIES, text(position) .. '-0', text(position) .. '-0')[1]
  if not item then
    return {}
  end
  local f = item[2]
  return { position, f[2], f[4], f[6], f[8], f[10], f[12], f[14], feed.timeline }
end

-- The position of what covers the row that is asked about.
local function covered()
  local names = { 'subject ' .. row.subject, 'client ' .. row.client, 'everything ' }
  local first
  for _, cut_off in ipairs(redis.call('HMGET', CUT_OFFS, unpack(names))) do
    local position = cut_off and struct.unpack('>i8', cut_off)
    if position and position > row.as_of and (not first or position < first) then
      first = position
    end
  end
  for _, id in ipairs({ order.id, row.parent }) do
    local ended = redis.call('HGET', CUT_OFFS, 'session ' .. id)
    local position = ended and struct.unpack('>i8', ended)
    if position and (not first or position < first) then
      first = position
    end
  end
  return first
end

local is_end = order.scope == 'session' and order.reach == 'end'
local name = (is_end and 'session ' or 'renewed ') .. order.id
if order.scope == 'session' and (is_end or asked.owed ~= '') then
  local known = redis.call('HGET', CUT_OFFS, name)
  if known then
    local position, is_own = struct.unpack('>i8', known), asked.owed ~= '' and string.sub(known, 25) == asked.owed
    if is_own then
      return { 'known', entry_at(position) }
    end
    if is_end and not asked.has_no_row then
      return { 'covered', position }
    end
  end
end
local position = row and covered()
if position then
  return { 'covered', position }
end
order.owed = asked.owed
local entry = append(feed, order, asked.now, feed.credential)
if order.scope == 'session' and not is_end and asked.owed ~= '' then
  redis.call('HSET', CUT_OFFS, name, struct.pack('>i8i8i8', entry.position, entry.at, tonumber(entry.until_at)) .. asked.owed)
end
write_event(feed, asked.event)
save_feed(feed)
return { 'appended', shown(feed, entry) }
