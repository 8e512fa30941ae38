--#include sha256 steps feed rows ending
-- SessionStore.rotate; the rules are those of keyfob/stores/rotation.py, in its order. ARGV: the field, the presented digest, its successor,
-- its generation, the moment, the window, and what only a reuse needs.
local REFRESH, HAS_DIGEST, REPLAYED, CLOSED, ONE, LIMIT = 2, 1, 1, 2, 4, 3
local key, field, presented, successor = KEYS[8], ARGV[1], ARGV[2], ARGV[3]
local generation, now = tonumber(ARGV[4]), tonumber(ARGV[5])
local position, s = read_position(), find_row(key, field)
if not s or s.kind ~= REFRESH or bit.band(s.flags, HAS_DIGEST) == 0 or not is_live(key, s, now) then
  return { 'unknown' }
end
local since = s.rotated >= 0 and math.max(now - s.rotated, 0) or 0
local window = bit.band(s.replays, CLOSED) ~= 0 and 0 or tonumber(ARGV[6])
local is_young = s.rotated >= 0 and since < window

local function verdict()
  if generation == s.generation and presented == s.digest then
    return is_young and 'current' or 'rotated'
  end
  if generation < s.chain_generation or generation >= s.generation then
    return 'unknown'
  end
  if generation < s.generation - 1 then
    return 'reused'
  end
  if successor ~= s.digest then
    return 'unknown'
  end
  return is_young and 'replayed' or 'reused'
end

local function reuse()
  local feed, asked = read_feed(), cmsgpack.unpack(ARGV[7])
  local order = { scope = 'session', id = asked.id, field = field, reach = 'end', spared = '', key = key }
  local entry = carry_out(feed, order, now)
  write_event(feed, asked.event)
  save_feed(feed)
  return { 'reused', feed.position, find_raw(key, field), since, shown(feed, entry) }
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
  s.digest, s.generation, s.rotated = successor, s.generation + 1, now
  -- A rotation that nobody replayed breaks the row of replayed ones.
  s.replays = was_replayed and s.replays - REPLAYED or bit.band(s.replays, CLOSED)
elseif outcome == 'replayed' and not was_replayed then
  s.replays = s.replays + REPLAYED + ONE
  if bit.rshift(s.replays, 2) >= LIMIT and bit.band(s.replays, CLOSED) == 0 then
    s.replays, closed = s.replays + CLOSED, 1
  end
end
local row = packed(s)
put_fixed(key, field, row)
return { outcome, position, row, closed }
