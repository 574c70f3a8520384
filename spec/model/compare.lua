---Compares what barriers show with what the model expects: methods of model.Run.
local barrier = require "barrier"
local model = require "spec.model.model"
local turns = require "spec.model.turns"

local CROWDED = 20 -- a list of waiters that is not looked at after every step

---@class model.Run
local Run = {}

---Notes the first difference; nothing is done or compared after it.
function Run:fail(...)
  self.failure = self.failure or string.format(...)
  self.over = true
end

---{=== what happens

local function describe(event)
  if not event then
    return "the end of the turn"
  elseif event.kind == "end" then
    return ("party %d: %s"):format(event.party.id, event.outcome)
  end
  return ("%s of barrier %d"):format(event.kind, event.barrier.number)
end

---The next event of the turn has to be this one.
---@return model.Event?
function Run:expect(kind, field, value, what)
  local event = turns.next(self.world)
  if not event or event.kind ~= kind or event[field] ~= value then
    self:fail("%s, expected %s", what, describe(event))
    return nil
  end
  return event
end

---An error of the module's classes, each of which goes to one place only.
local function is_right(run, slot, err)
  return getmetatable(err) == barrier[err.name]
    and rawequal(err.barrier, slot.weak[1])
    and err.message == tostring(err):sub(#err.name + 3, #err.name + 2 + #err.message)
    and not run.errors[err]
end

---An error in words.
function Run:error_of(slot, err)
  if type(err) == "table" and getmetatable(err) then
    if not is_right(self, slot, err) then
      self:fail("an error with a wrong class, barrier or message, or an old one: %s",
        tostring(err))
    end
    self.errors[err] = true
  end
  return tostring(err)
end

---How a wait ended, in words.
function Run:outcome_of(party, err, result)
  if err ~= nil then
    return self:error_of(party.slot, err)
  end
  return (party.watches and "generation " or "position ") .. tostring(result)
end

---What `arrive` or `deregister` has returned.
function Run:check_call(slot, call, name, ...)
  local got = "something else"
  if select("#", ...) == 1 and (...) == true then
    got = "true"
  elseif select("#", ...) == 2 and (...) == nil then
    got = self:error_of(slot, (select(2, ...)))
  end
  if got ~= call.result then
    self:fail("%s returned %s, expected %s", name, got, call.result)
  end
  self:check_acted(slot)
end

---The action has to be called before the last arrival's call returns.
function Run:check_acted(slot)
  local held = slot.model.held
  if held and not held.deferred and not held.runs then
    self:fail("barrier %d: its action was not called", slot.model.number)
  end
end

---}=== {=== what can be seen

function Run:compare_waiters(slot)
  local listed, expected = slot.real:waiters(), model.waiters(slot.model)
  local same = #listed == #expected
  for i, party in ipairs(expected) do
    local waiter = listed[i]
    party.waiter = party.waiter or waiter -- of a wait that has not returned
    same = same and party.waiter == waiter
    if same and type(waiter) ~= "thread" and waiter:is_closing() then
      self:fail("the Waiter of party %d is closing", party.id)
    end
  end
  if not same then
    self:fail("barrier %d: %d waiters, expected %d, or others", slot.model.number, #listed,
      #expected)
  end
end

---A barrier's properties in words.
local function properties(state, n_waiting, n_arrived, generation, parties, broken)
  return ("%s, %d waiting, %d arrived, generation %d, %d parties, %s"):format(state, n_waiting,
    n_arrived, generation, parties, broken and "broken" or "whole")
end

function Run:compare_slot(slot)
  local real, simple = slot.real, slot.model
  local got = properties(real.state, real.n_waiting, real.n_arrived, real.generation,
    real.parties, real.broken)
  local expected = properties(simple.state, model.n_waiting(simple), model.n_arrived(simple),
    simple.generation, simple.parties, simple.state == "broken")
  if got ~= expected then
    self:fail("barrier %d: %s, expected %s", simple.number, got, expected)
  end
  local shown = tostring(real):match "^<barrier%.Barrier object at [%w]+ (.*)>$"
  if shown ~= model.shown(simple) then
    self:fail("barrier %d: %s, expected %s", simple.number, tostring(real), model.shown(simple))
  end
  if #simple.inside + #simple.blocked < CROWDED or self.count % 32 == 0 then
    self:compare_waiters(slot)
  end
end

---Looks at everything.
function Run:look()
  for _, slot in ipairs(self.slots) do
    self:compare_slot(slot)
  end
end

---The loop has to go on while a party has to be served. Otherwise it may go on for one pass.
function Run:compare_loop()
  if not self.uv.virtual then
    return
  end
  local pending = model.pending(self.world)
  if pending and not self.uv.loop_alive() then
    self:fail("the loop would end, though somebody has to be served")
  elseif not pending and #self.world.turns == 0 and self.acting == 0 and self.uv.sleeps() then
    self:fail("the loop would wait, though nobody has to be served")
  end
end

---Looks as often as the script says.
function Run:compare()
  if self.over then
    return
  end
  self:forgive()
  self.chances = self.chances + 1
  if self.every > 0 and self.chances % self.every == 0 then
    self:look()
  end
  self:compare_loop()
end

---What the report of stuck() says of this barrier; nil: nothing.
local function section(report, real)
  local from = report:find(tostring(real), 1, true)
  if from then
    local to = report:find("\n<barrier.Barrier", from, true)
    return report:sub(from, to and to - 1)
  end
end

---How many coroutines the section of a barrier names: equal ones are one entry.
local function count_coroutines(text)
  local count = 0
  for line in text:gmatch "[^\n]+" do
    local n = line:match "^  (%w+) coroutines? [aw]%a+.*:$"
    count = count + (n == "a" and 1 or tonumber(n) or 0)
  end
  return count
end

---A barrier with a party has to be in the report, with each coroutine and how many are missing.
function Run:compare_section(slot, text)
  local b = slot.model
  local named, coroutines = count_coroutines(text), 0
  for _, list in ipairs { model.waiters(b), b.watching } do
    for _, party in ipairs(list) do
      coroutines = coroutines + (party.kind == "callback" and 0 or 1)
    end
  end
  if named ~= coroutines then
    self:fail("barrier %d: stuck() names %d coroutines, expected %d", b.number, named, coroutines)
  end
  local missing = tonumber(text:match "(%-?%d+) missing")
  local right = missing == b.parties - model.n_arrived(b)
  if b.held then -- all have arrived; parties registered since then belong to the next phase
    right = missing and missing >= 0
  end
  if b.state == "filling" and not right then
    self:fail("barrier %d: stuck() says that %s are missing", b.number, tostring(missing))
  end
end

---Exactly the stuck parties have to be in the report.
function Run:compare_stuck()
  local report = barrier.stuck()
  if report ~= nil and type(report) ~= "string" then
    self:fail("stuck() returned a %s", type(report))
    return
  end
  for _, slot in ipairs(self.slots) do
    local text = section(report or "", slot.real)
    local expected = model.is_stuck(slot.model)
    if expected ~= nil and (text ~= nil) ~= expected then
      self:fail("barrier %d is %s stuck()", slot.model.number,
        expected and "missing in" or "named by")
    elseif expected then
      self:compare_section(slot, text)
    end
  end
end

---}=== {=== turns

---The lines of a report that name errors, not what follows in their tracebacks.
local function errors_of(report)
  local list = {}
  for line in (report .. "\n"):gmatch("([^\n]*)\n") do
    if line ~= "" and line ~= "stack traceback:" and line:sub(1, 1) ~= "\t" then
      list[#list + 1] = line
    end
  end
  return list
end

---A turn that was missed is not needed any more.
function Run:forgive()
  if self.missed > 0 and not model.ready(self.world) then
    self.missed = 0
  end
end

---A turn has ended, with an error or without.
function Run:end_turn(ok, err)
  if self.over then
    return
  end
  local event = turns.next(self.world)
  if event then
    self:fail("the end of the turn, expected %s", describe(event))
    return
  end
  local expected = table.concat(turns.end_turn(self.world), "; ")
  self:forgive()
  local reported = table.concat(ok and {} or errors_of(tostring(err)), "; ")
  if reported ~= expected then
    self:fail("reported: %s, expected: %s", reported, expected)
  end
end

---}===

return Run
