-- AuditStore.delete_expired: KEYS[1] events; ARGV: the moment, and at most how many of the earliest.
local gone = 0
if ARGV[2] == '0' then
  return gone
end
for _, item in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])) do
  if tonumber(item[2][2]) < tonumber(ARGV[1]) then
    redis.call('XDEL', KEYS[1], item[1])
    gone = gone + 1
  end
end
return gone
