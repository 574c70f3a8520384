---A script, done on real barriers and told to the model in lock step: what a wait ends
---with, in which order, and every property has to be what the model says, after every
---step, inside coroutines, callbacks and actions, too.
local uv = type(vim) == "table" and (vim.uv or vim.loop) or require "luv"
local barrier = require "barrier"
local core = require "barrier.core"
local loop = require "spec.model.loop"
local model = require "spec.model.model"
local support = require "spec.support"

local M = {}

local DEEPEST = 5 -- how many loops, or actions, may run inside each other
local MOST = 200 -- steps in the course of one, with all those that are done inside
local MANY = 1000 -- parties of a barrier: those that ended are forgotten
local CROWDED = 20 -- a list of waiters that is not looked at after every step

---@class model.Slot a barrier, and what is known of it
---@field model model.Barrier
---@field real userdata? nil: dropped
---@field weak table the barrier, and when it is dropped its coroutines and Waiters
---@field drains table[] those that `schedule` has put by

---@class model.Run
---@field slots model.Slot[]
---@field ghosts model.Slot[] barriers that were dropped
---@field failure string? what differs
local Run = {}
Run.__index = Run

local function weak(value)
  return setmetatable({ value }, { __mode = "v" })
end

---{=== comparing

---Notes the first difference; nothing is done or compared after it.
function Run:fail(...)
  self.failure = self.failure or string.format(...)
  self.over = true
end

local function describe(event)
  if not event then
    return "the end of the turn"
  elseif event.kind == "end" then
    return ("party %d: %s"):format(event.party.id, event.outcome)
  end
  return ("%s of barrier %d"):format(event.kind, event.barrier.number)
end

---The next event of the turn has to be this one.
function Run:expect(kind, field, value, what)
  local event = model.next(self.world)
  if not event or event.kind ~= kind or event[field] ~= value then
    self:fail("%s, expected %s", what, describe(event))
    return nil
  end
  return event
end

---How a wait ended, in words.
function Run:outcome_of(slot, err, position)
  if err == nil then
    return "position " .. tostring(position)
  end
  local class = type(err) == "table" and getmetatable(err)
  if class and (class ~= barrier[err.name] or not rawequal(err.barrier, slot.weak[1])) then
    self:fail("an error with a wrong class or barrier: %s", tostring(err))
  end
  return tostring(err)
end

function Run:compare_waiters(slot)
  local listed, expected = slot.real:waiters(), model.waiters(slot.model)
  local same = #listed == #expected
  for i, party in ipairs(expected) do
    party.waiter = party.waiter or listed[i] -- of a wait that has not returned
    same = same and party.waiter == listed[i]
  end
  if not same then
    self:fail("barrier %d: %d waiters, expected %d, or others", slot.model.number, #listed,
      #expected)
  end
end

function Run:compare_slot(slot)
  local real, simple = slot.real, slot.model
  local n_waiting = model.n_waiting(simple)
  if real.state ~= simple.state or real.n_waiting ~= n_waiting
    or real.generation ~= simple.generation or real.parties ~= simple.parties
    or real.broken ~= (simple.state == "broken") then
    self:fail("barrier %d: %s %d %d, expected %s %d %d", simple.number, real.state,
      real.n_waiting, real.generation, simple.state, n_waiting, simple.generation)
  end
  if #simple.inside + #simple.blocked < CROWDED or self.count % 32 == 0 then
    self:compare_waiters(slot)
  end
end

function Run:compare()
  if self.over then
    return
  end
  self:forgive()
  for _, slot in ipairs(self.slots) do
    self:compare_slot(slot)
  end
  if self.uv.virtual and model.pending(self.world) and not self.uv.loop_alive() then
    self:fail("the loop would end, though somebody has to be served")
  end
end

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
  local event = model.next(self.world)
  if event then
    self:fail("the end of the turn, expected %s", describe(event))
    return
  end
  local expected = table.concat(model.end_turn(self.world), "; ")
  self:forgive()
  local reported = table.concat(ok and {} or errors_of(tostring(err)), "; ")
  if reported ~= expected then
    self:fail("reported: %s, expected: %s", reported, expected)
  end
end

---}=== {=== the loop

---A turn begins: the core's timer calls back.
function Run:turn(callback)
  self.turns, self.missed = self.turns + 1, 0
  if not self.over then
    model.begin_turn(self.world)
  end
  self:end_turn(pcall(callback))
end

---Gives the core this loop's functions, and hears of its turns.
function Run:bind()
  local functions = { timer_start = function(timer, timeout, period, callback)
    return self.uv.timer_start(timer, timeout, period, function()
      self:turn(callback)
    end)
  end }
  for _, name in ipairs { "timer_stop", "idle_start", "idle_stop", "is_closing", "now" } do
    functions[name] = self.uv[name]
  end
  for _, name in ipairs { "new_timer", "new_idle" } do
    functions[name] = function()
      local handle = self.uv[name]()
      table.insert(self.handles, handle)
      return handle
    end
  end
  core.bind(functions)
end

---The core makes new handles next time.
function Run:close()
  for _, handle in ipairs(self.handles) do
    uv.close(handle)
  end
  uv.run "nowait"
end

---Runs the loop once. If somebody has to be served a turn has to come, or in the next pass:
---for the sake of others the core lets one go by now and then.
function Run:pass(mode)
  local needed, before = model.ready(self.world), self.turns
  self.depth = self.depth + 1
  self.uv.run(mode)
  self.depth = self.depth - 1
  if needed and self.turns == before then
    self.missed = self.missed + 1
  end
  if self.missed > 1 then
    self:fail("a wake-up is lost")
  elseif self.uv.virtual and self.uv.is_starved() then
    self:fail("the rest of the loop starves")
  end
end

---}=== {=== waits

function Run:boom()
  self.booms = self.booms + 1
  return "boom " .. self.booms
end

---A coroutine is about to die of this error: whoever resumed it gets it.
function Run:dies(party, problem)
  local thread = party.thread
  if thread and thread.resumer == "stranger" then
    thread.death = problem
  else
    model.report(self.world, problem)
  end
end

---A wait without pcall that ends with an error at once kills its coroutine.
function Run:check_doomed(party)
  if party.kind == "bare" and party.done and not party.done:find "^position" then
    party.ended = true
    self:dies(party, party.done)
  end
end

---A wait has ended: it has to be its turn, and the outcome the expected one. Then the party
---does what its script says. `thread` is where it may wait again.
function Run:ended(party, outcome, thread)
  if self.over then
    return
  end
  local expected = party.done
  if not expected then
    local event = self:expect("end", "party", party,
      ("party %d: %s"):format(party.id, outcome))
    expected = event and event.outcome
    if party.thread then
      party.thread.resumer = "loop"
    end
  end
  party.ended = true
  if expected and expected ~= outcome then
    self:fail("party %d: %s, expected %s", party.id, outcome, expected)
  end
  self:compare()
  self:steps(party.inner, thread)
  if party.dies and not self.over then
    local problem = self:boom()
    self:dies(party, problem)
    error(problem, 0)
  end
end

local function real_wait(party)
  local b = party.slot.real
  if party.timeout then
    return b:wait(party.timeout)
  end
  return b:wait()
end

local function finish(run, party, ok, result)
  local outcome = run:outcome_of(party.slot, not ok and (result or "nil") or nil, result)
  return run:ended(party, outcome, party.thread)
end

---In the coroutine of `thread`, which is the running one.
function Run:wait_here(party, thread)
  party.thread, party.waiter, thread.party = thread, thread.co, party
  model.arrive(party.slot.model, party)
  self:check_doomed(party)
  if party.kind == "bare" then
    return finish(self, party, true, real_wait(party))
  end
  return finish(self, party, pcall(real_wait, party))
end

---Resumes a coroutine that expects it from a stranger, or that is new. It gets back the
---error that the coroutine dies of, and nothing else.
function Run:resume(thread, ...)
  local result = { coroutine.resume(thread.co, ...) }
  local expected = thread.death
  thread.death = nil
  if self.over then
    return
  end
  if #result > (expected and 2 or 1) or result[1] ~= (expected == nil)
    or (expected and tostring(result[2]) ~= expected) then
    self:fail("the coroutine gave %s %s, expected %s", tostring(result[1]), tostring(result[2]),
      tostring(expected))
  end
end

function Run:wait_in_coroutine(party, thread)
  if thread then
    self.rethreads = true
    thread.co = coroutine.running()
    return self:wait_here(party, thread)
  end
  thread = { resumer = "stranger" }
  thread.co = coroutine.create(function()
    self:wait_here(party, thread)
  end)
  self:resume(thread, "ignored")
end

function Run:wait_with_callback(party)
  local slot = party.slot
  local function callback(...)
    if self.over then
      return
    end
    local err, position = ...
    if select("#", ...) ~= (err == nil and 2 or 1) then
      self:fail("a callback got %d arguments", select("#", ...))
    end
    self:ended(party, self:outcome_of(slot, err, position))
  end
  model.arrive(slot.model, party)
  local b = slot.real
  local waiter = party.timeout and b:wait(party.timeout, callback) or b:wait(callback)
  if party.waiter and party.waiter ~= waiter then
    self:fail("waiters() had another Waiter than wait returned")
  end
  if slot.real then
    party.waiter = waiter
  end
end

---The barrier's action is called: by a last arrival that is told to the model already, or
---in a turn.
function Run:act(slot)
  if self.over then
    return
  end
  local held = slot.model.held
  if not held or held.runs then
    if not self:expect("action", "barrier", slot.model,
        "action of barrier " .. slot.model.number) then
      return
    end
    held = slot.model.held
  end
  held.runs = true
  slot.acts = slot.acts + 1
  local act = slot.spec.actions[(slot.acts - 1) % #slot.spec.actions + 1]
  self:compare()
  self.acting = self.acting + 1
  if self.acting <= DEEPEST then
    self:steps(act.inner)
  end
  self.acting = self.acting - 1
  if self.over then
    return
  end
  local problem = act.dies and self:boom() or nil
  model.acted(slot.model, problem)
  if held.runner then
    self:check_doomed(held.runner)
  end
  if problem then
    error(problem, 0)
  end
end

---}=== {=== the option `schedule`

---Calls drain(), which may have been called before.
function Run:drain(slot, entry)
  local began = not entry.used and model.begin_drain(slot.model)
  entry.used = true
  local ok, err = pcall(entry.drain)
  if began then
    self:end_turn(ok, err)
  elseif not ok then
    self:fail("drain() raised %s", tostring(err))
  end
end

---The barrier's schedule(drain) is called.
function Run:schedule(slot, drain)
  if self.over then
    drain()
    return
  end
  if not self:expect("schedule", "barrier", slot.model,
      "schedule of barrier " .. slot.model.number) then
    return
  end
  slot.offers = slot.offers + 1
  local offer = slot.spec.schedules[(slot.offers - 1) % #slot.spec.schedules + 1]
  local how = self.finishing and "now" or offer.how
  local entry = { drain = drain, used = false }
  self:steps(offer.inner)
  if how == "now" or how == "twice" then
    self:drain(slot, entry)
  end
  if how == "later" or how == "twice" then
    table.insert(slot.drains, entry)
  end
  if offer.dies and not self.over then
    local problem = self:boom()
    model.refused(slot.model, problem, entry.used)
    error(problem, 0)
  end
end

---}=== {=== barriers

function Run:new_slot(spec)
  self.made = self.made + 1
  local slot = { spec = spec, parties = {}, drains = {}, acts = 0, offers = 0 }
  slot.model = model.barrier(self.world, spec.parties, spec.actions ~= nil,
    spec.schedules ~= nil)
  slot.model.number = self.made
  slot.real = barrier.new(spec.parties, {
    action = spec.actions and function(b)
      if not rawequal(b, slot.weak[1]) then
        self:fail("the action got something else than its barrier")
      end
      self:act(slot)
    end or nil,
    schedule = spec.schedules and function(drain)
      self:schedule(slot, drain)
    end or false,
  })
  slot.weak = weak(slot.real)
  return slot
end

---Nothing here refers to the barrier, its Waiters and coroutines any more.
local function forget(slot)
  for _, party in ipairs(slot.parties) do
    if not party.ended then
      table.insert(slot.weak, party.waiter)
      party.waiter = nil
      if party.thread then
        party.thread.co = nil
      end
    end
  end
  slot.real, slot.parties = nil, {}
end

local function is_gone(slot)
  return next(slot.weak) == nil
end

local function has_drains(slot)
  for _, entry in ipairs(slot.drains) do
    if not entry.used then
      return true
    end
  end
  return false
end

---Collects garbage: barriers that were dropped have to be there still, or, unless
---something here may refer to them by chance, must not.
function Run:collect(must_go)
  collectgarbage()
  collectgarbage()
  for i = #self.ghosts, 1, -1 do
    local slot = self.ghosts[i]
    if model.kept(slot.model) or has_drains(slot) then
      if not slot.weak[1] then
        self:fail("barrier %d was collected too early", slot.model.number)
      end
    elseif is_gone(slot) then
      table.remove(self.ghosts, i)
    elseif must_go then
      self:fail("barrier %d was not collected", slot.model.number)
    end
  end
end

---}=== {=== steps

local steps = {}

local function waiting(parties)
  local list = {}
  for _, party in ipairs(parties) do
    if not party.ended then
      list[#list + 1] = party
    end
  end
  return list
end

function steps:arrive(step, thread)
  for _ = 1, step.count do
    self.parties = self.parties + 1
    local slot = self.slots[step.barrier]
    local party = { id = self.parties, kind = step.style, slot = slot, inner = step.inner,
      dies = step.dies, timeout = step.timeout }
    table.insert(slot.parties, party)
    if #slot.parties > MANY then
      slot.parties = waiting(slot.parties)
    end
    if step.style == "callback" then
      self:wait_with_callback(party)
    else
      if step.style == "coroutine" and not support.pcall_yields then
        party.kind = "bare"
      end
      self:wait_in_coroutine(party, step.again and thread or nil)
    end
    if self.over then
      return
    end
  end
end

---Is it a coroutine that is suspended in its wait?
local function is_suspended(party)
  return not party.ended and coroutine.status(party.waiter) == "suspended"
end

---A party of this barrier, or nil: one that waits in a callback, or a coroutine. It may have
---left long ago, unless it has to be a suspended coroutine.
function Run:pick(step, callback, suspended)
  local slot = self.slots[step.barrier]
  local list, held = slot.parties, slot.model.held
  if held and step.number % 3 == 0 then -- somebody whom the action can hardly miss
    list = { held.runner or held.last }
  end
  for i = 0, math.min(#list, 30) - 1 do
    local party = list[(step.number + i) % #list + 1]
    local thread = party.thread
    if party.waiter and (thread == nil) == callback and (not thread or thread.party == party)
      and (not suspended or is_suspended(party)) then
      return party
    end
  end
end

local function close_coroutine(self, step)
  local party = self:pick(step, false, true)
  if party then
    party.ended = true
    model.close(party.slot.model, party)
    if not coroutine.close(party.waiter) then
      self:fail("coroutine.close failed")
    end
  end
end

---waiter:close(), or coroutine.close where there is one.
function steps:close(step)
  if coroutine.close and step.style ~= "callback" then
    close_coroutine(self, step)
    return
  end
  local party = self:pick(step, true)
  if not party then
    return
  end
  local on_close
  if step.number % 2 == 0 then
    self.parties = self.parties + 1
    on_close = { id = self.parties, kind = "callback", inner = step.inner, dies = step.dies }
  end
  party.ended = true
  model.close(party.slot.model, party, on_close)
  party.waiter:close(on_close and function(...)
    if select("#", ...) > 0 then
      self:fail("on_close got arguments")
    end
    self:ended(on_close, "closed")
  end)
end

---A stranger resumes a coroutine.
function steps:leave(step)
  local party = self:pick(step, false, true)
  if party then
    party.thread.resumer = "stranger"
    model.stranger(party.slot.model, party)
    self:check_doomed(party)
    self:resume(party.thread, "values", 1)
  end
end

function steps:cancel(step)
  local party = self:pick(step, false)
  if party then
    local expected = model.cancel(party.slot.model, party)
    if self.slots[step.barrier].real:cancel(party.waiter) ~= expected then
      self:fail("cancel of party %d, expected %s", party.id, tostring(expected))
    end
  end
end

local REASONS = { "why", false, 7 }

function steps:abort(step)
  local reason = REASONS[step.number % 4]
  model.abort(self.slots[step.barrier].model, reason)
  self.slots[step.barrier].real:abort(reason)
end

function steps:reset(step)
  model.reset(self.slots[step.barrier].model)
  self.slots[step.barrier].real:reset()
end

---Runs the loop, also inside a coroutine or callback that it has called itself.
function steps:turn(step)
  local nests = self.uv.virtual or support.loop_nests
  if self.depth >= (nests and DEEPEST or 1) then
    return
  end
  self:pass(self.uv.virtual and step.number % 4 == 0 and "once" or "nowait")
end

---User code takes long, and may tell the loop.
function steps:sleep(step)
  if self.uv.virtual then
    self.uv.sleep(step.number % 12)
  end
  if step.number % 2 == 0 then
    self.uv.update_time()
  end
end

---Somebody calls a drain() that was put by.
function steps:drain(step)
  local list = self.slots[step.barrier].drains
  local entry = list[step.number % math.max(#list, 1) + 1]
  if entry then
    self:drain(self.slots[step.barrier], entry)
  end
end

---The last reference to a barrier is gone; another takes its place.
function steps:drop(step)
  local slot = self.slots[step.barrier]
  self.slots[step.barrier] = self:new_slot(slot.spec)
  forget(slot)
  if step.number % 2 == 0 then
    slot.drains = {}
  end
  table.insert(self.ghosts, slot)
end

function steps:collect(_, thread)
  local inside = thread or self.acting > 0 or #self.world.turns > 0
  self:collect(not inside and not self.rethreads)
end

---Somebody closes all handles of the loop. A trip of any barrier makes new ones.
function steps:vandal()
  if not self.uv.virtual then
    return
  end
  self.uv.close_all()
  local slot = self:new_slot { parties = 1 }
  self.parties = self.parties + 1
  self:wait_with_callback { id = self.parties, kind = "callback", slot = slot, inner = {} }
end

function Run:steps(list, thread)
  for _, step in ipairs(list) do
    if self.over or self.count > self.most then
      return
    end
    self.count = self.count + 1
    steps[step.kind](self, step, thread)
    self:compare()
  end
end

---}=== {=== a whole script

function Run:abort_all()
  for _, list in ipairs { self.slots, self.ghosts } do
    for _, slot in ipairs(list) do
      local real = slot.weak[1]
      if real then
        model.abort(slot.model)
        real:abort()
      end
    end
  end
end

---Lets everybody out.
function Run:finish()
  local passes = 0
  self.finishing, self.most = true, self.count + MOST
  self:abort_all()
  while model.pending(self.world) and not self.over do
    passes = passes + 1
    self:pass(self.uv.virtual and "once" or "nowait")
    if passes % 10 == 0 then
      self:abort_all() -- a reset has let somebody wait again
    end
    if passes > 10000 then
      self:fail "it does not come to an end"
    end
  end
  for _ = 1, 2 do -- a turn for nothing does no harm
    self:pass "nowait"
  end
  if self.uv.virtual and self.uv.loop_alive() and not self.over then
    self:fail "the loop does not end"
  end
end

---A script that failed leaves nothing to the next.
function Run:clean_up()
  self:abort_all()
  for _ = 1, 20 do
    self.uv.run "nowait"
  end
end

---Nothing is left when everybody is out and all barriers are dropped.
function Run:drop_all()
  for _, slot in ipairs(self.slots) do
    forget(slot)
    table.insert(self.ghosts, slot)
  end
  for _, slot in ipairs(self.ghosts) do
    slot.drains = {}
  end
  self.slots = {}
  self:collect(true)
end

local function new_run(script)
  local self = setmetatable({ slots = {}, ghosts = {}, handles = {},
    made = 0, parties = 0, booms = 0,
    turns = 0, missed = 0, count = 0, depth = 0, acting = 0 }, Run)
  self.uv = script.loop.real and uv or loop.new(script.loop)
  self.world = model.world(self.uv.now)
  self:bind()
  for i, spec in ipairs(script.barriers) do
    self.slots[i] = self:new_slot(spec)
  end
  return self
end

---Gives the core luv's functions back.
function M.restore()
  core.bind(uv)
end

---Does a script.
---@param script model.Script
---@param collects boolean? is garbage collected at the end?
---@return string? failure what differs
---@return integer steps done
---@return integer at the number of the step in the script
function M.run(script, collects)
  local self = new_run(script)
  local at = 0
  for i, step in ipairs(script.steps) do
    at = i
    self.most = self.count + MOST
    self:steps({ step })
    if self.over then
      break
    end
  end
  if not self.over then
    self:finish()
  end
  if collects and not self.over then
    self:drop_all()
  end
  self.over = true
  if self.failure then
    self:clean_up()
  end
  self:close()
  return self.failure, self.count, at
end

---}===

return M
