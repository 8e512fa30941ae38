-- What every step on a slot of a cluster begins with, and its argument *asked*. META is the state of the slot: up to which position the feed was applied to its rows,
-- the cut-offs that it has, and what it owes. What a verb would append is owed: the feed is elsewhere, and has it before any row changes.
local OWED, LATER = 'owed ', 300000000
local brought, mark, owing = {}, 0, nil

local function unhex(digits)
  return (string.gsub(digits, '..', function(two) return string.char(tonumber(two, 16)) end))
end

-- Let *entry* take effect on the rows of this slot; return how many it ended.
local function take_effect_here(entry)
  local key, spared_key = KEYS[entry.place], KEYS[entry.spared_place]
  local ending, kept = {}, {}
  for _, row in ipairs(key and all_rows(key) or {}) do
    local is_spared = entry.spared ~= '' and is_of(row, entry.spared_field)
    if
      in_scope(entry, row) and not is_spared and row.session.as_of < entry.position
      and is_live(key, row.session, entry.at)
    then
      ending[#ending + 1] = row
    end
  end
  for _, row in ipairs(spared_key and all_rows(spared_key) or {}) do
    if is_of(row, entry.spared_field) and is_live(spared_key, row.session, entry.at) then
      kept[#kept + 1] = row
    end
  end
  if entry.scope ~= 'session' then
    local place = entry.scope .. ' ' .. entry.id
    local ends = entry.at + asked.pending.longest + LATER
    redis.call('HSET', META, place, struct.pack('>i8i8i8', entry.position, entry.at, ends))
  end
  for _, row in ipairs(kept) do
    row.session.as_of = math.max(row.session.as_of, entry.position)
  end
  take_effect({ key = key, spared_key = spared_key }, entry, ending, {})
  for _, row in ipairs(kept) do
    put_row(spared_key, row.field, packed(row.session))
  end
  return #ending
end

-- Apply the entries that the caller knows to be missing, and see that none is that this step must have. Else: what to answer instead.
local function catch_up()
  local raw = redis.call('HMGET', META, 'timeline', 'position', 'role')
  if not raw[1] then
    return { 'behind', '-1' }
  end
  if raw[3] == 'fenced' then
    error('KEYFOB-MOVING')
  end
  is_noted, mark = raw[3] == 'source', tonumber(raw[2])
  local pending, timeline = asked.pending, raw[1]
  if pending and pending.since <= mark and mark < pending.through then
    for _, entry in ipairs(pending.entries) do
      if entry.position > mark then
        brought[#brought + 1] = { entry.position, take_effect_here(entry) }
      end
    end
    mark, timeline = pending.through, asked.timeline
    redis.call('HSET', META, 'timeline', timeline, 'position', text(mark))
  end
  if mark < asked.need then
    return { 'behind', text(mark) }
  end
  if timeline ~= asked.timeline then
    return { 'elsewhere', timeline, text(mark) }
  end
end

-- What is owed for the session of *field*, if anything.
local function owed_for(field)
  return redis.call('HGET', META, OWED .. field)
end

-- The same for any row of *key*: each with its field.
local function all_owed(key)
  local found = {}
  for _, row in ipairs(all_rows(key)) do
    local what = owed_for(row.field)
    if what then
      found[#found + 1] = what
    end
  end
  return found
end

local function owe(what, field)
  local s = find_row(KEYS[8], field)
  what.id = asked.owed .. hex(field)
  what.subject, what.client, what.as_of, what.at = s.subject, s.client, s.as_of, asked.now
  what.parent = s.is_child and hex(s.parent) or ''
  local kept = cmsgpack.pack(what)
  redis.call('HSET', META, OWED .. field, kept)
  return kept
end

-- From here on in the place of what appends: verbs are the same as beside a feed.
local function read_feed()
  return { position = math.max(mark, asked.head), session = 0 }
end

local function read_position()
  return text(math.max(mark, asked.head))
end

local function save_feed()
end

local function carry_out(feed, order)
  owing = { kind = 'end', session = order.id, field = order.field }
end

local function write_event(feed, event)
  if owing then
    owing.event = { text(event[1]), event[2], event[3], event[4] }
  end
end

local function shown()
  local what = owing
  owing = nil
  local field = what.field
  what.field = nil
  return owe(what, field)
end
