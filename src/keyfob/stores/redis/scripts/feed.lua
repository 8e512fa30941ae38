-- The one place in which an entry is appended. An entry has its fields as texts in the order of the chain; empty: none.
local MARGIN = 300000000 -- microseconds: RETENTION_MARGIN

local function link(chain, entry)
  local parts = { chain }
  for _, field in ipairs({
    text(entry.position), text(entry.at), entry.scope, entry.id, entry.reach, entry.spared, entry.until_at,
  }) do
    parts[#parts + 1] = struct.pack('>I4', #field) .. field
  end
  return sha256(table.concat(parts))
end

local function leaves_cut_off(order)
  return order.reach == 'end' and (order.scope == 'subject' or order.scope == 'client' or order.scope == 'everything')
end

-- In a cluster: note for the slots of *entry*, whose rows it is about ('*': of all), how far they must be. The last key is for that.
local function note_slots(feed, entry, number)
  local SLOTS = KEYS[#KEYS]
  for slot in string.gmatch(entry.slots, '%S+') do
    redis.call('HSET', SLOTS, 'l' .. slot, number)
  end
  if entry.slots == '*' then
    local ends = entry.at + feed.session + MARGIN
    local name = 'c' .. entry.scope .. ' ' .. entry.id
    if entry.spared ~= '' then
      name = name .. '\0' .. entry.spared
    end
    redis.call('HSET', SLOTS, name, struct.pack('>i8i8i8', entry.position, entry.at, ends))
  elseif entry.scope == 'session' and entry.reach == 'end' then
    local ended = struct.pack('>i8i8i8', entry.position, entry.at, tonumber(entry.until_at)) .. (entry.owed or '')
    redis.call('HSET', CUT_OFFS, 'session ' .. entry.id, ended)
  end
end

-- Put *entry*, which continues *feed*, and the cut-off that it leaves.
local function put_entry(feed, entry)
  local number = text(entry.position)
  redis.call(
    'XADD', ENTRIES, number .. '-0', 'a', text(entry.at), 's', entry.scope, 'i', entry.id, 'r', entry.reach,
    'x', entry.spared, 'u', entry.until_at, 'c', entry.chain, unpack(entry.slots and { 'w', entry.slots } or {})
  )
  if entry.slots then
    note_slots(feed, entry, number)
  end
  note('entries', number_key(entry.position))
  if entry.until_at ~= '' then
    redis.call('ZADD', UNTIL, entry.until_at, number)
  end
  feed.position, feed.chain, feed.at = entry.position, entry.chain, math.max(feed.at, entry.at)
  if leaves_cut_off(entry) then
    local place, ends = entry.scope .. ' ' .. entry.id, entry.at + feed.session + MARGIN
    redis.call('HSET', CUT_OFFS, place, struct.pack('>i8i8i8', entry.position, entry.at, ends))
    redis.call('ZADD', DROPS, text(ends), place)
    note('cut_offs', place)
  end
end

-- Append the entry of *order*; *longest* is the longest lifetime of what it can cover.
local function append(feed, order, now, longest)
  local at = math.max(now, feed.at)
  local entry = {
    position = feed.position + 1, at = at, scope = order.scope, id = order.id, reach = order.reach, spared = order.spared,
    until_at = order.scope == 'key' and '' or text(at + longest + MARGIN),
    slots = order.slots, owed = order.owed,
  }
  entry.chain = link(feed.chain, entry)
  put_entry(feed, entry)
  return entry
end

local function shown(feed, entry)
  return {
    entry.position, text(entry.at), entry.scope, entry.id, entry.reach, entry.spared, entry.until_at, entry.chain,
    feed.timeline,
  }
end
