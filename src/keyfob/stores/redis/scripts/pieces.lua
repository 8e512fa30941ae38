-- A row lies in pieces, each a field of the hash: the server packs a hash tightly only while no value is longer than 64 bytes.
-- The first is named by the session's id, the others by that and a number; the last takes whatever is left. `pieces.py` does the same.
local ID, PIECE = 16, 64 -- bytes

local function names_of(field)
  return field, field .. '\1', field .. '\2', field .. '\3', field .. '\4'
end

local function joined(first, second, third, fourth, last)
  return first and first .. (second or '') .. (third or '') .. (fourth or '') .. (last or '') or nil
end

local function find_raw(key, field)
  return joined(unpack(redis.call('HMGET', key, names_of(field)), 1, 5))
end

-- All rows of one hash, each as { field, raw }, in the order of the hash.
local function all_raw(key)
  local flat, pieces, rows = redis.call('HGETALL', key), {}, {}
  for i = 1, #flat, 2 do
    pieces[flat[i]] = flat[i + 1]
  end
  for i = 1, #flat, 2 do
    local field = flat[i]
    if #field == ID then
      local first, second, third, fourth, last = names_of(field)
      rows[#rows + 1] = { field, joined(pieces[first], pieces[second], pieces[third], pieces[fourth], pieces[last]) }
    end
  end
  return rows
end
