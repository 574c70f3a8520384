---The contract as plain lists, and deliberately simple: who is let out next, and what
---it gets. It shares nothing with the C core.
---
---It is passive. Who uses it tells it what happens (somebody arrives, a turn begins, ...)
---and asks it, turn by turn, what has to happen next (`M.next`).
local M = {}

---@class model.Party
---@field kind "coroutine"|"bare"|"callback" bare: a coroutine that catches no error
---@field timeout integer?
---@field arrival integer? its rank among all arrivals
---@field position integer? given at the trip
---@field deadline integer? on the loop's clock
---@field done string? how its wait ended, where that was not in a turn
---@field failure string? what it gets instead of its position

---@class model.Leaver who left early, or never got in, and has to be told
---@field party model.Party
---@field outcome string
---@field since integer the turn in which it left
---@field out boolean is it no longer in waiters()?

---@class model.Held the action runs
---@field runner model.Party? the last arrival, if it did not have to be let in
---@field last model.Party? the last arrival, if it was let in
---@field verdict string? what threw the runner out
---@field gone boolean? the runner was taken out

---@class model.Turn
---@field number integer
---@field only model.Barrier? the one that it serves
---@field barrier model.Barrier? the one that is being served
---@field phase "offer"|"offered"|"serve"|"served"
---@field reports string[] errors that nobody caught

---@class model.Barrier
---@field since integer? the turn in which it was queued; nil: it is not
---@field inside_since integer the turn in which those inside were let go
---@field blocked_since integer the turn in which the blocked could come in, or failed

---@class model.World
---@field clock integer the number of the last turn
---@field queue model.Barrier[] who has somebody to let out or in, in this order
---@field timed model.Party[] who has a deadline, in order of arrival
---@field turns model.Turn[] those that are in progress, the innermost last
---@field now fun(): integer the loop's clock

local CANCELLED = "CancelledError: wait cancelled"
local TIMED_OUT = "TimeoutError: wait timed out"
local RESET = "BrokenBarrierError: barrier reset"

---@param now fun(): integer
---@return model.World
function M.world(now)
  return { clock = 0, queue = {}, timed = {}, turns = {}, now = now }
end

---@param acts boolean has it an action?
---@param schedules boolean has it the option `schedule`?
---@return model.Barrier
function M.barrier(world, parties, acts, schedules)
  return {
    world = world,
    parties = parties,
    acts = acts,
    schedules = schedules,
    state = "filling",
    generation = 0,
    arrivals = 0,
    inside = {},
    blocked = {},
    leaving = {},
    inside_since = 0,
    blocked_since = 0,
  }
end

local function find(list, value)
  for i, other in ipairs(list) do
    if other == value then
      return i
    end
  end
end

---As table.remove, with which LuaJIT 2.1.0-beta3 crashes here.
local function remove_at(list, at)
  local value = list[at]
  for i = at, #list do
    list[i] = list[i + 1]
  end
  return value
end

local function remove(list, value)
  local i = find(list, value)
  if i then
    remove_at(list, i)
  end
  return i ~= nil
end

---{=== the queue of barriers

---Is there somebody to be told, or to be let in?
local function busy(b)
  return #b.leaving > 0
    or (b.state ~= "filling" and #b.inside > 0)
    or (#b.blocked > 0 and (b.state == "broken" or (b.state == "filling" and not b.held)))
end

local function dismiss(b)
  if b.since then
    b.since = nil
    remove(b.world.queue, b)
  end
end

local function request(b)
  if not b.since and busy(b) then
    b.since = b.world.clock
    table.insert(b.world.queue, b)
  end
end

---}=== {=== coming and going

local function set_deadline(b, party)
  if party.timeout then
    party.deadline = b.world.now() + party.timeout
    table.insert(b.world.timed, party)
  end
end

local function clear_deadline(b, party)
  if party.deadline then
    party.deadline = nil
    remove(b.world.timed, party)
  end
end

---Draining and resetting end when nobody is left inside. The blocked may come in, or
---fail, in the turns after `since`.
local function check_empty(b, since)
  if #b.inside == 0 and (b.state == "draining" or b.state == "resetting") then
    b.state, b.blocked_since = "filling", since
  end
end

local function trip(b)
  b.state, b.generation, b.inside_since = "draining", b.generation + 1, b.world.clock
  for i, party in ipairs(b.inside) do
    party.position = i - 1
  end
  check_empty(b, b.world.clock)
end

---The last arrival passes.
local function pass(b, party)
  if party.kind == "callback" then
    table.insert(b.inside, party)
  else
    party.done = "position " .. b.parties - 1
  end
  trip(b)
end

local function leave_later(b, party, outcome, out)
  table.insert(b.leaving,
    { party = party, outcome = outcome, since = b.world.clock, out = out })
end

---Its wait ends with an error before it has got in: at once for a coroutine.
local function turn_away(b, party, outcome)
  if party.kind == "callback" then
    leave_later(b, party, outcome, true)
  else
    party.done = outcome
  end
end

local function aborted(b)
  return "BrokenBarrierError: barrier aborted"
    .. (b.reason == nil and "" or ": " .. tostring(b.reason))
end

local function enter(b, list, party)
  set_deadline(b, party)
  table.insert(list, party)
end

---A party waits. If `b.held` is set afterwards, the action has to run now, and then
---`M.acted` to be called.
function M.arrive(b, party)
  b.arrivals = b.arrivals + 1
  party.arrival, party.barrier = b.arrivals, b
  if b.state == "broken" then
    turn_away(b, party, aborted(b))
    if party.kind == "callback" then
      request(b)
    end
  elseif b.state ~= "filling" or b.held or #b.blocked > 0 then
    enter(b, b.blocked, party)
  elseif #b.inside + 1 < b.parties then
    enter(b, b.inside, party)
  elseif b.acts then
    b.held = { runner = party }
    return
  else
    pass(b, party)
    if b.parties > 1 or party.kind == "callback" then
      request(b)
    end
  end
end

---Takes a party that is inside or blocked out; was it?
local function take(b, party)
  if remove(b.inside, party) then
    check_empty(b, b.world.clock)
  elseif not remove(b.blocked, party) then
    return false
  end
  clear_deadline(b, party)
  return true
end

local function take_leaving(b, party)
  for i, leaver in ipairs(b.leaving) do
    if leaver.party == party then
      remove_at(b.leaving, i)
      return true
    end
  end
  return false
end

---Is it the last arrival that runs the action? It is in the barrier, until it is
---taken out.
local function take_runner(b, party)
  if b.held and b.held.runner == party and not b.held.gone then
    b.held.gone, b.held.verdict = true, CANCELLED
    return true
  end
  return false
end

---Closed: it is not told, but `on_close` is called, if it is given.
---@param on_close model.Party?
function M.close(b, party, on_close)
  if on_close then
    leave_later(b, on_close, "closed", true)
    request(b)
  end
  party.closed = true
  if not take_runner(b, party) and (take(b, party) or take_leaving(b, party)) then
    request(b)
  end
end

---Resumed by a stranger.
function M.stranger(b, party)
  M.close(b, party)
  party.done = CANCELLED
end

---@return boolean was it in the barrier, and not leaving?
function M.cancel(b, party)
  if take_runner(b, party) then
    return true
  elseif not take(b, party) then
    return false
  end
  leave_later(b, party, CANCELLED)
  request(b)
  return true
end

---Everybody is there, and the action is about to run for one who was let in; what
---threw the runner out is noted by reset and abort.
local function throw_out(b, verdict)
  if b.held and b.held.runner and not b.held.gone then
    b.held.verdict = verdict
  end
end

function M.abort(b, reason)
  throw_out(b, "aborted")
  if b.state == "filling" then
    b.inside_since = b.world.clock
  end
  if b.state ~= "broken" then
    b.blocked_since = b.world.clock
  end
  b.state, b.reason = "broken", reason
  request(b)
end

function M.reset(b)
  throw_out(b, RESET)
  if #b.inside == 0 then
    b.state = "filling"
  else
    if b.state == "filling" then
      b.inside_since = b.world.clock
    end
    b.state = "resetting"
  end
  b.reason = nil
  request(b)
end

---}=== {=== the action

---An error that nobody caught in this turn.
function M.report(world, problem)
  table.insert(world.turns[#world.turns].reports, problem)
end

---What becomes of a last arrival that did not have to be let in.
local function runner_acted(b, held, problem)
  local party = held.runner
  if problem then
    M.abort(b, problem)
    turn_away(b, party, problem)
  elseif held.verdict == "aborted" then
    turn_away(b, party, aborted(b))
  elseif held.verdict then
    if not party.closed then
      turn_away(b, party, held.verdict)
    end
  elseif #b.inside + 1 == b.parties then
    pass(b, party)
  else -- somebody left meanwhile: it goes on waiting, ahead of those who came
    enter(b, b.inside, party)
  end
end

---What becomes of one that was let in.
local function last_acted(b, last, full, problem)
  if problem then
    if find(b.inside, last) then
      last.failure = problem
    else
      M.report(b.world, problem)
    end
    M.abort(b, problem)
  elseif full then
    trip(b)
  end
end

---The action has ended.
---@param problem string? its error
function M.acted(b, problem)
  local held = b.held
  local full = b.state == "filling" and #b.inside == b.parties
  b.held = nil
  if b.state == "filling" then
    b.blocked_since = b.world.clock
  end
  if held.runner then
    runner_acted(b, held, problem)
  else
    last_acted(b, held.last, full, problem)
  end
  request(b)
end

---}=== {=== turns

---Does its timeout still count?
local function waits(b, party)
  return (b.state == "filling" and find(b.inside, party))
    or (b.state ~= "broken" and find(b.blocked, party))
end

---Those whose time has come leave: by time, then by order of arrival.
local function expire(world)
  local now, due = world.now(), {}
  for order, party in ipairs(world.timed) do
    if party.deadline <= now then
      due[#due + 1] = { party = party, order = order }
    end
  end
  table.sort(due, function(x, y)
    local a, b = x.party.deadline, y.party.deadline
    return a < b or (a == b and x.order < y.order)
  end)
  for _, entry in ipairs(due) do
    local party = entry.party
    local b = party.barrier
    clear_deadline(b, party)
    if waits(b, party) then
      take(b, party)
      leave_later(b, party, TIMED_OUT)
      request(b)
    end
  end
end

---The loop calls back: a turn, which serves what is ready now.
function M.begin_turn(world)
  expire(world)
  world.clock = world.clock + 1
  table.insert(world.turns, { number = world.clock, reports = {} })
end

---drain() of this barrier is called, which is a turn for it alone. False: it does nothing.
function M.begin_drain(b)
  if not busy(b) then
    return false
  end
  request(b)
  b.world.clock = b.world.clock + 1
  table.insert(b.world.turns, { number = b.world.clock, only = b, reports = {} })
  return true
end

---@return string[] reports the errors that nobody caught
function M.end_turn(world)
  return remove_at(world.turns, #world.turns).reports
end

---The next barrier of this turn; false if there is none.
local function pick(world, turn)
  if turn.only then
    turn.barrier, turn.only, turn.phase = turn.only, false, "serve"
    return turn.barrier
  end
  local b = turn.only == nil and world.queue[1]
  if not b or b.since >= turn.number then
    return false
  end
  dismiss(b) -- behind the others
  b.since = world.clock
  table.insert(world.queue, b)
  turn.barrier, turn.phase = b, b.schedules and "offer" or "serve"
  return b
end

---What the first of those inside gets, now that it leaves.
local function outcome_inside(b, party)
  if party.failure then
    return party.failure
  elseif b.state == "draining" then
    return "position " .. party.position
  end
  return b.state == "resetting" and RESET or aborted(b)
end

---Takes out who leaves next in this turn: those who left early, those inside, and the
---blocked of a broken barrier.
---@return model.Party?, string? outcome
local function leaver(b, number)
  local first = b.leaving[1]
  if first and first.since < number then
    remove_at(b.leaving, 1)
    return first.party, first.outcome
  end
  local party, outcome
  if b.state ~= "filling" and b.inside[1] and b.inside_since < number then
    party = remove_at(b.inside, 1)
    outcome = outcome_inside(b, party)
    check_empty(b, number - 1) -- the blocked come in this turn, after it has run
  elseif b.state == "broken" and b.blocked[1] and b.blocked_since < number then
    party, outcome = remove_at(b.blocked, 1), aborted(b)
  end
  if party then
    clear_deadline(b, party)
  end
  return party, outcome
end

---Lets the blocked in; is the barrier full then?
local function admit(b, number)
  if b.state ~= "filling" or b.held or not b.blocked[1] or b.blocked_since >= number then
    return false
  end
  while b.blocked[1] and #b.inside < b.parties do
    table.insert(b.inside, remove_at(b.blocked, 1))
  end
  return #b.inside == b.parties
end

---Nobody hears of it in Lua: a coroutine that dies of its error, an error for a Waiter
---that was closed.
local function goes_unheard(party, outcome)
  return party.closed or (party.kind == "bare" and not outcome:find "^position")
end

---Lets out and in whoever is ready, of the barrier that is being served.
---@return table? event
local function serve(b, turn)
  local party, outcome = leaver(b, turn.number)
  if party then
    if not goes_unheard(party, outcome) then
      return { kind = "end", party = party, outcome = outcome }
    end
    table.insert(turn.reports, outcome)
    return nil
  end
  turn.phase = "served"
  if admit(b, turn.number) then
    if b.acts then
      b.held = { last = b.inside[#b.inside] }
      return { kind = "action", barrier = b }
    end
    trip(b)
  end
end

---What has to happen next in the innermost turn; nil: it is over.
---@return table? event `kind` "end" (with `party` and `outcome`), "action" or "schedule"
---(with `barrier`)
function M.next(world)
  local turn = world.turns[#world.turns]
  while turn and (turn.barrier or pick(world, turn)) do
    local b, event = turn.barrier, nil
    if turn.phase == "serve" then
      event = serve(b, turn)
    elseif turn.phase == "offer" then
      dismiss(b)
      turn.phase, event = "offered", { kind = "schedule", barrier = b }
    else
      if turn.phase == "served" then
        request(b)
      end
      if not busy(b) then
        dismiss(b)
      end
      turn.barrier = nil
    end
    if event then
      return event
    end
  end
end

---schedule() raised an error: its waiters are let out in this turn, unless it has
---called drain().
function M.refused(b, problem, drained)
  local turn = b.world.turns[#b.world.turns]
  table.insert(turn.reports, problem)
  if not drained then
    request(b)
    turn.phase = "serve"
  end
end

---}=== {=== what can be seen

---Is a turn needed, now or later?
function M.pending(world)
  return #world.queue > 0 or #world.timed > 0
end

---Is a turn needed as soon as the loop runs?
function M.ready(world)
  local now = world.now()
  for _, party in ipairs(world.timed) do
    if party.deadline <= now then
      return true
    end
  end
  return #world.queue > 0
end

---Does the barrier stay though nobody can reach it?
function M.kept(b)
  for _, party in ipairs(b.world.timed) do
    if party.barrier == b then
      return true
    end
  end
  return b.since ~= nil
end

---Those whom waiters() lists.
---@return model.Party[]
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
  if b.held and b.held.runner and not b.held.gone then
    list[#list + 1] = b.held.runner
  end
  table.sort(list, function(x, y)
    return x.arrival < y.arrival
  end)
  return list
end

function M.n_waiting(b)
  if b.state ~= "filling" then
    return 0
  end
  return #b.inside + (b.held and b.held.runner and not b.held.verdict and 1 or 0)
end

---}===

return M
