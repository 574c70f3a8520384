---A script, done on one core. What happens is noted, line by line: how a wait ends, in which
---order, and every property that has changed, after every step, inside coroutines, callbacks and
---actions, too. Done on the other core, each line has to be the same.
local uv = require "luv"
local look = require "spec.lockstep.look"
local loop = require "spec.lockstep.loop"
local steps = require "spec.lockstep.steps"
local support = require "spec.support"
local waits = require "spec.lockstep.waits"

local M = {}

local DEEPEST = 5 -- how many actions may run inside each other
local MOST = 200 -- steps in the course of one, with all those that are done inside

---@class lockstep.Slot a barrier, and what is known of it
---@field number integer
---@field real any the barrier; nil: dropped
---@field weak table the barrier, and when it is dropped its coroutines and Waiters
---@field parties lockstep.Party[]
---@field drains table[] those that `schedule` has put by
---@field entering lockstep.Party? whose `wait` has not returned its Waiter yet
---@field acting integer how many calls of its action run

---@class lockstep.Party
---@field id integer
---@field kind "coroutine"|"bare"|"callback" bare: a coroutine that catches no error
---@field slot lockstep.Slot
---@field watches boolean? it awaits the trip, and is no party of it
---@field timeout integer?
---@field waiter any the coroutine, or the Waiter
---@field thread table? the coroutine, and the party that it is
---@field ended boolean? its wait has ended, or was closed

---@class lockstep.Run
---@field barrier table the module
---@field core table its core
---@field log string[] what has happened
---@field other string[]? what has happened on the other core
---@field slots lockstep.Slot[]
---@field ghosts lockstep.Slot[] barriers that were dropped
---@field ids table<any, integer> the party that a coroutine or Waiter is
---@field failure string? what is wrong, or differs
---@field over boolean? nothing is done or noted any more
---@field fast boolean is it a fast event?
---@field errors table<table, boolean> those that were handed out
---@field every integer everything is looked at after so many steps; 0: at the end only
local Run = {}
Run.__index = Run

for _, methods in ipairs { look, waits } do
  for name, method in pairs(methods) do
    Run[name] = method
  end
end

local function weak(value)
  return setmetatable({ value }, { __mode = "v" })
end

---Ends the run, as this is wrong on any core.
function Run:fail(...)
  self.failure = self.failure or string.format(...)
  self.over = true
end

---Has happened: it has to happen on the other core, too.
function Run:note(...)
  if self.over then
    return
  end
  local line, n = string.format(...), #self.log + 1
  self.log[n] = line
  if self.other and self.other[n] ~= line then
    self:fail("the core in Lua: %s; the core in C: %s", line, self.other[n] or "the end")
  end
end

---{=== the loop

---A turn: the core's timer calls back.
function Run:turn(callback)
  local ok, err = pcall(callback)
  if not ok then
    self:note("reported: %s", look.errors_of(tostring(err)))
  end
end

local TAKEN = { "timer_stop", "idle_stop", "is_closing", "is_active", "has_ref", "ref", "now",
  "close", "version", "idle_start", "update_time" }

---Gives the core this loop's functions, and hears of its turns.
function Run:bind()
  local functions = { timer_start = function(timer, timeout, period, callback)
    return self.uv.timer_start(timer, timeout, period, function()
      self:turn(callback)
    end)
  end }
  for _, name in ipairs(TAKEN) do
    functions[name] = self.uv[name]
  end
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
  self.core.bind(functions)
end

---Gives the core luv's functions back; it makes new handles next time.
function Run:close()
  for _, handle in ipairs(self.handles) do
    if not uv.is_closing(handle) then
      uv.close(handle)
    end
  end
  uv.run "nowait"
  self.core.bind(uv)
end

---One pass of the loop.
---@return boolean happened has anything?
local function pass(run, mode)
  local n = #run.log
  run.uv.run(mode)
  if run.uv.is_starved() then
    run:fail("the rest of the loop starves")
  end
  if #run.log > n then
    run:note "the loop polls"
  end
  return #run.log > n
end

---Runs the loop until something happens, or so many passes are over: a core may let one go by, or
---wake up for nothing.
---@return boolean happened
local function await_pass(run, mode, most)
  for _ = 1, most do
    if run.over or pass(run, mode) then
      return not run.over
    end
  end
  return false
end

---Runs the loop as long as something happens.
---@param sleeps boolean? until the next timeout
function Run:run_loop(sleeps)
  self.depth = self.depth + 1
  repeat until not await_pass(self, "nowait", 2)
  if sleeps and await_pass(self, "once", 3) then
    repeat until not await_pass(self, "nowait", 2)
  end
  self.depth = self.depth - 1
  self:note(self.depth + self.acting == 0 and self.uv.loop_alive()
    and "the loop waits for a timeout" or "the loop has run")
end

---}=== {=== the options `action` and `schedule`

---The barrier's action is called.
function Run:act(slot)
  self:note("action of barrier %d", slot.number)
  slot.acts = slot.acts + 1
  local act = slot.spec.actions[(slot.acts - 1) % #slot.spec.actions + 1]
  slot.acting, self.acting = slot.acting + 1, self.acting + 1
  self:compare()
  if self.acting <= DEEPEST then
    self:steps(act.inner)
  end
  slot.acting, self.acting = slot.acting - 1, self.acting - 1
  if act.dies and not self.over then
    error(self:boom(), 0)
  end
end

---Calls drain(), which may have been called before.
function Run:drain(entry)
  entry.used = true
  local ok, err = pcall(entry.drain)
  self:note("drained: %s", ok and "well" or look.errors_of(tostring(err)))
end

---The barrier's schedule(drain) is called.
function Run:schedule(slot, drain)
  if self.over then
    drain()
    return
  end
  self:note("schedule of barrier %d", slot.number)
  slot.offers = slot.offers + 1
  local offer = slot.spec.schedules[(slot.offers - 1) % #slot.spec.schedules + 1]
  local how = self.finishing and "now" or offer.how
  local entry = { drain = drain, used = false }
  self:steps(offer.inner)
  if how == "now" or how == "twice" then
    self:drain(entry)
  end
  if how == "later" or how == "twice" then
    table.insert(slot.drains, entry)
  end
  if offer.dies and not self.over then
    error(self:boom(), 0)
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
    return self.barrier.new, options
  end
  return self.core.make_new(schedule, function()
    return self.fast
  end), options
end

function Run:new_slot(spec)
  self.made = self.made + 1
  local slot = { number = self.made, spec = spec, parties = {}, drains = {}, acts = 0, offers = 0,
    acting = 0 }
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

---Collects garbage. Which of the barriers that were dropped stay is noted, unless something here
---may refer to them by chance.
function Run:collect(certain)
  if certain then
    support.collect_garbage()
  else
    collectgarbage() -- once is enough to lose what should have been kept
  end
  for i = #self.ghosts, 1, -1 do
    if next(self.ghosts[i].weak) == nil then
      table.remove(self.ghosts, i)
    elseif certain then
      self:note("barrier %d is still there", self.ghosts[i].number)
    end
  end
end

---}=== {=== a whole script

---@param list lockstep.Step[]
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

---Fails all parties. The reset calls each `schedule` again that has not called drain().
---@return boolean broken true if all were still broken from the last call
function Run:abort_all()
  local broken = true
  for _, slot in ipairs(self.slots) do
    broken = broken and slot.real.broken
    slot.real:reset()
    slot.real:abort()
  end
  return broken
end

---Lets all parties out. In barriers that were dropped, the rest leave by their timeouts.
function Run:finish()
  local rounds = 0
  local function count()
    rounds = rounds + 1
    if rounds > 1000 then
      self:fail "it does not come to an end"
    end
  end
  self.finishing, self.fast, self.most = true, false, self.count + MOST
  self:abort_all()
  repeat
    count()
    self:run_loop()
  until self.over or self:abort_all() -- after a reset, a party may have begun to wait again
  self:run_loop()
  if not self.over and #self.ghosts == 0 and self.uv.sleeps() then
    self:fail "the loop would wait, though no party is left"
  end
  while not self.over and self.uv.loop_alive() do
    count()
    self:run_loop(true)
  end
  self:look()
end

---A script that failed leaves nothing to the next.
function Run:clean_up()
  self.over = true
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
  if self.ghosts[1] then
    self:fail("barrier %d was not collected", self.ghosts[1].number)
  end
end

---}=== {=== both cores

---The module on each core; that in Lua is a copy, by its name.
---@return table[] # of { barrier =, core = }
local function load_modules()
  local getenv, modules = os.getenv, {}
  for i, choice in ipairs { "c", "lua" } do
    local name = i == 1 and "barrier" or "lua.barrier"
    os.getenv = function(variable) -- luacheck: ignore 122
      return variable == "BARRIER_CORE" and choice or getenv(variable)
    end
    modules[i] = { barrier = require(name .. (i == 2 and ".init" or "")),
      core = require(name .. ".environment").core() }
  end
  os.getenv = getenv -- luacheck: ignore 122
  return modules
end

local function new_run(script, module, other)
  local self = setmetatable({ barrier = module.barrier, core = module.core, log = {}, other = other,
    slots = {}, ghosts = {}, handles = {}, ids = setmetatable({}, { __mode = "k" }),
    errors = setmetatable({}, { __mode = "k" }), every = script.every or 1, fast = false,
    made = 0, parties = 0, booms = 0, chances = 0, count = 0, depth = 0, acting = 0 }, Run)
  self.uv = loop.new(script.loop)
  self:bind()
  for i, spec in ipairs(script.barriers) do
    self.slots[i] = self:new_slot(spec)
  end
  return self
end

---Does a script on one core.
---@return lockstep.Run
local function run_on(module, script, collects, other)
  local self = new_run(script, module, other)
  for i, step in ipairs(script.steps) do
    self.at, self.most = i, self.count + MOST
    self:steps { step }
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
  self:note "the end"
  self:clean_up()
  self:close()
  return self
end

---Does a script on both cores.
---@param script lockstep.Script
---@param collects boolean? is garbage collected at the end?
---@return string? failure what is wrong, or differs
---@return integer steps done
---@return integer at the number of the step in the script
function M.run(script, collects)
  M.modules = M.modules or load_modules()
  local in_c = run_on(M.modules[1], script, collects)
  if in_c.failure then
    return in_c.failure .. " (the core in C)", in_c.count, in_c.at
  end
  local in_lua = run_on(M.modules[2], script, collects, in_c.log)
  return in_lua.failure, in_lua.count, in_lua.at
end

---}===

return M
