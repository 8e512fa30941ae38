--#include pieces
-- Rows of sessions: all of those whose ids begin with the same 32 bits lie in one hash.
local FIXED, END = '>BBI4I4I4i8i8i8i8i8i8c32', '>i8i8'
local HAS_PARENT, HAS_END = 2, 4 -- beside 1: there is a digest

local function read_row(raw)
  local s = { ended_at = -1, ended_position = -1 }
  local at
  s.kind, s.flags, s.generation, s.chain_generation, s.replays, s.as_of, s.created, s.expires, s.seen, s.idle, s.rotated,
    s.digest, at = struct.unpack(FIXED, raw)
  s.is_child = bit.band(s.flags, HAS_PARENT) ~= 0
  if s.is_child then
    s.parent, at = struct.unpack('c16', raw, at)
  end
  if bit.band(s.flags, HAS_END) ~= 0 then
    s.ended_at, s.ended_position, at = struct.unpack(END, raw, at)
  end
  s.rest = string.sub(raw, at)
  s.subject, at = struct.unpack('>I2c0', raw, at)
  s.client = struct.unpack('>I2c0', raw, at)
  return s
end

local function packed(s)
  local ended = ''
  if s.ended_at >= 0 then
    s.flags, ended = bit.bor(s.flags, HAS_END), struct.pack(END, s.ended_at, s.ended_position)
  end
  return struct.pack(
    FIXED, s.kind, s.flags, s.generation, s.chain_generation, s.replays, s.as_of, s.created, s.expires, s.seen, s.idle,
    s.rotated, s.digest
  ) .. (s.parent or '') .. ended .. s.rest
end

local function find_row(key, field)
  local raw = find_raw(key, field)
  return raw and read_row(raw) or nil
end

local function all_rows(key)
  local rows = all_raw(key)
  for i, row in ipairs(rows) do
    rows[i] = { field = row[1], session = read_row(row[2]) }
  end
  return rows
end

local function put_piece(key, name, piece)
  if piece == '' then
    redis.call('HDEL', key, name)
  else
    redis.call('HSET', key, name, piece)
  end
end

-- Write what has a fixed place in *raw* again: nothing of it has moved.
local function put_fixed(key, field, raw)
  local first, second = names_of(field)
  redis.call('HSET', key, first, string.sub(raw, 1, PIECE), second, string.sub(raw, PIECE + 1, 2 * PIECE))
  note('sessions', hex(field))
end

local function put_row(key, field, raw)
  local _, _, third, fourth, last = names_of(field)
  put_fixed(key, field, raw)
  put_piece(key, third, string.sub(raw, 2 * PIECE + 1, 3 * PIECE))
  put_piece(key, fourth, string.sub(raw, 3 * PIECE + 1, 4 * PIECE))
  put_piece(key, last, string.sub(raw, 4 * PIECE + 1))
end

-- Delete a row, and what an application keeps in it.
local function drop_row(key, data_key, field)
  redis.call('HDEL', key, names_of(field))
  redis.call('HDEL', data_key, field)
  note('sessions', hex(field))
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
