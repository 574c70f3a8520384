---The contract as plain lists, and deliberately simple: which party comes in, which one leaves
---next, and what it gets. It shares nothing with the C core.
---
---The model is passive. Its user reports what happens (a party arrives, a turn begins, ...);
---turns.lua says, turn by turn, what has to happen next.
local lists = require "spec.model.lists"

local find, remove, remove_by = lists.find, lists.remove, lists.remove_by

local M = {}

---@class model.Party
---@field kind "coroutine"|"bare"|"callback" bare: a coroutine that catches no error
---@field watches boolean? it awaits the trip, and is no party of it
---@field timeout integer?
---@field arrival integer? its rank among all arrivals
---@field position integer? given at the trip
---@field deadline model.Deadline?
---@field done string? how its wait ended, where that was not in a turn
---@field failure string? the error of the action that it ran, which it gets

---@class model.Blocked a party, or one that arrived without waiting, which is `{}`

---@class model.Entry a party has yet to be notified
---@field party model.Party?
---@field outcome string
---@field reported boolean? no party gets the outcome: the loop reports it as an error
---@field since integer the turn in which it became ready
---@field out boolean? it is not in waiters()

---@class model.Call of `arrive` or `deregister`
---@field result string "true", or the error that is returned

---@class model.Held the trip is decided: the action runs, or the trip is deferred
---@field deferred boolean? the trip waits for its turn
---@field since integer? the turn in which it was deferred
---@field runner model.Party? the last arrival, whose `wait` runs the action
---@field last model.Party? the last arrival, if a turn runs the action
---@field call model.Call? the last arrival, if it does not wait and runs the action
---@field turn integer? the turn that runs the action
---@field early integer? the trip counts as one of this turn
---@field verdict string? the outcome of all parties after the action's reset or abort

---@class model.Deadline
---@field at integer on the loop's clock
---@field barrier model.Barrier
---@field party model.Party? nil: the barrier's option `timeout`

---@class model.World
---@field clock integer the number of the last turn
---@field credit integer so many more are served before the rest of the loop
---@field queue model.Barrier[] with parties to let out or in, in this order
---@field timed model.Deadline[] in the order in which they were set
---@field turns model.Turn[] in progress, the innermost last
---@field now fun(): integer the loop's clock
---@field fresh fun(): integer the loop's clock, brought up to date

---@class model.Options
---@field acts boolean? it has an action
---@field schedules boolean? its waiters resume in drain()
---@field defers boolean? a last arrival in a fast event is deferred
---@field limit integer? the option `timeout`

---@class model.Barrier: model.Options
---@field since integer? the turn in which it was queued; nil: it is not queued
---@field arrived integer how many arrived in this phase without waiting
---@field inside_since integer the turn in which the parties inside were let go
---@field blocked_since integer the turn in which the blocked could come in, or failed
---@field watching model.Party[]
---@field notices model.Entry[] for watchers: the trip that they awaited has come, or failed
---@field phase model.Deadline? of the option `timeout`

M.MOST = 2147483647 -- parties

local CANCELLED = "CancelledError: wait cancelled"
local DISTURBED = CANCELLED .. ": resumed by somebody else"
local RESET = "BrokenBarrierError: barrier reset"

---The one error that is not reported when a coroutine dies of it.
M.CANCELLED = CANCELLED

---@param now fun(): integer
---@param fresh fun(): integer
---@return model.World
function M.world(now, fresh)
  return { clock = 0, credit = 0, queue = {}, timed = {}, turns = {}, now = now, fresh = fresh }
end

---@param parties integer
---@param options model.Options
---@return model.Barrier
function M.barrier(world, parties, options)
  return {
    world = world,
    parties = parties,
    acts = options.acts,
    schedules = options.schedules,
    defers = options.defers,
    limit = options.limit,
    state = "filling",
    generation = 0,
    arrivals = 0,
    arrived = 0,
    inside = {},
    blocked = {},
    leaving = {},
    watching = {},
    notices = {},
    inside_since = 0,
    blocked_since = 0,
  }
end

---The number of arrivals in the phase that is filling.
local function counted(b)
  return b.state == "filling" and #b.inside + b.arrived or 0
end

---{=== the queue of barriers

local function itself(party)
  return party
end

local function party_of(entry)
  return entry.party
end

---The first in the list, but not a last arrival that runs the action: its own `wait` has not
---returned yet.
local function first_free(b, list, party)
  local runner = b.held and b.held.runner
  for i, value in ipairs(list) do
    if not runner or party(value) ~= runner then
      return i
    end
  end
end

---@return integer? at
function M.first_leaving(b)
  return first_free(b, b.leaving, party_of)
end

---@return integer? at
function M.first_inside(b)
  return b.state ~= "filling" and first_free(b, b.inside, itself) or nil
end

---True if a party is to be notified or let in.
function M.busy(b)
  return M.first_leaving(b) ~= nil
    or M.first_inside(b) ~= nil
    or #b.notices > 0
    or (b.held and b.held.deferred or false)
    or (#b.blocked > 0 and (b.state == "broken" or (b.state == "filling" and not b.held)))
end

function M.dismiss(b)
  if b.since then
    b.since = nil
    remove(b.world.queue, b)
  end
end

---Behind the others.
function M.enqueue(b)
  if not b.since then
    b.since = b.world.clock
    table.insert(b.world.queue, b)
  end
end

function M.request(b)
  if M.busy(b) then
    M.enqueue(b)
  end
end

---}=== {=== deadlines

local function add_deadline(b, timeout, party)
  local deadline = { at = b.world.fresh() + timeout, barrier = b, party = party }
  table.insert(b.world.timed, deadline)
  return deadline
end

local function set_deadline(b, party)
  party.deadline = party.timeout and add_deadline(b, party.timeout, party)
end

function M.clear_deadline(b, party)
  if party.deadline then
    remove(b.world.timed, party.deadline)
    party.deadline = nil
  end
end

---The option `timeout` counts while a party is there, and the trip is not decided.
function M.check_phase(b)
  local runs = b.limit and counted(b) > 0 and not b.held
  if runs and not b.phase then
    b.phase = add_deadline(b, b.limit)
  elseif not runs and b.phase then
    remove(b.world.timed, b.phase)
    b.phase = nil
  end
end

---}=== {=== leaving

---Draining and resetting end when no party is left inside. The blocked may come in, or
---fail, in the turns after `since`.
function M.check_empty(b, since)
  if #b.inside == 0 and (b.state == "draining" or b.state == "resetting") then
    b.state, b.blocked_since = "filling", since
  end
end

local function leave_later(b, party, outcome, out)
  table.insert(b.leaving,
    { party = party, outcome = outcome, since = b.world.clock, out = out })
end

function M.aborted(b)
  return "BrokenBarrierError: barrier aborted"
    .. (b.reason == nil and "" or ": " .. tostring(b.reason))
end

---Takes out a party that is not leaving yet. False if it is not there.
local function take(b, party)
  if remove(b.inside, party) then
    M.check_empty(b, b.world.clock)
    M.check_phase(b)
  elseif not remove(b.blocked, party) and not remove(b.watching, party)
    and not remove_by(b.notices, "party", party) then
    return false
  end
  M.clear_deadline(b, party)
  return true
end

---The party leaves early, and is notified in a later turn.
---@return boolean left it was in the barrier, and not leaving
local function withdraw(b, party, outcome)
  if not take(b, party) then
    return false
  end
  leave_later(b, party, outcome, party.watches)
  M.request(b)
  return true
end

---Closed: it is not notified, but `on_close` is called, if it is given.
---@param on_close model.Party?
function M.close(b, party, on_close)
  if on_close then
    leave_later(b, on_close, "closed", true)
    M.request(b)
  end
  if take(b, party) or remove_by(b.leaving, "party", party) then
    M.request(b)
  end
end

---Resumed by a stranger.
function M.disturb(b, party)
  withdraw(b, party, DISTURBED)
end

---@return boolean was it in the barrier, and not leaving?
function M.cancel(b, party)
  return withdraw(b, party, CANCELLED)
end

---}=== {=== tripping

---Queues `outcome` for all watchers.
local function notify_watchers(b, outcome, since)
  for _, party in ipairs(b.watching) do
    table.insert(b.notices, { party = party, outcome = outcome, since = since })
  end
  b.watching = {}
end

---@param since integer the turn that counts as the one of the trip
local function trip(b, since)
  b.state, b.generation, b.inside_since = "draining", b.generation + 1, since
  b.arrived = 0
  for i, party in ipairs(b.inside) do
    party.position = i - 1
  end
  notify_watchers(b, "generation " .. b.generation, since)
  M.check_phase(b)
  M.check_empty(b, b.world.clock)
end

---All parties pass; a coroutine that is the last arrival passes at once.
---@param held model.Held
function M.pass(b, held)
  trip(b, held.early or b.world.clock)
  local party = held.runner
  if party and party.kind ~= "callback" and remove(b.inside, party) then
    party.done = "position " .. party.position
    M.check_empty(b, b.world.clock)
  end
end

---All parties are there: the trip is decided, and their timeouts count no longer. If `b.held`
---is set afterwards, and not deferred, the action has to run now, and then `M.acted` to be
---called.
---@param held model.Held
local function complete(b, held, fast)
  if held.runner then
    M.clear_deadline(b, held.runner)
  end
  if fast and b.defers then
    b.held = { deferred = true, since = b.world.clock, last = held.runner }
    M.check_phase(b)
    M.request(b)
  elseif b.acts then
    b.held = held
    M.check_phase(b)
  else
    M.pass(b, held)
    M.request(b)
  end
end

---}=== {=== coming

function M.is_blocked(b)
  return b.state ~= "filling" or b.held ~= nil or #b.blocked > 0
end

---@param party model.Party
---@param fast boolean is it a fast event?
function M.wait(b, party, fast)
  b.arrivals = b.arrivals + 1
  party.arrival, party.barrier = b.arrivals, b
  if b.state == "broken" then
    leave_later(b, party, M.aborted(b), true)
    M.request(b)
    return
  end
  set_deadline(b, party)
  if M.is_blocked(b) then
    table.insert(b.blocked, party)
    return
  end
  table.insert(b.inside, party)
  M.check_phase(b)
  if counted(b) >= b.parties then
    complete(b, { runner = party }, fast)
  end
end


function M.await_trip(b, party)
  party.barrier = b
  if b.state == "broken" then
    leave_later(b, party, M.aborted(b), true)
    M.request(b)
  else
    set_deadline(b, party)
    table.insert(b.watching, party)
  end
end

local function is_count(n)
  return type(n) == "number" and n >= 1 and n % 1 == 0
end

---@return boolean legal
function M.register(b, n)
  if not is_count(n) or b.parties + n > M.MOST then
    return false
  end
  b.parties = b.parties + n
  return true
end

---The number of parties that have yet to arrive.
function M.missing(b)
  return b.parties - (b.held and 0 or counted(b))
end

---@param n number how many parties arrive
---@param call model.Call
---@return boolean legal
function M.arrive(b, n, call, fast)
  if not is_count(n) or n > (b.parties > 0 and M.missing(b) or 1) then
    return false
  end
  call.result = "true"
  if b.state == "broken" then
    call.result = M.aborted(b)
  elseif M.is_blocked(b) then
    for _ = 1, n do
      table.insert(b.blocked, {})
    end
  else
    b.arrived = b.arrived + n
    M.check_phase(b)
    if counted(b) >= b.parties then
      complete(b, { call = call }, fast)
    end
  end
  return true
end

---@param call model.Call
---@return boolean legal
function M.deregister(b, n, call, fast)
  if not is_count(n) or n > M.missing(b) then
    return false
  end
  b.parties = b.parties - n
  call.result = "true"
  if b.state == "broken" then
    call.result = M.aborted(b)
  elseif b.state == "filling" and not b.held and counted(b) == b.parties then
    complete(b, { call = call }, fast)
  end
  return true
end

---Lets the blocked in; is the barrier full then?
---@return boolean full
---@return model.Party? last the last one, if it waits
function M.admit(b, number)
  if b.state ~= "filling" or b.held or not b.blocked[1] or b.blocked_since >= number then
    return false
  end
  local last
  while b.blocked[1] and counted(b) < math.max(b.parties, 1) do
    last = lists.remove_at(b.blocked, 1)
    if last.kind then
      table.insert(b.inside, last)
    else
      b.arrived, last = b.arrived + 1, nil
    end
  end
  M.check_phase(b)
  return counted(b) >= b.parties, last
end

---}=== {=== reset and abort

---A trip that is about to come is off.
local function veto(b, verdict)
  if b.held and b.held.deferred then
    b.held, b.blocked_since = nil, b.world.clock
  elseif b.held then
    b.held.verdict = verdict
  end
end

---Watchers that have been let go, but have not resumed, fail as well.
local function fail_watchers(b, outcome)
  for _, entry in ipairs(b.notices) do
    entry.outcome = outcome
  end
  notify_watchers(b, outcome, b.world.clock)
end

function M.abort(b, reason)
  if b.state == "broken" then
    return
  end
  b.reason = reason
  veto(b, M.aborted(b))
  fail_watchers(b, M.aborted(b))
  if b.state == "filling" then
    b.inside_since = b.world.clock
  end
  b.state, b.arrived, b.blocked_since = "broken", 0, b.world.clock
  M.check_phase(b)
  M.request(b)
end

function M.reset(b)
  veto(b, RESET)
  fail_watchers(b, RESET)
  if #b.inside == 0 then
    b.state = "filling"
  else
    if b.state == "filling" then
      b.inside_since = b.world.clock
    end
    b.state = "resetting"
  end
  b.reason, b.arrived = nil, 0
  M.check_phase(b)
  M.request(b)
end

---}=== {=== the action

---True if no party is there to get the reason.
local function is_deserted(b)
  for _, blocked in ipairs(b.blocked) do
    if blocked.kind then
      return false
    end
  end
  return #b.inside + #b.watching + #b.notices == 0
end

---The action has raised an error.
---@param held model.Held
local function fail(b, held, problem)
  local last = held.runner or held.last
  if last and find(b.inside, last) then
    last.failure = problem
  elseif not held.call and is_deserted(b) then
    if held.turn then
      M.report(b.world, problem)
    else
      table.insert(b.leaving,
        { reported = true, outcome = problem, since = b.world.clock, out = true })
    end
  end
  M.abort(b, problem)
end

---The action has ended.
---@param problem string? its error
function M.acted(b, problem)
  local held = b.held
  b.held = nil
  if b.state == "filling" then
    b.blocked_since = b.world.clock
  end
  if problem then
    fail(b, held, problem)
  elseif not held.verdict then
    M.pass(b, held)
  end
  if held.call then
    held.call.result = problem or held.verdict or "true"
  end
  M.request(b)
end

---}=== {=== timeouts

---An error that was not caught in the innermost turn.
function M.report(world, problem)
  table.insert(world.turns[#world.turns].reports, problem)
end

local function how_many(b)
  return ("%d of %d had arrived"):format(counted(b), b.parties)
end

---What a party gets when its time has come.
local function timed_out(b, party)
  return ("TimeoutError: wait timed out after %d ms%s"):format(party.timeout,
    b.state == "filling" and ", " .. how_many(b) or " while the barrier was " .. b.state)
end

---True if its timeout still counts.
local function waits(b, party)
  return (b.state == "filling" and not b.held and find(b.inside, party))
    or (b.state ~= "broken" and find(b.blocked, party))
    or find(b.watching, party)
end

local function come_due(world, deadline)
  local b, party = deadline.barrier, deadline.party
  remove(world.timed, deadline)
  if not party then
    b.phase = nil
    M.abort(b, ("timed out after %d ms, %s"):format(b.limit, how_many(b)))
    return
  end
  party.deadline = nil
  if waits(b, party) then
    withdraw(b, party, timed_out(b, party))
  end
end

---The parties whose time has come leave: by time, then in the order in which they came.
function M.expire(world)
  local now, due = world.now(), {}
  for order, deadline in ipairs(world.timed) do
    if deadline.at <= now then
      due[#due + 1] = { deadline = deadline, order = order }
    end
  end
  table.sort(due, function(x, y)
    local a, b = x.deadline.at, y.deadline.at
    return a < b or (a == b and x.order < y.order)
  end)
  for _, entry in ipairs(due) do
    if find(world.timed, entry.deadline) then
      come_due(world, entry.deadline)
    end
  end
end

---}=== {=== what can be seen

local function is_any_ready(world)
  for _, b in ipairs(world.queue) do
    if M.busy(b) then
      return true
    end
  end
  return false
end

---True if a turn is needed, now or later.
function M.pending(world)
  return #world.timed > 0 or is_any_ready(world)
end

---True if a turn is needed as soon as the loop runs.
function M.ready(world)
  local now = world.now()
  for _, deadline in ipairs(world.timed) do
    if deadline.at <= now then
      return true
    end
  end
  return is_any_ready(world)
end

---True if the barrier stays although the program cannot reach it.
function M.kept(b)
  for _, deadline in ipairs(b.world.timed) do
    if deadline.barrier == b then
      return true
    end
  end
  return b.since ~= nil
end

---The parties that waiters() lists.
---@return model.Party[]
function M.waiters(b)
  local list = {}
  for _, queue in ipairs { b.inside, b.blocked } do
    for _, party in ipairs(queue) do
      list[#list + 1] = party.kind and party
    end
  end
  for _, entry in ipairs(b.leaving) do
    list[#list + 1] = not entry.out and entry.party or nil
  end
  table.sort(list, function(x, y)
    return x.arrival < y.arrival
  end)
  return list
end

function M.n_waiting(b)
  return b.state == "filling" and #b.inside or 0
end

M.n_arrived = counted

---What tostring shows behind the barrier's address.
function M.shown(b)
  if b.state == "broken" then
    return "[broken]"
  end
  return ("[%s, waiters:%d/%d%s]"):format(b.state, M.n_waiting(b), b.parties,
    b.arrived > 0 and ", arrived:" .. counted(b) or "")
end

---True if a party waits; nil: the remaining ones are on their way out.
---@return boolean?
function M.is_stuck(b)
  for _, list in ipairs { b.inside, b.blocked, b.watching } do
    for _, party in ipairs(list) do
      if party.kind then
        return true
      end
    end
  end
  if #b.blocked + #b.notices + #b.leaving + b.arrived == 0 then
    return false
  end
end

---}===

return M
