--#include sha256 state feed rows ending
-- SessionStore.rotate; the rules are those of keyfob/stores/rotation.py, in its order.
local REFRESH, HAS_DIGEST, REPLAYED, CLOSED, ONE, LIMIT = 2, 1, 1, 2, 4, 3
local feed, now, key = read_feed(), asked.now, KEYS[8]
local s = find_row(key, asked.field)
if not s or s.kind ~= REFRESH or bit.band(s.flags, HAS_DIGEST) == 0 or not is_live(key, s, now) then
  return { 'unknown' }
end
local since = s.rotated >= 0 and math.max(now - s.rotated, 0) or 0
local window = bit.band(s.replays, CLOSED) ~= 0 and 0 or asked.window
local is_young = s.rotated >= 0 and since < window

local function verdict()
  if asked.generation == s.generation and asked.presented == s.digest then
    return is_young and 'current' or 'rotated'
  end
  if asked.generation < s.chain_generation or asked.generation >= s.generation then
    return 'unknown'
  end
  if asked.generation < s.generation - 1 then
    return 'reused'
  end
  if asked.successor ~= s.digest then
    return 'unknown'
  end
  return is_young and 'replayed' or 'reused'
end

local function reuse()
  local order = { scope = 'session', id = asked.id, field = asked.field, reach = 'end', spared = '', key = key }
  local entry = carry_out(feed, order, now)
  write_event(feed, asked.event)
  save_feed(feed)
  return { 'reused', feed.position, redis.call('HGET', key, asked.field), since, shown(feed, entry) }
end

local outcome, closed = verdict(), 0
if outcome == 'unknown' then
  return { 'unknown' }
end
if outcome == 'reused' then
  return reuse()
end
s.seen = math.max(s.seen, now)
local was_replayed = bit.band(s.replays, REPLAYED) ~= 0
if outcome == 'rotated' then
  s.digest, s.generation, s.rotated = asked.successor, s.generation + 1, now
  -- A rotation that nobody replayed breaks the row of replayed ones.
  s.replays = was_replayed and s.replays - REPLAYED or bit.band(s.replays, CLOSED)
elseif outcome == 'replayed' and not was_replayed then
  s.replays = s.replays + REPLAYED + ONE
  if bit.rshift(s.replays, 2) >= LIMIT and bit.band(s.replays, CLOSED) == 0 then
    s.replays, closed = s.replays + CLOSED, 1
  end
end
local row = packed(s)
redis.call('HSET', key, asked.field, row)
note('sessions', hex(asked.field))
return { outcome, feed.position, row, closed }
