---The core in Lua, 3 of 6: what happens to a barrier, as plain data. How parties wait is in
---waits.lua, and how they are let out in drain.lua.
---
---Each waiting party is a node, in one of five lists:
---
---  inside    waiting for the other parties, or about to leave (the state is not filling)
---  blocked   came while the barrier was busy with other parties; let in later, in this order
---  leaving   left early, or never got in; still to be notified
---  watching  awaits a trip without being a party
---  told      watched, and still to be notified of a trip, a reset or an abort
---
---A finalizer may run at any allocation and do anything to the barrier. So what changes a barrier
---allocates nothing before it is done, or looks again.
local loop = require((...):gsub("machine$", "loop"))
local turns = require((...):gsub("machine$", "turns"))

local list, insert, unlink = turns.list, turns.insert, turns.unlink
local M = {
  all = setmetatable({}, { __mode = "k" }), ---@type table<barrier.Machine, integer> in order
}

---@class barrier.Node false stands for what is absent
---@field machine barrier.Machine
---@field co thread|false the coroutine that waits
---@field waiter barrier.Waiter|false what a wait with a callback returned
---@field callback function|false
---@field place barrier.List|false the list that it is in
---@field since integer leaving, told: the turn in which it became ready
---@field outcome string|false what it gets, where the state of the barrier does not say it
---@field value any passed: its position or the generation; failed: its error
---@field ticket integer its rank among the arrivals that wait; 0: it is no party
---@field arrivals integer blocked: so many parties that do not wait, and nothing else
---@field deadline table|false of its timeout

---@class barrier.Machine
---@field parties integer
---@field state "filling"|"draining"|"resetting"|"broken"
---@field generation integer
---@field arrived integer so many have arrived in this phase without waiting
---@field held string|false all parties are there: the action will run in a turn ("due"), or runs
---  ("runs"), or has been overtaken by a "reset" or "abort"; "ended": the Lua state closes
---@field last barrier.Node|false held: the last arrival, if it waits
---@field runner barrier.Node|false held: the last arrival, if its own call runs the action
---@field inside_since integer the turn in which the parties inside became ready to leave
---@field blocked_since integer the turn in which the blocked became ready to come in, or to fail
---@field spoiled integer nodes that were told of an earlier generation get `spoiler` as outcome
---@field spoiler string|false
---@field crowds integer how many of the blocked nodes are parties that do not wait

local ended, n_made, n_tickets = false, 0, 0

---@param parties integer
---@return barrier.Machine
function M.new(parties)
  local m = {
    parties = parties, state = "filling", generation = 0, arrived = 0,
    inside = list(), blocked = list(), leaving = list(), watching = list(), told = list(),
    inside_since = 0, blocked_since = 0, crowds = 0,
    spoiled = 0, spoiler = false,
    held = ended and "ended", last = false, runner = false,
    queue = false, place = false, prev = false, next = false, since = 0, -- of turns.lua
    deadline = false, timeout = false, action = false, schedule = false, in_fast_event = false,
  }
  n_made = n_made + 1
  M.all[m] = n_made
  return m
end

---@return barrier.Node
function M.node(m, co, callback)
  return { machine = m, co = co or false, waiter = false, callback = callback or false,
    place = false, prev = false, next = false, since = 0, outcome = false, value = false,
    ticket = 0, arrivals = 0, deadline = false }
end

---The Lua state closes: from now on whatever arrives is blocked for good.
function loop.on_end()
  ended = true
  for m in pairs(M.all) do
    m.held = "ended"
  end
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

---@return string # for messages
function M.progress(m)
  return ("%d of %d had arrived"):format(M.counted(m), m.parties)
end

---True if an arrival counts in the phase that is filling, and is not blocked.
local function is_open(m)
  return m.state == "filling" and not m.held and m.blocked.count == 0
end

---True while the node still waits; only then does its timeout apply.
function M.waits(m, node)
  local place = node.place
  return place == m.inside and m.state == "filling" and not m.held
    or place == m.blocked and m.state ~= "broken"
    or place == m.watching
end

---The first node of a list that can be let out: the runner's own call has not returned yet.
---@return barrier.Node?
function M.first_ready(m, nodes)
  local node = nodes.next
  if node == m.runner then
    node = node.next
  end
  return node ~= nodes and node or nil
end

---True if a turn has something to do here.
function turns.busy(m)
  local state = m.state
  return state ~= "filling" and M.first_ready(m, m.inside)
    or m.leaving.count > 0 and M.first_ready(m, m.leaving)
    or m.blocked.count > 0 and (state == "broken" or state == "filling" and not m.held)
    or m.told.count > 0 or m.held == "due"
end

---True if a party waits or watches, and is not leaving.
function M.is_awaited(m)
  return m.blocked.count > m.crowds or m.inside.count + m.watching.count + m.told.count > 0
end

---}=== {=== after each change

---The phase has taken too long.
local function expire_phase(m, deadline)
  local reason = ("timed out after %s ms, %s"):format(deadline.timeout, M.progress(m))
  if m.deadline == deadline then
    M.abort(m, reason)
  end
end

---The deadline of the phase runs while a party has arrived, and the trip is not decided yet.
function M.keep_phase(m)
  local runs = m.timeout and not m.held and M.counted(m) > 0
  if runs and not m.deadline then
    local deadline = turns.deadline(m, m.timeout, expire_phase)
    if not m.deadline and not m.held and M.counted(m) > 0 then -- a finalizer may have run
      turns.add(deadline)
    end
  elseif m.deadline and not runs then
    turns.clear(m)
  end
end

---Parties have arrived or left, and nodes may have become ready.
function M.changed(m)
  M.keep_phase(m)
  turns.request(m)
end

---A node that is in no list is notified in the turns after `since`.
---@param nodes barrier.List `leaving` or `told`
local function tell(nodes, node, outcome, value, since)
  node.outcome, node.value, node.since = outcome, value, since
  insert(nodes, node, nodes)
end

---A node that is not in the barrier is notified in a later turn.
function M.post(m, node, outcome, value)
  node.ticket = 0
  tell(m.leaving, node, outcome, value, turns.turn)
  turns.request(m)
end

---}=== {=== arriving

---A party arrives. The barrier must not be broken.
---@return boolean is_last the barrier waits for no other party: it has to be completed
function M.enter(m, node)
  local nodes = m.inside
  if m.state ~= "filling" or m.held or m.blocked.count > 0 then
    nodes = m.blocked
  end
  local before, count = nodes.prev, nodes.count + 1
  n_tickets = n_tickets + 1
  node.ticket, node.place, node.prev, node.next = n_tickets, nodes, before, nodes
  before.next, nodes.prev, nodes.count = node, node, count -- as insert does, without a call
  return nodes == m.inside and count + m.arrived >= m.parties
end

---The node awaits a trip. The barrier must not be broken.
function M.watch(m, node)
  node.ticket = 0
  insert(m.watching, node, m.watching)
end

---`n` parties arrive and do not wait. The barrier must not be broken.
---@return boolean is_last
function M.arrive(m, n)
  local crowd = not is_open(m) and M.node(m)
  local last = m.blocked.prev
  if is_open(m) then
    m.arrived = m.arrived + n
    return m.inside.count + m.arrived >= m.parties
  elseif m.blocked.count > 0 and last.arrivals > 0 then
    last.arrivals = last.arrivals + n
  else
    crowd.arrivals, m.crowds = n, m.crowds + 1
    insert(m.blocked, crowd, m.blocked)
  end
  return false
end

---The number of parties changes.
---@return boolean is_full the barrier waits for no other party
function M.add_parties(m, n)
  m.parties = m.parties + n
  return m.state == "filling" and not m.held and M.counted(m) >= m.parties
end

---}=== {=== tripping

---Draining and resetting end when the last party has left.
function M.check_emptied(m, since)
  if m.inside.count == 0 and (m.state == "draining" or m.state == "resetting") then
    m.state, m.blocked_since = "filling", since
  end
end

local function tell_watchers(m, since)
  while m.watching.count > 0 do
    local node = m.watching.next
    unlink(node)
    tell(m.told, node, false, m.generation, since)
  end
end

---@param since integer the parties inside leave in the turns after this one
function M.trip(m, since)
  local nodes, position = m.inside, 0
  local node = nodes.next
  m.state, m.generation, m.arrived, m.inside_since = "draining", m.generation + 1, 0, since
  while node ~= nodes do
    node.value, position = position, position + 1
    node = node.next
  end
  tell_watchers(m, since)
  M.check_emptied(m, turns.turn)
end

---All parties are there, and the trip is decided: from now on arrivals are blocked.
---@param last barrier.Node|false the last arrival, if it waits
---@param how "due"|"runs"
function M.hold(m, last, how)
  m.held, m.last, m.inside_since = how, last, turns.turn
end

---@return string how `held` was
---@return barrier.Node|false last the last arrival, if it waits still
function M.release(m)
  local how, last = m.held, m.last
  m.held, m.last, m.runner = false, false, false
  if m.state == "filling" then
    m.blocked_since = turns.turn
  end
  return how, last and last.place == m.inside and last
end

---}=== {=== leaving

---Takes a node out of its list.
function M.take_out(m, node)
  local was_inside = node.place == m.inside
  unlink(node)
  if was_inside then
    M.check_emptied(m, turns.turn)
  end
end

---A node leaves for good.
function M.leave(m, node)
  M.take_out(m, node)
  node.outcome, node.value = false, false
  turns.clear(node)
  M.changed(m)
end

---A node leaves early, and is notified in a later turn.
---@return boolean left false if it is leaving already
function M.withdraw(m, node, outcome, value)
  if not node.place or node.place == m.leaving then
    return false
  end
  M.take_out(m, node)
  tell(m.leaving, node, outcome, value, turns.turn)
  turns.clear(node)
  M.changed(m)
  return true
end

---What reset and abort have in common: watchers fail, those that were told already as well.
local function fail_all(m, outcome)
  m.spoiled, m.spoiler = m.generation + 1, outcome
  tell_watchers(m, turns.turn)
  if m.held == "due" then
    M.release(m)
  elseif m.held then
    m.held = outcome
  end
  if m.state == "filling" then
    m.inside_since = turns.turn
  end
  m.arrived = 0
end

---Back to the empty state: the parties inside fail, the blocked stay.
function M.reset(m)
  if m.held ~= "ended" then
    fail_all(m, "reset")
    m.state, m.reason = m.inside.count > 0 and "resetting" or "filling", nil
    M.changed(m)
  end
end

---Broken until a reset: all parties fail.
function M.abort(m, reason)
  if m.state ~= "broken" and m.held ~= "ended" then
    fail_all(m, "aborted")
    m.state, m.blocked_since, m.reason = "broken", turns.turn, reason
    M.changed(m)
  end
end

---}===

return M
