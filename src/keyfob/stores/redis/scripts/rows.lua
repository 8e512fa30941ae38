-- Rows of sessions: all of those whose ids begin with the same 32 bits are fields of one hash.
local FIXED = '>BBI4I4I4i8i8i8i8i8i8i8i8c32c16'
local HAS_PARENT = 2 -- beside 1: there is a digest

local function read_row(raw)
  local s = {}
  local at, length
  s.kind, s.flags, s.generation, s.chain_generation, s.replays, s.as_of, s.created, s.expires, s.seen, s.idle, s.rotated,
    s.ended_at, s.ended_position, s.digest, s.parent, at = struct.unpack(FIXED, raw)
  s.rest = string.sub(raw, at)
  s.is_child = bit.band(s.flags, HAS_PARENT) ~= 0
  s.subject, at = struct.unpack('>I2c0', raw, at)
  s.client = struct.unpack('>I2c0', raw, at)
  return s
end

local function packed(s)
  return struct.pack(
    FIXED, s.kind, s.flags, s.generation, s.chain_generation, s.replays, s.as_of, s.created, s.expires, s.seen, s.idle,
    s.rotated, s.ended_at, s.ended_position, s.digest, s.parent
  ) .. s.rest
end

local function find_row(key, field)
  local raw = redis.call('HGET', key, field)
  return raw and read_row(raw) or nil
end

local function all_rows(key)
  local flat, rows = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    rows[#rows + 1] = { field = flat[i], session = read_row(flat[i + 1]) }
  end
  return rows
end

-- The earliest cut-off past the `as_of` of *s*: position and moment.
local function cut_off_of(s)
  local found = redis.call('HMGET', CUT_OFFS, 'subject ' .. s.subject, 'client ' .. s.client, 'everything ')
  local first, first_at
  for i = 1, 3 do
    if found[i] then
      local position, at = struct.unpack('>i8i8', found[i])
      if position > s.as_of and (not first or position < first) then
        first, first_at = position, at
      end
    end
  end
  return first, first_at
end

-- Since when *s* is over at *now*, and the position of the entry that ended it (0: it ran out); nil: it is live.
local function over(key, s, now)
  if s.ended_at >= 0 then
    return s.ended_at, math.max(s.ended_position, 0)
  end
  local position, at = cut_off_of(s)
  if position then
    return at, position
  end
  if s.is_child then
    local parent = find_row(key, s.parent)
    if not parent then
      return s.seen, 0
    end
    local since, by = over(key, parent, now)
    if since then
      return since, by
    end
  end
  if now >= s.expires then
    return s.expires, 0
  end
  if s.idle >= 0 and now >= s.seen + s.idle then
    return s.seen + s.idle, 0
  end
  return nil
end

local function is_live(key, s, now)
  return over(key, s, now) == nil
end
