-- ReportStore.reports: KEYS[1] verifiers, KEYS[2] canaries.
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
