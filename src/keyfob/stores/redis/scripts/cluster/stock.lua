-- All that is known of slots: KEYS[1] the state of the feed, KEYS[2] slots.
return {
  redis.call('HMGET', KEYS[1], 'timeline', 'position', 'chain', 'session', 'applied'), redis.call('HGETALL', KEYS[2]),
}
