-- What every step that writes has as its first keys, and its one argument.
local META, CUT_OFFS, ENTRIES, UNTIL, DROPS, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local asked = cmsgpack.unpack(ARGV[1])

local function text(number)
  return string.format('%.0f', number)
end

-- The state of the feed.
local function read_feed()
  local raw = redis.call('HMGET', META, 'timeline', 'position', 'chain', 'at', 'credential', 'session', 'events')
  if not raw[1] then
    error('KEYFOB-EMPTY')
  end
  return {
    timeline = raw[1], position = tonumber(raw[2]), chain = raw[3], at = tonumber(raw[4]),
    credential = tonumber(raw[5]), session = tonumber(raw[6]), events = tonumber(raw[7]),
  }
end

local function save_feed(feed)
  redis.call(
    'HSET', META, 'timeline', feed.timeline, 'position', text(feed.position), 'chain', feed.chain, 'at', text(feed.at),
    'credential', text(feed.credential), 'session', text(feed.session), 'events', text(feed.events)
  )
end

-- *event*: its moment, code, subject (empty: none), and all the rest as JSON.
local function write_event(feed, event)
  feed.events = feed.events + 1
  redis.call(
    'XADD', EVENTS, text(feed.events) .. '-0', 'a', text(event[1]), 'c', event[2], 's', event[3], 'e', event[4]
  )
end
