--#include state rows
-- SessionStore.write_data: the version stands before the data, as 8 bytes.
read_feed()
local key, data_key = KEYS[8], KEYS[9]
local s = find_row(key, asked.field)
if not s or not is_live(key, s, asked.now) then
  return 0
end
local kept = redis.call('HGET', data_key, asked.field)
local version = kept and struct.unpack('>i8', kept) or 0
if version ~= asked.version then
  return 0
end
redis.call('HSET', data_key, asked.field, struct.pack('>i8', version + 1) .. asked.data)
redis.call('PEXPIRE', data_key, text(math.max(redis.call('PTTL', key), 1)))
note('sessions', hex(asked.field))
return 1
