---The core in Lua, 5 of 6: what a turn does at a barrier. It lets parties out, and others in.
local here = (...):gsub("drain$", "")
local loop, turns = require(here .. "loop"), require(here .. "turns")
local machine, waits = require(here .. "machine"), require(here .. "waits")

local insert, unlink, first_ready = turns.insert, turns.unlink, machine.first_ready
local error_for, text_of, add_traceback = waits.error_for, waits.text_of, waits.add_traceback
local status, resume, traceback = coroutine.status, coroutine.resume, debug.traceback
local PASSED, FAILED = waits.PASSED, waits.FAILED

---{=== who is next

-- What the parties inside get.
local OUTCOMES = { draining = "passed", resetting = "reset", broken = "aborted" }

---@return barrier.Node node
---@return string outcome
local function take(node)
  local outcome = node.outcome
  unlink(node)
  node.outcome = false
  return node, outcome
end

---The first of the blocked of a broken barrier.
local function next_blocked(m)
  while m.blocked.count > 0 do
    local node = m.blocked.next
    unlink(node)
    if node.arrivals == 0 then
      return node
    end
    m.crowds = m.crowds - 1
  end
end

---Takes out the next node that leaves in this turn: first those that left early, then those
---inside, then the blocked of a broken barrier, then those that were told.
---@return barrier.Node? node
---@return string? outcome
local function next_node(m, turn)
  local state = m.state
  local node = m.leaving.count > 0 and first_ready(m, m.leaving)
  if node and node.since < turn then
    return take(node)
  end
  node = state ~= "filling" and m.inside_since < turn and first_ready(m, m.inside)
  if node then
    unlink(node)
    machine.check_emptied(m, turn - 1) -- the blocked come in after it has run
    if node.outcome then -- of its action
      node.outcome = false
      return node, "failed"
    end
    return node, OUTCOMES[state]
  end
  node = state == "broken" and m.blocked_since < turn and next_blocked(m)
  if node then
    return node, "aborted"
  end
  node = m.told.next
  if node ~= m.told and node.since < turn then
    unlink(node)
    return node, node.value < m.spoiled and m.spoiler or "passed"
  end
end

---Undoes the `next_node` just before it, as far as others notice: the node is the next again.
local function put_back(m, node, outcome)
  local nodes = m.leaving
  node.since = 0
  if outcome == "passed" and node.ticket > 0 then
    nodes, m.state = m.inside, "draining"
  else
    node.outcome = outcome
  end
  insert(nodes, node, nodes.next)
end

---Lets in the first of the blocked, or as many arrivals of it as are missing.
---@return barrier.Node|false node if it waits
local function admit_first(m, missing)
  local node = m.blocked.next
  local n = math.min(node.arrivals, missing)
  m.arrived, node.arrivals = m.arrived + n, node.arrivals - n
  if node.arrivals > 0 then
    return false
  end
  unlink(node)
  if n > 0 then
    m.crowds = m.crowds - 1
    return false
  end
  insert(m.inside, node, m.inside)
  return node
end

---Lets the blocked in when the parties that were inside are gone.
---@return boolean full true if all parties are there
---@return barrier.Node|false|nil last the last of them, if it waits
local function admit(m, turn)
  local last
  if m.blocked.count == 0 or m.state ~= "filling" or m.held or m.blocked_since >= turn then
    return false
  elseif m.inside.count + m.arrived + m.crowds == 0 and m.blocked.count <= m.parties then
    last = m.blocked.prev
    m.inside, m.blocked = m.blocked, m.inside -- all of them at once
  end
  local missing = math.max(m.parties, 1) - m.inside.count - m.arrived
  while m.blocked.count > 0 and missing > 0 do
    last = admit_first(m, missing)
    missing = math.max(m.parties, 1) - m.inside.count - m.arrived
  end
  return m.inside.count + m.arrived >= m.parties, last
end

---}=== {=== letting out

---@param reports string[]
local function report_death(co, err, reports)
  if waits.cancels[err] ~= co then
    reports[#reports + 1] = traceback(co, text_of(err))
  end
  if coroutine.close then -- luacheck: ignore 143
    local ok, problem = coroutine.close(co) -- luacheck: ignore 143
    if not ok and not rawequal(problem, err) then
      reports[#reports + 1] = traceback(text_of(problem))
    end
  end
end

---Calls a callback; "closed" is the outcome of an on_close.
local function call_back(m, node, outcome, value, reports)
  local callback = node.callback
  node.callback = false -- from here on it is out, also for a finalizer that closes it
  if outcome ~= "passed" and outcome ~= "closed" and not (outcome == "failed" and value) then
    value = error_for(m, outcome) -- an action's error that is nil or false looks like success
  end
  local ok, err = xpcall(function()
    if outcome == "passed" then
      callback(nil, value)
    elseif outcome == "closed" then
      callback()
    else
      callback(value)
    end
  end, add_traceback)
  if not ok then
    reports[#reports + 1] = err
  end
end

---A coroutine was resumed, and has died; or no C stack was left to resume it.
---@return boolean died otherwise another turn resumes it
local function has_died(m, node, outcome, value, err, reports)
  if status(node.co) == "dead" then
    report_death(node.co, err, reports)
    return true
  end
  node.value = value
  put_back(m, node, outcome)
  return false
end

---Lets out a node that was taken out.
---@return boolean out false: another turn does
local function notify(m, node, outcome, reports)
  local co, value, token = node.co, node.value, PASSED
  loop.credit = loop.credit - 1
  if node.deadline then
    turns.clear(node)
  end
  if not co then
    node.value = false
    if node.callback then
      call_back(m, node, outcome, value, reports)
    end
    return true
  elseif outcome ~= "passed" then
    if outcome ~= "failed" then
      value = error_for(m, outcome, co)
    end
    outcome, token, node.value = "failed", FAILED, false
  end
  if status(co) == "dead" then
    return true -- a finalizer has closed it
  end
  local ok, err = resume(co, token, value)
  return ok or has_died(m, node, outcome, value, err, reports)
end

---Lets out coroutines that pass, until something else comes first. While the barrier drains, no
---last arrival is inside whose own call has not returned, and none that gets its action's error.
---@return boolean out false: another turn does
local function pass(m, turn, reports)
  while m.state == "draining" and m.leaving.count == 0 and m.inside_since < turn do
    local nodes = m.inside
    local node = nodes.next
    local co, behind, count = node.co, node.next, nodes.count - 1
    if not co or node.deadline then
      break
    end
    nodes.next, behind.prev, nodes.count, node.place = behind, nodes, count, false -- as unlink
    if count == 0 then
      machine.check_emptied(m, turn - 1) -- the blocked come in after it has run
    end
    loop.credit = loop.credit - 1
    local ok, err = resume(co, PASSED, node.value)
    if not ok and not has_died(m, node, "passed", node.value, err, reports) then
      return false
    end
  end
  return true
end

local function complete_in_turn(m, last, since, reports)
  local _, err, lost = waits.trip(m, last, since)
  if lost then
    reports[#reports + 1] = add_traceback(err)
  end
  if m.action then
    machine.changed(m) -- it may have run the loop, which has found nothing to do
  end
end

---Lets out and in the parties that are ready in this turn.
function turns.drain(m, turn, reports)
  if m.held == "due" and m.inside_since < turn then
    local _, last = machine.release(m)
    complete_in_turn(m, last, turn - 1, reports)
  end
  while pass(m, turn, reports) do
    local node, outcome = next_node(m, turn)
    if not node or not notify(m, node, outcome, reports) then
      break
    end
  end
  local full, last = admit(m, turn)
  if full then
    complete_in_turn(m, last, turns.turn, reports)
  end
  machine.keep_phase(m)
  turns.enqueue(m)
end

---Calls schedule(drain).
---@return boolean ok false if that failed and the parties are still to be let out
local function hand_over(m, reports)
  local pending = m
  local function drain()
    local owner = pending
    if owner then
      turns.request(owner) -- for loops that run inside, and should this fail
      pending = nil
      local ok, err = waits.call(turns.run_alone, owner)
      if not ok then
        error(err, 0)
      end
    end
  end
  turns.dismiss(m)
  local ok, err = xpcall(function()
    m.schedule(drain)
  end, add_traceback)
  if not ok then
    reports[#reports + 1] = err
  end
  return ok or not pending
end

function turns.serve(m, turn, reports)
  if not m.schedule then
    turns.drain(m, turn, reports)
  elseif not hand_over(m, reports) then
    turns.request(m)
    turns.drain(m, turn, reports)
  end
end

---}===
