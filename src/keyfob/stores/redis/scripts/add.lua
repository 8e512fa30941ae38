--#include sha256 state feed rows ending
-- SessionStore.add
local LATE = 86400000000 -- microseconds: how long after its end a row that nobody has deleted is deleted by the way
local API_KEY = 3
local SLACK = 3600000 -- milliseconds: by which the server keeps a key longer than its last row can live
local feed, s, now = read_feed(), read_row(asked.row), asked.now
local key, data_key, field = KEYS[8], KEYS[9], asked.field

local function made_room_for(old)
  local entry = carry_out(feed, {
    scope = 'session', id = old.id, field = old.field, reach = 'end', spared = '', key = key,
  }, now)
  local event = {
    code = 'revoked', actor = asked.actor, subject = old.session.subject, session_id = old.id,
    client_id = old.session.client, reason = 'session_limit',
  }
  if asked.address ~= '' then
    event.address = asked.address
  end
  write_event(feed, { asked.event[1], 'revoked', old.session.subject, cjson.encode(event) })
  return shown(feed, entry)
end

if s.as_of > feed.position then
  return { 'past', feed.position }
end
if redis.call('HEXISTS', key, field) == 1 then
  return { 'taken' }
end
if not asked.belongs then
  return { 'elsewhere' }
end
if cut_off_of(s) then
  return { 'cut off' }
end
if s.is_child then
  local parent = find_row(key, s.parent)
  if not parent or not is_live(key, parent, now) then
    return { 'cut off' }
  end
  if parent.is_child then
    return { 'grandchild' }
  end
  if parent.subject ~= s.subject then
    return { 'cut off' }
  end
end

-- Logins count beside logins, API keys beside API keys.
local function counts_with(other)
  if s.is_child or other.is_child or other.subject ~= s.subject then
    return false
  end
  return (other.kind == API_KEY) == (s.kind == API_KEY)
end

local oldest, live = {}, {}
for _, row in ipairs(all_rows(key)) do
  local other = row.session
  if now - other.expires >= LATE then
    drop_row(key, data_key, row.field)
  elseif counts_with(other) and is_live(key, other, now) then
    live[#live + 1] = row
  end
end
local too_many = not s.is_child and #live + 1 - asked.limit or 0
if too_many > 0 then
  if asked.denies then
    return { 'limit' }
  end
  table.sort(live, function(one, other)
    if one.session.created ~= other.session.created then
      return one.session.created < other.session.created
    end
    return one.field < other.field
  end)
  for i = 1, math.min(too_many, #live) do
    live[i].id = hex(live[i].field)
    oldest[i] = live[i]
  end
end

feed.session = math.max(feed.session, s.expires - s.created)
local ended = {}
for i, old in ipairs(oldest) do
  ended[i] = made_room_for(old)
end
put_row(key, field, asked.row)
-- By the server's own clock, from now on: nobody else's can end a session early.
local lifetime = math.ceil((s.expires - s.created) / 1000) + SLACK
if redis.call('PTTL', key) < lifetime then
  redis.call('PEXPIRE', key, text(lifetime))
end
write_event(feed, asked.event)
save_feed(feed)
return { 'added', ended }
