-- What every step that writes has as its first keys.
local META, CUT_OFFS, ENTRIES, UNTIL, DROPS, EVENTS, CHANGES = unpack(KEYS, 1, 7)

local function text(number)
  return string.format('%.0f', number)
end

local function hex(raw)
  return (string.gsub(raw, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

-- Keys of what is numbered are in the order of the numbers.
local function number_key(number)
  return string.format('%020.0f', number)
end

local is_noted = false

-- While the store is being copied: note that the record *key* of *kind* has changed.
local function note(kind, key)
  if is_noted then
    redis.call('ZADD', CHANGES, redis.call('HINCRBY', META, 'changes', 1), kind .. ' ' .. key)
  end
end

-- See whether a step may write: a store that is held off takes none.
local function check_open(timeline, role)
  if not timeline then
    error('KEYFOB-EMPTY')
  end
  if role == 'fenced' then
    error('KEYFOB-MOVING')
  end
  is_noted = role == 'source'
end

-- The position of the head, for a step that writes and appends nothing.
local function read_position()
  local raw = redis.call('HMGET', META, 'timeline', 'position', 'role')
  check_open(raw[1], raw[3])
  return raw[2]
end

-- The state of the feed, for a step that appends.
local function read_feed()
  local raw = redis.call('HMGET', META, 'timeline', 'position', 'chain', 'at', 'credential', 'session', 'events', 'role')
  check_open(raw[1], raw[8])
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
  note('feed', 'feed')
end

-- *event*: its moment, code, subject (empty: none), and all the rest as JSON.
local function write_event(feed, event)
  feed.events = feed.events + 1
  redis.call(
    'XADD', EVENTS, text(feed.events) .. '-0', 'a', text(event[1]), 'c', event[2], 's', event[3], 'e', event[4]
  )
  note('events', number_key(feed.events))
end
