-- What an entry does to rows. *order.key* holds those in its scope, *order.spared_key* those of the session that it spares.
local function is_of(row, field)
  return row.field == field or (row.session.is_child and row.session.parent == field)
end

local function in_scope(order, row)
  if order.scope == 'session' then
    return is_of(row, order.field)
  end
  return order.scope == 'subject' and row.session.subject == order.id
end

-- The rows that *order* is about to end, and those that it keeps: to be read before its entry is there.
local function touched(order, now)
  local ending, kept = {}, {}
  if order.reach ~= 'end' then
    return ending, kept
  end
  if order.scope == 'session' or order.scope == 'subject' then
    for _, row in ipairs(all_rows(order.key)) do
      local is_spared = order.spared ~= '' and is_of(row, order.spared_field)
      if in_scope(order, row) and not is_spared and is_live(order.key, row.session, now) then
        ending[#ending + 1] = row
      end
    end
  end
  if order.spared ~= '' then
    for _, row in ipairs(all_rows(order.spared_key)) do
      if is_of(row, order.spared_field) and is_live(order.spared_key, row.session, now) then
        kept[#kept + 1] = row
      end
    end
  end
  return ending, kept
end

local function take_effect(order, entry, ending, kept)
  for _, row in ipairs(kept) do
    row.session.as_of = entry.position
    put_row(order.spared_key, row.field, packed(row.session))
  end
  for _, row in ipairs(ending) do
    row.session.ended_at, row.session.ended_position = entry.at, entry.position
    put_row(order.key, row.field, packed(row.session))
  end
end

-- Carry *order* out; return its entry and how many live rows it ended. Whether a session is over already has been asked before.
local function carry_out(feed, order, now)
  local ending, kept = touched(order, now)
  local entry = append(feed, order, now, feed.credential)
  take_effect(order, entry, ending, kept)
  return entry, #ending
end

-- An order as it is asked for: its keys by their places.
local function order_of(wanted)
  wanted.key, wanted.spared_key = KEYS[wanted.place], KEYS[wanted.spared_place]
  return wanted
end
