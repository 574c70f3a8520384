---The contract as plain lists, and deliberately simple: what a barrier's waiters get, in
---which order. It shares nothing with the C core.
---
---A party is a table with `id`, `kind` ("coroutine" or "callback") and `arrival`. `tell`
---is called for each end of a wait, and may call the barrier's functions again.
local M = {}

local clock = 0 -- the current turn

local function remove(list, party)
  for i, other in ipairs(list) do
    if other == party then
      table.remove(list, i)
      return true
    end
  end
  return false
end

---@param tell fun(party: table, outcome: string)
function M.new(parties, tell)
  return {
    parties = parties,
    tell = tell,
    state = "filling",
    generation = 0,
    arrivals = 0,
    inside = {},
    blocked = {},
    leaving = {},
    inside_since = 0, -- the turn in which those inside were let go
    blocked_since = 0, -- the turn in which the blocked could come in, or failed
  }
end

local function check_empty(b, since)
  if #b.inside == 0 and (b.state == "draining" or b.state == "resetting") then
    b.state, b.blocked_since = "filling", since
  end
end

local function trip(b)
  b.state, b.generation, b.inside_since = "draining", b.generation + 1, clock
  for i, party in ipairs(b.inside) do
    party.position = i - 1
  end
  check_empty(b, clock)
end

function M.arrive(b, party)
  b.arrivals = b.arrivals + 1
  party.arrival = b.arrivals
  if b.state == "broken" then
    local outcome = "aborted " .. tostring(b.reason)
    if party.kind == "coroutine" then
      b.tell(party, outcome)
    else
      table.insert(b.leaving, { party = party, outcome = outcome, since = clock, out = true })
    end
  elseif b.state ~= "filling" or #b.blocked > 0 then
    table.insert(b.blocked, party)
  elseif #b.inside + 1 < b.parties then
    table.insert(b.inside, party)
  elseif party.kind == "coroutine" then
    trip(b)
    b.tell(party, "position " .. b.parties - 1)
  else
    table.insert(b.inside, party)
    trip(b)
  end
end

---Takes a party out; true if it was inside or blocked.
local function take(b, party)
  if remove(b.inside, party) then
    check_empty(b, clock)
    return true
  end
  return remove(b.blocked, party)
end

local function take_leaving(b, party)
  for i, entry in ipairs(b.leaving) do
    if entry.party == party then
      table.remove(b.leaving, i)
      return true
    end
  end
  return false
end

---Closed: nobody is told, but `on_close` is called, if it is given.
function M.close(b, party, on_close)
  if on_close then
    table.insert(b.leaving, { party = on_close, outcome = "closed", since = clock, out = true })
  end
  return take(b, party) or take_leaving(b, party)
end

---Resumed by a stranger.
function M.stranger(b, party)
  if M.close(b, party) then
    b.tell(party, "cancelled")
  end
end

function M.cancel(b, party)
  if not take(b, party) then
    return false
  end
  table.insert(b.leaving, { party = party, outcome = "cancelled", since = clock })
  return true
end

function M.abort(b, reason)
  if b.state == "filling" then
    b.inside_since = clock
  end
  if b.state ~= "broken" then
    b.blocked_since = clock
  end
  b.state, b.reason = "broken", reason
end

function M.reset(b)
  if #b.inside == 0 then
    b.state = "filling"
  else
    if b.state == "filling" then
      b.inside_since = clock
    end
    b.state = "resetting"
  end
  b.reason = nil
end

---Is there somebody to be told, or to be let in?
function M.busy(b)
  return #b.leaving > 0
    or (b.state ~= "filling" and #b.inside > 0)
    or (#b.blocked > 0 and (b.state == "broken" or b.state == "filling"))
end

local function serve_inside(b, turn)
  local party = table.remove(b.inside, 1)
  local outcome
  if b.state == "draining" then
    outcome = "position " .. party.position
  elseif b.state == "resetting" then
    outcome = "reset"
  else
    outcome = "aborted " .. tostring(b.reason)
  end
  check_empty(b, turn - 1)
  b.tell(party, outcome)
end

---A turn of the loop for this barrier.
function M.turn(b)
  clock = clock + 1
  local turn = clock
  while true do
    local first = b.leaving[1]
    if first and first.since < turn then
      table.remove(b.leaving, 1)
      b.tell(first.party, first.outcome)
    elseif b.state ~= "filling" and b.inside[1] and b.inside_since < turn then
      serve_inside(b, turn)
    elseif b.state == "broken" and #b.inside == 0 and b.blocked[1] and b.blocked_since < turn then
      b.tell(table.remove(b.blocked, 1), "aborted " .. tostring(b.reason))
    else
      break
    end
  end
  if b.state == "filling" and b.blocked_since < turn then
    while b.blocked[1] and #b.inside < b.parties do
      table.insert(b.inside, table.remove(b.blocked, 1))
    end
    if #b.inside == b.parties then
      trip(b)
    end
  end
end

---The ids of those whom waiters() lists.
function M.waiters(b)
  local list = {}
  for _, queue in ipairs { b.inside, b.blocked } do
    for _, party in ipairs(queue) do
      list[#list + 1] = party
    end
  end
  for _, entry in ipairs(b.leaving) do
    if not entry.out then
      list[#list + 1] = entry.party
    end
  end
  table.sort(list, function(x, y)
    return x.arrival < y.arrival
  end)
  for i, party in ipairs(list) do
    list[i] = party.id
  end
  return list
end

function M.n_waiting(b)
  return b.state == "filling" and #b.inside or 0
end

return M
