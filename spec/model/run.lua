---A script, done to real barriers and to the model in lock step. How each wait ends, in which
---order, and every property have to be what the model says, after every step, inside coroutines,
---callbacks and actions, too.
local uv = type(vim) == "table" and (vim.uv or vim.loop) or require "luv"
local barrier = require "barrier"
local core = require("barrier.environment").core()
local compare = require "spec.model.compare"
local loop = require "spec.model.loop"
local model = require "spec.model.model"
local steps = require "spec.model.steps"
local turns = require "spec.model.turns"
local support = require "spec.support"

local M = {}

local DEEPEST = 5 -- how many actions may run inside each other
local MOST = 200 -- steps in the course of one, including all inside it

---@class model.Slot a barrier, and what is known of it
---@field model model.Barrier
---@field real userdata? nil: dropped
---@field weak table the barrier, and when it is dropped its coroutines and Waiters
---@field drains table[] that `schedule` has kept for later

---@class model.Run
---@field slots model.Slot[]
---@field ghosts model.Slot[] barriers that were dropped
---@field failure string? what differs
---@field fast boolean is it a fast event?
---@field errors table<table, boolean> that were handed out
---@field every integer everything is looked at after so many steps; 0: at the end only
local Run = {}
Run.__index = Run

for name, method in pairs(compare) do
  Run[name] = method
end

local function weak(value)
  return setmetatable({ value }, { __mode = "v" })
end

---{=== the loop

---A turn begins: the core's timer calls back.
function Run:turn(callback)
  self.turns, self.missed = self.turns + 1, 0
  if self.uv.version() >= 0x013000 then -- libuv 1.48: the loop has polled
    turns.renew(self.world)
  end
  if not self.over then
    turns.begin_turn(self.world)
  end
  self:end_turn(pcall(callback))
end

local TAKEN = { "timer_stop", "idle_stop", "is_closing", "is_active", "has_ref",
  "ref", "now", "close", "version" }

---Gives the core this loop's functions, and hears of its turns. luv's clock only goes on
---between two steps, so that the model sees the same time.
function Run:bind()
  local functions = { timer_start = function(timer, timeout, period, callback)
    return self.uv.timer_start(timer, timeout, period, function()
      self:turn(callback)
    end)
  end, idle_start = function(idle, callback)
    return self.uv.idle_start(idle, function()
      turns.renew(self.world)
      callback()
    end)
  end }
  for _, name in ipairs(TAKEN) do
    functions[name] = self.uv[name]
  end
  functions.update_time = self.uv.virtual and self.uv.update_time or function() end
  function functions.hrtime()
    return self.uv.now() * 1000000 -- no part of a millisecond has passed
  end
  for _, name in ipairs { "new_timer", "new_idle" } do
    functions[name] = function()
      local handle = self.uv[name]()
      table.insert(self.handles, handle)
      return handle
    end
  end
  core.bind(functions)
  turns.renew(self.world)
end

---The core makes new handles next time.
function Run:close()
  for _, handle in ipairs(self.handles) do
    if not uv.is_closing(handle) then
      uv.close(handle)
    end
  end
  uv.run "nowait"
end

---Runs the loop once. If a party has to be served, a turn has to come in this pass or in the next:
---the core lets one pass go by now and then, for the rest of the loop.
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

---A coroutine or callback is about to die of this error: the code that resumed it gets it, or
---the loop.
function Run:dies(party, problem)
  local thread = party.thread
  if thread and thread.resumer == "stranger" then
    thread.death = problem
  elseif not thread or problem ~= model.CANCELLED then
    model.report(self.world, problem)
  end
end

---How the wait of this party has to end, now that it ends.
function Run:expected_outcome(party, outcome)
  if party.done then
    return party.done
  end
  if party.thread then
    party.thread.resumer = "loop"
  end
  local event = self:expect("end", "party", party, ("party %d: %s"):format(party.id, outcome))
  return event and event.outcome
end

---A wait has ended: it has to be its turn, and the outcome the expected one. Then the party
---does what its script says. `thread` is where it may wait again.
function Run:ended(party, outcome, thread, err)
  if self.over then
    return
  end
  local expected = self:expected_outcome(party, outcome)
  party.ended = true
  if expected and expected ~= outcome then
    self:fail("party %d: %s, expected %s", party.id, outcome, expected)
  end
  self:compare()
  self:steps(party.inner, thread)
  if self.over then
    return
  elseif party.dies then
    err, outcome = self:boom(), "boom " .. self.booms
  elseif not party.rethrows or err == nil then
    return
  end
  self:dies(party, outcome)
  error(err, 0)
end

local function real_wait(party, callback)
  local b, timeout = party.slot.real, party.timeout
  local method = party.watches and b.await_trip or b.wait
  if not callback then
    if timeout then
      return method(b, timeout)
    end
    return method(b)
  elseif timeout then
    return method(b, timeout, callback)
  end
  return method(b, callback)
end

function Run:tell_model(party)
  local b = party.slot.model
  if party.watches then
    model.await_trip(b, party)
  else
    model.wait(b, party, self.fast)
  end
end

local function finish(run, party, ok, result)
  local err = nil
  if not ok then
    err = result == nil and "nil" or result
  end
  return run:ended(party, run:outcome_of(party, err, result), party.thread, err)
end

---In the coroutine of `thread`, which is the running one.
function Run:wait_here(party, thread)
  party.thread, party.waiter, thread.party = thread, thread.co, party
  self:tell_model(party)
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
  self:check_acted(party.slot)
  if party.done and not party.ended then
    self:fail("party %d has not passed at once", party.id)
  end
end

function Run:wait_with_callback(party)
  local slot = party.slot
  local function callback(...)
    if self.over then
      return
    end
    local err, result = ...
    if select("#", ...) ~= (err == nil and 2 or 1) then
      self:fail("a callback got %d arguments", select("#", ...))
    elseif party.waiter and not party.waiter:is_closing() then
      self:fail("the Waiter is not closing in its callback")
    end
    self:ended(party, self:outcome_of(party, err, result), nil, err)
  end
  self:tell_model(party)
  local waiter = real_wait(party, callback)
  if party.waiter and party.waiter ~= waiter then
    self:fail("waiters() had another Waiter than wait returned")
  end
  if slot.real then
    party.waiter = waiter
  end
  self:check_acted(slot)
end

---The action's event has come: called by a last arrival that the model knows already, or in a
---turn.
---@return model.Held?
function Run:hold(slot)
  local held = slot.model.held
  if not held or held.runs or held.deferred then
    if not self:expect("action", "barrier", slot.model,
        "action of barrier " .. slot.model.number) then
      return nil
    end
    held = slot.model.held
  end
  held.runs = true
  return held
end

---The barrier's action is called.
function Run:act(slot)
  if self.over or not self:hold(slot) then
    return
  end
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
  if problem then
    error(problem, 0)
  end
end

---}=== {=== the option `schedule`

---Calls drain(), which may have been called before.
function Run:drain(slot, entry)
  local began = not entry.used and turns.begin_drain(slot.model)
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
    turns.refused(slot.model, problem, entry.used)
    error(problem, 0)
  end
end

---}=== {=== barriers

---How the barrier of a slot is made: the function, and its options.
function Run:maker(slot)
  local spec = slot.spec
  local options = { timeout = spec.timeout }
  local schedule = spec.schedules and function(drain)
    self:schedule(slot, drain)
  end
  if spec.actions then
    function options.action(b)
      if not rawequal(b, slot.weak[1]) then
        self:fail("the action got something else than its barrier")
      end
      self:act(slot)
    end
  end
  if not spec.defers then
    options.schedule = schedule or false
    return barrier.new, options
  end
  return core.make_new(schedule, function()
    return self.fast
  end), options
end

function Run:new_slot(spec)
  self.made = self.made + 1
  local slot = { spec = spec, parties = {}, drains = {}, acts = 0, offers = 0 }
  slot.model = model.barrier(self.world, spec.parties, {
    acts = spec.actions ~= nil,
    schedules = spec.schedules ~= nil,
    defers = spec.defers and spec.schedules ~= nil,
    limit = spec.timeout,
  })
  slot.model.number = self.made
  local new, options = self:maker(slot)
  slot.real = new(spec.parties, options)
  slot.weak = weak(slot.real)
  return slot
end

---Nothing here refers to the barrier, its Waiters and coroutines any more.
function Run:forget(slot)
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
  table.insert(self.ghosts, slot)
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
  if must_go then
    support.collect_garbage()
  else
    collectgarbage() -- once is enough to lose what should have been kept
  end
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

---}=== {=== a whole script

---@param list model.Step[]
---@param thread table? where they are done, if it is a coroutine that may wait again
function Run:steps(list, thread)
  for _, step in ipairs(list) do
    if self.over or self.count > self.most then
      return
    end
    self.count, self.fast = self.count + 1, step.fast or false
    steps[step.kind](self, step, thread)
    self:compare()
  end
end

---All parties fail. The reset asks a `schedule` again that has never called drain().
function Run:abort_all()
  for _, list in ipairs { self.slots, self.ghosts } do
    for _, slot in ipairs(list) do
      local real = slot.weak[1]
      if real then
        model.reset(slot.model)
        real:reset()
        model.abort(slot.model)
        real:abort()
      end
    end
  end
end

---Lets all parties out.
function Run:finish()
  local passes = 0
  self.finishing, self.fast, self.most = true, false, self.count + MOST
  self:abort_all()
  -- A barrier may be queued for parties that have left: a turn asks its `schedule` all the same.
  while (model.pending(self.world) or self.world.queue[1]) and not self.over do
    passes = passes + 1
    self:pass(self.uv.virtual and "once" or "nowait")
    if passes % 10 == 0 then
      self:abort_all() -- after a reset, a party has waited again
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
  elseif not self.over then
    self:look()
  end
end

---A script that failed leaves nothing to the next.
function Run:clean_up()
  self:abort_all()
  for _ = 1, 20 do
    self.uv.run "nowait"
  end
end

---Nothing is left when all parties are out and all barriers are dropped.
function Run:drop_all()
  for _, slot in ipairs(self.slots) do
    self:forget(slot)
  end
  for _, slot in ipairs(self.ghosts) do
    slot.drains = {}
  end
  self.slots = {}
  self:collect(true)
  if self.tidy and barrier.stuck() then
    self:fail("a party is stuck: %s", barrier.stuck())
  end
end

local function new_run(script)
  local self = setmetatable({ slots = {}, ghosts = {}, handles = {},
    errors = setmetatable({}, { __mode = "k" }), every = script.every or 1, fast = false,
    made = 0, parties = 0, booms = 0, chances = 0,
    turns = 0, missed = 0, count = 0, depth = 0, acting = 0 }, Run)
  self.uv = script.loop.real and uv or loop.new(script.loop)
  self.world = model.world(self.uv.now, self.uv.fresh or self.uv.now)
  self:bind()
  for i, spec in ipairs(script.barriers) do
    self.slots[i] = self:new_slot(spec)
  end
  return self
end

---True if no barrier of this Lua state has a party. What earlier specs have left is garbage.
local function is_tidy()
  support.collect_garbage()
  return barrier.stuck() == nil
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
  local tidy = collects and is_tidy()
  local self = new_run(script)
  local at = 0
  self.tidy = tidy
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
