-- KEYS[1] consents, KEYS[2] clients; ARGV: the key of the consent, the client's id.
return { redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[2]) }
