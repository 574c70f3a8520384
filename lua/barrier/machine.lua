---The core in Lua, 1 of 3: one barrier as plain data. It knows no coroutine, no error and no loop:
---each function says what happens to a barrier, and waits.lua and turns.lua act on it.
---
---Each waiting party is a node, in one of five lists:
---
---  inside    waiting for the other parties, or about to leave (the state is not filling)
---  blocked   came while the barrier was busy with other parties; let in later, in this order
---  leaving   left early, or never got in; still to be notified
---  watching  awaits a trip without being a party
---  told      watched, and still to be notified of a trip, a reset or an abort
---
---A turn is a number that turns.lua counts up. A turn serves what became ready before it began,
---so each function that makes a node ready is given the number of the current turn.
---
---Nothing here allocates: a finalizer never sees a barrier that is half changed.
local M = {}

---@class barrier.List
---@field first barrier.Node|false
---@field last barrier.Node|false
---@field count integer

---@class barrier.Node false stands for what is absent
---@field machine barrier.Machine
---@field co thread|false the coroutine that waits
---@field waiter barrier.Waiter|false what a wait with a callback returned
---@field callback function|false of the Waiter, or an on_close
---@field next barrier.Node|false in that list
---@field prev barrier.Node|false in that list
---@field place barrier.List|false the list that it is in
---@field since integer leaving, told: the turn in which it became ready
---@field outcome string|false leaving: what it gets; inside: "failed" if its action did
---@field value any leaving, and failed: its error; told: the generation
---@field ticket integer its rank among all arrivals
---@field listed boolean a party that waits, as waiters() lists them
---@field gap integer how many parties in front of it left between the trip and their turn
---@field arrivals integer blocked: so many parties that do not wait, and nothing else
---@field deadline table|false of its timeout

---@class barrier.Machine
---@field parties integer
---@field state "filling"|"draining"|"resetting"|"broken"
---@field generation integer
---@field arrived integer so many have arrived in this phase without waiting
---@field held boolean all parties are there, and the action runs or will run
---@field due boolean held, and the action runs in a turn to come
---@field verdict string|false held: "reset" or "aborted" if that happened meanwhile
---@field last barrier.Node|false held: the last arrival, if it waits
---@field runner barrier.Node|false held: the last arrival, if its own call runs the action

---@return barrier.List
function M.list()
  return { first = false, last = false, count = 0 }
end

local function append(list, node)
  local last = list.last
  node.place, node.prev, node.next = list, last, false
  if last then
    last.next = node
  else
    list.first = node
  end
  list.last, list.count = node, list.count + 1
end

---@param node barrier.Node
local function unlink(node)
  local list, prev, next_node = node.place, node.prev, node.next
  ---@cast list barrier.List
  if prev then
    prev.next = next_node
  else
    list.first = next_node
  end
  if next_node then
    next_node.prev = prev
  else
    list.last = prev
  end
  list.count = list.count - 1
  node.place, node.prev, node.next = false, false, false -- nothing is kept alive
end

M.append, M.unlink = append, unlink

---@param parties integer
---@return barrier.Machine
function M.new(parties)
  return {
    parties = parties, state = "filling", generation = 0, arrived = 0,
    inside = M.list(), blocked = M.list(), leaving = M.list(), watching = M.list(),
    told = M.list(),
    inside_since = 0, -- the turn in which the parties inside became ready to leave
    blocked_since = 0, -- the turn in which the blocked became ready to come in, or to fail
    position = 0, -- of the next party that passes
    tickets = 0,
    crowds = 0, -- how many of the blocked nodes are parties that do not wait
    spoiled = 0, spoiler = false, -- nodes told of an earlier generation than this get this outcome
    held = false, due = false, verdict = false, last = false, runner = false,
    place = false, prev = false, next = false, since = 0, -- in the queue of turns.lua
    deadline = false, -- of the phase
  }
end

---@return barrier.Node
function M.node(m, co, waiter, callback)
  return { machine = m, co = co, waiter = waiter, callback = callback, place = false, prev = false,
    next = false, since = 0, outcome = false, value = false, ticket = 0, listed = false, gap = 0,
    arrivals = 0, deadline = false }
end

---The Lua state closes: from now on whatever arrives is blocked for good.
function M.freeze(m)
  m.inside, m.blocked, m.leaving = M.list(), M.list(), M.list()
  m.watching, m.told = M.list(), M.list()
  m.held, m.arrived = true, 0
end

---{=== looking

---@return integer # how many parties have arrived in the phase that is filling
function M.counted(m)
  return m.state == "filling" and m.inside.count + m.arrived or 0
end

---@return integer # how many parties have yet to arrive
function M.absent(m)
  return m.held and m.parties or m.parties - M.counted(m)
end

local function need(m)
  return m.parties > 0 and m.parties or 1
end

---True if an arrival counts in the phase that is filling, and is not blocked.
local function is_open(m)
  return m.state == "filling" and not m.held and not m.blocked.first
end

M.is_open = is_open

---@return boolean # are n arrivals the last that the barrier waits for?
function M.would_trip(m, n)
  return is_open(m) and m.inside.count + m.arrived + n >= m.parties
end

---True while the node still waits; only then does its timeout apply.
function M.waits(m, node)
  local place = node.place
  return place == m.inside and m.state == "filling" and not m.held
    or place == m.blocked and m.state ~= "broken"
    or place == m.watching
end

---The first node of a list that can be let out: the runner's own call has not returned yet.
local function first_ready(m, list)
  local node = list.first
  if node and node == m.runner then
    return node.next
  end
  return node
end

---True if a turn has something to do here.
function M.busy(m)
  return m.due or first_ready(m, m.leaving) or m.told.first
    or m.state ~= "filling" and first_ready(m, m.inside)
    or m.blocked.first and (m.state == "broken" or m.state == "filling" and not m.held)
end

---True if a party waits or watches, and is not leaving.
function M.is_awaited(m)
  local node = m.blocked.first
  while node and node.arrivals > 0 do
    node = node.next
  end
  return node or m.inside.first or m.watching.first or m.told.first
end

---@return integer # how many have yet to be let out, let in or notified
function M.n_ready(m)
  local n = m.leaving.count + m.told.count + m.blocked.count
  if m.state ~= "filling" or m.held then
    n = n + m.inside.count
  end
  return n == 0 and M.busy(m) and 1 or n
end

---}=== {=== arriving

---A party arrives and waits, unless it is the last that the barrier waits for. The barrier must
---not be broken.
---@param is_last boolean? it waits even then
---@return boolean waits
function M.enter(m, node, is_last)
  local list = m.inside
  if m.state ~= "filling" or m.held or m.blocked.first then
    list = m.blocked
  elseif not is_last and list.count + m.arrived + 1 >= m.parties then
    return false
  end
  local ticket, last = m.tickets + 1, list.last
  m.tickets, node.ticket = ticket, ticket
  if last then -- as append does, without a call
    last.next, node.prev = node, last
  else
    list.first = node
  end
  list.last, list.count, node.place = node, list.count + 1, list
  return true
end

---`n` parties arrive and do not wait. The barrier must not be broken.
---@param spare barrier.Node a new one, for when they are blocked
function M.arrive(m, n, spare)
  local last = m.blocked.last
  if is_open(m) then
    m.arrived = m.arrived + n
  elseif last and last.arrivals > 0 then
    last.arrivals = last.arrivals + n
  else
    m.tickets = m.tickets + 1
    spare.ticket, spare.arrivals, m.crowds = m.tickets, n, m.crowds + 1
    append(m.blocked, spare)
  end
end

---The node awaits a trip. The barrier must not be broken.
function M.watch(m, node)
  append(m.watching, node)
end

---A node that is in no list is notified of `outcome` in a later turn.
---@param listed boolean? until then waiters() has it
function M.post(m, node, outcome, value, turn, listed)
  node.outcome, node.value, node.since, node.listed = outcome, value, turn, listed
  append(m.leaving, node)
end

---}=== {=== tripping

---Draining and resetting end when the last party has left.
local function check_emptied(m, since)
  if m.inside.count == 0 and (m.state == "draining" or m.state == "resetting") then
    m.state, m.blocked_since = "filling", since
  end
end

local function tell_watchers(m, since)
  local node = m.watching.first
  while node do
    unlink(node)
    node.since, node.value = since, m.generation
    append(m.told, node)
    node = m.watching.first
  end
end

---@param since integer the parties inside leave in the turns after this one
---@param turn integer the current one
function M.trip(m, since, turn)
  m.state, m.generation, m.arrived = "draining", m.generation + 1, 0
  m.position, m.inside_since = 0, since
  tell_watchers(m, since)
  check_emptied(m, turn)
end

---All parties are there, and the action is about to run: from now on arrivals are blocked.
---@param last barrier.Node? the last arrival, if it waits
---@param runs boolean its own call runs the action
function M.hold(m, last, runs)
  m.held, m.last, m.runner, m.verdict = true, last, runs and last, false
end

---All parties are there, and the trip comes in a turn after `since`.
function M.defer(m, last, since)
  M.hold(m, last, false)
  m.due, m.inside_since = true, since
end

---@return boolean is_on the trip, which was neither reset nor aborted
---@return barrier.Node|false last the last arrival, if it waits still
function M.release(m, turn)
  local last = m.last
  m.held, m.due, m.runner, m.last = false, false, false, false
  if m.state == "filling" then
    m.blocked_since = turn
  end
  return not m.verdict, last
end

---}=== {=== leaving

local function pull(m, node, turn)
  local next_node = node.next
  local inside = node.place == m.inside
  if inside and m.state == "draining" and next_node then
    next_node.gap = next_node.gap + node.gap + 1
  end
  node.gap = 0
  if m.last == node then
    m.last = false
  end
  unlink(node)
  if inside then
    check_emptied(m, turn)
  end
end

---Takes a node out for good.
function M.leave(m, node, turn)
  pull(m, node, turn)
  node.outcome, node.value = false, false
  if m.runner == node then
    m.runner = false
  end
end

---The node leaves early, and is notified of `outcome` in a later turn.
---@return boolean left false if it is leaving already
function M.withdraw(m, node, outcome, value, turn)
  if node.place == m.leaving or not node.place then
    return false
  end
  local is_party = node.place == m.inside or node.place == m.blocked
  pull(m, node, turn)
  M.post(m, node, outcome, value, turn, is_party)
  return true
end

---What reset and abort have in common: watchers fail, those that were told already as well.
local function spoil(m, outcome, turn)
  if m.held then
    m.verdict = outcome
  end
  if m.due then
    M.release(m, turn)
  end
  if m.state == "filling" then
    m.inside_since = turn
  end
  tell_watchers(m, turn)
  m.arrived, m.spoiled, m.spoiler = 0, m.generation + 1, outcome
end

---Back to the empty state: the parties inside fail, the blocked stay.
function M.reset(m, turn)
  spoil(m, "reset", turn)
  m.state = m.inside.count > 0 and "resetting" or "filling"
end

---Broken until a reset: all parties fail. The barrier must not be broken.
function M.abort(m, turn)
  spoil(m, "aborted", turn)
  m.state, m.blocked_since = "broken", turn
end

---}=== {=== turns

---The first of those inside passes.
local function next_passing(m, turn)
  local list = m.inside
  local node, position = list.first, m.position
  ---@cast node barrier.Node
  local following, gap = node.next, node.gap
  if gap > 0 then
    position, node.gap = position + gap, 0
  end
  m.position = position + 1
  list.first, list.count, node.place = following, list.count - 1, false -- as unlink does
  if following then
    following.prev, node.next = false, false
  else
    list.last = false
    check_emptied(m, turn - 1) -- the blocked come in after it has run
  end
  return node, "passed", position
end

---What a node in the list `leaving`, or one whose action has failed, was given.
local function take(node)
  local outcome, value = node.outcome, node.value
  unlink(node)
  node.outcome, node.value = false, false
  return node, outcome, value
end

---The first of those inside of a barrier that was reset or aborted.
local function next_failing(m, node, turn)
  ---@type string|false, any
  local outcome, value = m.state == "resetting" and "reset" or "aborted", nil
  node.gap = 0 -- it counts only for those who pass
  if m.last == node then
    m.last = false
  end
  if node.outcome then -- of its action
    node, outcome, value = take(node)
  else
    unlink(node)
  end
  check_emptied(m, turn - 1)
  return node, outcome, value
end

---The first of the blocked of a broken barrier.
local function next_blocked(m)
  local node = m.blocked.first
  while node and node.arrivals > 0 do
    unlink(node)
    m.crowds = m.crowds - 1
    node = m.blocked.first
  end
  if node then
    unlink(node)
  end
  return node
end

---Takes out the next node that leaves in this turn: first those that left early, then those
---inside, then the blocked of a broken barrier, then those that were told.
---@return barrier.Node? node
---@return string|false|nil outcome
---@return any value its position, its error, or the generation
function M.next(m, turn)
  local node = m.leaving.first and first_ready(m, m.leaving)
  if node and node.since < turn then
    return take(node)
  elseif m.state == "draining" then
    if m.inside_since < turn then
      return next_passing(m, turn)
    end
  elseif m.state ~= "filling" then
    node = first_ready(m, m.inside)
    if node and m.inside_since < turn then
      return next_failing(m, node, turn)
    elseif m.state == "broken" and m.blocked_since < turn and m.blocked.first then
      node = next_blocked(m)
      if node then
        return node, "aborted"
      end
    end
  end
  node = m.told.first
  if node and node.since < turn then
    unlink(node)
    return node, node.value < m.spoiled and m.spoiler or "tripped", node.value
  end
end

local function prepend(list, node)
  local first = list.first
  node.place, node.next = list, first
  if first then
    first.prev = node
  else
    list.last = node
  end
  list.first, list.count = node, list.count + 1
end

---Undoes the `next` just before it, as far as others notice: the node is the next again.
function M.put_back(m, node, outcome, value)
  if outcome == "passed" then
    m.state, m.position = "draining", value
    prepend(m.inside, node)
  else
    node.outcome, node.value, node.since, node.listed = outcome, value, 0, true
    prepend(m.leaving, node)
  end
end

---Lets in the first of the blocked, or as many arrivals of it as are missing.
local function admit_first(m)
  local node = m.blocked.first
  local missing = need(m) - m.inside.count - m.arrived
  if node.arrivals > missing then
    node.arrivals, m.arrived, m.last = node.arrivals - missing, m.arrived + missing, false
    return
  end
  unlink(node)
  if node.arrivals > 0 then
    m.arrived, m.crowds, m.last = m.arrived + node.arrivals, m.crowds - 1, false
  else
    append(m.inside, node)
    m.last = node
  end
end

---Lets the blocked in when the parties that were inside are gone.
---@return boolean full are all parties there? Then `last` is the last of them, if it waits.
function M.admit(m, turn)
  if m.state ~= "filling" or m.held or not m.blocked.first or m.blocked_since >= turn then
    return false
  elseif m.inside.count + m.arrived + m.crowds == 0 and m.blocked.count <= m.parties then
    m.inside, m.blocked, m.last = m.blocked, m.inside, m.blocked.last -- all of them at once
  end
  while m.blocked.first and m.inside.count + m.arrived < need(m) do
    admit_first(m)
  end
  return m.inside.count + m.arrived >= m.parties
end

---}===

return M
