-- A delivery lies as "<leases>:<record>".
local function leases_of(kept)
  local count, packed = string.match(kept, '^(%d+):(.*)$')
  return tonumber(count), packed
end
