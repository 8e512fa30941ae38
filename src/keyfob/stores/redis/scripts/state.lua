-- What every step that writes has as its first keys, and its one argument.
local META, CUT_OFFS, ENTRIES, UNTIL, DROPS, EVENTS, CHANGES = unpack(KEYS, 1, 7)
local asked = cmsgpack.unpack(ARGV[1])

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

-- The state of the feed, for a step that writes. A store that is held off takes none.
local function read_feed()
  local raw = redis.call('HMGET', META, 'timeline', 'position', 'chain', 'at', 'credential', 'session', 'events', 'role')
  if not raw[1] then
    error('KEYFOB-EMPTY')
  end
  if raw[8] == 'fenced' then
    error('KEYFOB-MOVING')
  end
  is_noted = raw[8] == 'source'
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
