---The turns of the loop, as the contract has them: which parties a turn lets out and in, in which
---order, and what each of them gets.
local lists = require "spec.model.lists"
local model = require "spec.model.model"

local M = {}

M.CREDIT = 512 -- so many barriers and parties are served before the rest of the loop

---@class model.Turn
---@field number integer
---@field only model.Barrier? the one that it serves
---@field barrier model.Barrier? the one that is being served
---@field phase "offer"|"offered"|"serve"|"served"
---@field reports string[] uncaught errors

---@class model.Event what has to happen next
---@field kind "end"|"action"|"schedule"
---@field barrier model.Barrier?
---@field party model.Party? whose wait ends
---@field outcome string? how it ends

---{=== beginning and ending

---The loop calls back: a turn, which serves what is ready now.
function M.begin_turn(world)
  model.expire(world)
  world.clock = world.clock + 1
  table.insert(world.turns, { number = world.clock, reports = {} })
end

---drain() of this barrier is called, which is a turn for it alone. False: it does nothing.
function M.begin_drain(b)
  if not model.busy(b) then
    return false
  end
  model.request(b)
  b.world.clock = b.world.clock + 1
  table.insert(b.world.turns, { number = b.world.clock, only = b, reports = {} })
  return true
end

---The loop has served all else.
function M.renew(world)
  world.credit = M.CREDIT
end

local function spend(world)
  world.credit = math.max(world.credit - 1, 0)
end

---@return string[] reports the uncaught errors
function M.end_turn(world)
  return lists.remove_at(world.turns, #world.turns).reports
end

---schedule() raised an error: its waiters are let out in this turn, unless it has
---called drain().
function M.refused(b, problem, drained)
  local turn = b.world.turns[#b.world.turns]
  table.insert(turn.reports, problem)
  if not drained then
    model.request(b)
    turn.phase = "serve"
  end
end

---}=== {=== which party leaves next

---The first party that left early.
---@return model.Entry?
local function next_leaving(b, number)
  local at = model.first_leaving(b)
  if at and b.leaving[at].since < number then
    return lists.remove_at(b.leaving, at)
  end
end

---What the first party inside gets, now that it leaves.
local function outcome_inside(b, party)
  if party.failure then
    return party.failure
  elseif b.state == "draining" then
    return "position " .. party.position
  end
  return b.state == "resetting" and "BrokenBarrierError: barrier reset" or model.aborted(b)
end

---The first of those inside.
---@return model.Entry?
local function next_inside(b, number)
  local at = model.first_inside(b)
  if at and b.inside_since < number then
    local party = lists.remove_at(b.inside, at)
    local entry = { party = party, outcome = outcome_inside(b, party) }
    model.clear_deadline(b, party)
    model.check_empty(b, number - 1) -- the blocked come in this turn, after it has run
    return entry
  end
end

---The first of the blocked of a broken barrier. Arrivals that do not wait are forgotten.
---@return model.Entry?
local function next_failed(b, number)
  while b.state == "broken" and b.blocked[1] and b.blocked_since < number do
    local party = lists.remove_at(b.blocked, 1)
    if party.kind then
      model.clear_deadline(b, party)
      return { party = party, outcome = model.aborted(b) }
    end
  end
end

---@return model.Entry?
local function next_notice(b, number)
  if b.notices[1] and b.notices[1].since < number then
    model.clear_deadline(b, b.notices[1].party)
    return lists.remove_at(b.notices, 1)
  end
end

---}=== {=== serving

---No Lua code learns of it: the coroutine dies of its error.
local function goes_unheard(entry)
  return entry.reported or (entry.party.kind == "bare"
    and not entry.outcome:find "^position" and not entry.outcome:find "^generation")
end

---The turn of a trip that was deferred has come; it stands, whatever party has left.
---@return model.Event?
local function resume_trip(b, number)
  local held = b.held
  held.deferred, held.turn, held.early = false, number, number - 1
  if b.acts then
    return { kind = "action", barrier = b }
  else
    b.held = nil
    model.pass(b, held)
  end
end

---The blocked come in, and may trip the barrier.
---@return model.Event?
local function let_in(b, number)
  local full, last = model.admit(b, number)
  if not full then
    return nil
  end
  local held = { last = last, turn = number }
  if b.acts then
    b.held = held
    model.check_phase(b)
    return { kind = "action", barrier = b }
  end
  model.pass(b, held)
end

---One step of serving a barrier.
---@return model.Event?
local function serve(b, turn)
  local number = turn.number
  if b.held and b.held.deferred and b.held.since < number then
    return resume_trip(b, number)
  end
  local entry = next_leaving(b, number) or next_inside(b, number) or next_failed(b, number)
    or next_notice(b, number)
  if not entry then
    turn.phase = "served"
    return let_in(b, number)
  end
  spend(b.world)
  if not goes_unheard(entry) then
    return { kind = "end", party = entry.party, outcome = entry.outcome }
  elseif entry.outcome ~= model.CANCELLED then
    table.insert(turn.reports, entry.outcome)
  end
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
  spend(world)
  model.dismiss(b)
  model.enqueue(b)
  turn.barrier, turn.phase = b, b.schedules and "offer" or "serve"
  return b
end

---One step of a turn.
---@return model.Event?
local function step(turn)
  local b = turn.barrier
  if turn.phase == "serve" then
    return serve(b, turn)
  elseif turn.phase == "offer" then
    model.dismiss(b)
    turn.phase = "offered"
    return { kind = "schedule", barrier = b }
  elseif turn.phase == "served" then
    model.request(b)
  end
  if not model.busy(b) then
    model.dismiss(b)
  end
  turn.barrier = nil
end

---The loop's call goes on with another turn, for parties that have become ready meanwhile, unless
---there is an error to report, or the rest of the loop has to be served.
local function go_on(world, turn)
  if turn.only ~= nil or #turn.reports > 0 or world.credit == 0 or not world.queue[1] then
    return false
  end
  world.clock = world.clock + 1
  turn.number = world.clock
  return true
end

---What has to happen next in the innermost turn; nil: the call is over.
---@return model.Event?
function M.next(world)
  local turn = world.turns[#world.turns]
  while turn and (turn.barrier or pick(world, turn) or go_on(world, turn)) do
    local event = turn.barrier and step(turn)
    if event then
      return event
    end
  end
end

---}===

return M
