--#include state
-- One command that changes *asked.record* of *asked.kind*, on KEYS[8].
read_feed()
local answer = redis.call(asked.command, KEYS[8], unpack(asked.arguments))
note(asked.kind, asked.record)
return answer
