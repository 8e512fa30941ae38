-- AccountStore.find: KEYS[1] accounts, KEYS[2] records of subjects; ARGV: the subject.
return { redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[1]) }
