-- AuditStore.list: KEYS[1] events; ARGV: before which number, subject, code (empty: any), how many to give and to look at.
-- Returns the next number to look before ('': none is left), and what was found.
local before, found, last = ARGV[1], {}, ''
local looked = redis.call('XREVRANGE', KEYS[1], before == '' and '+' or '(' .. before .. '-0', '-', 'COUNT', ARGV[5])
for _, item in ipairs(looked) do
  last = string.sub(item[1], 1, -3)
  local fields = item[2]
  if (ARGV[2] == '' or fields[6] == ARGV[2]) and (ARGV[3] == '' or fields[4] == ARGV[3]) then
    found[#found + 1] = { last, fields[2], fields[8] }
    if #found == tonumber(ARGV[4]) then
      return { last, found }
    end
  end
end
return { #looked == tonumber(ARGV[5]) and last or '', found }
