---Random scripts, run on real barriers and on the model side by side: every event and,
---after every step, every property has to be the same.
local uv = require "luv"
local barrier = require "barrier"
local model = require "spec.model.model"
local support = require "spec.support"

local M = {}

---A generator of its own, so that a seed means the same in every Lua.
local function random_of(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = (state * 16807) % 2147483647
    return state % n + 1
  end
end

local KINDS = { "arrive", "arrive", "arrive", "arrive", "turn", "turn", "close", "leave", "cancel",
  "abort", "reset", "collect" }

---Steps are plain tables, so that a script can be shortened. `number` picks among what
---there is when the step is done.
local function random_step(random, barriers, depth)
  local step = {
    kind = KINDS[random(#KINDS)],
    barrier = random(barriers),
    number = random(1000),
    style = random(2) == 1 and support.pcall_yields and "coroutine" or "callback",
    inner = {},
  }
  if depth < 3 and random(3) == 1 then -- what the party does when its wait ends
    for i = 1, random(2) do
      step.inner[i] = random_step(random, barriers, depth + 1)
    end
  end
  return step
end

function M.generate(seed, length)
  local random = random_of(seed)
  local script = { parties = {}, steps = {} }
  for i = 1, random(3) do
    script.parties[i] = random(5)
  end
  for i = 1, length do
    script.steps[i] = random_step(random, #script.parties, 0)
  end
  return script
end

---One script in progress, on both sides.
local Run = {}
Run.__index = Run

local function outcome_of(err, position)
  if err == nil then
    return "position " .. position
  elseif err.message == "barrier aborted" then
    return "aborted " .. tostring(err.reason)
  end
  return (err.message:gsub("^barrier ", ""):gsub("^wait ", ""))
end

function Run.new(script)
  local self = setmetatable({ real = {}, model = {}, drains = {}, events = { {}, {} } }, Run)
  self.parties = { {}, {} } -- of the real barriers, of the model
  for i, parties in ipairs(script.parties) do
    self.real[i] = barrier.new(parties, { schedule = function(drain)
      self.drains[i] = drain
    end })
    self.model[i] = model.new(parties, function(party, outcome)
      self:ended(2, party, outcome)
    end)
  end
  return self
end

---The wait of a party ended, on one side: it does what its script says.
function Run:ended(side, party, outcome)
  party.ended = true
  table.insert(self.events[side], party.id .. " " .. outcome)
  for _, step in ipairs(party.inner) do
    self:step(side, step)
  end
end

---A party of this barrier that has not ended, or nil.
function Run:pick(side, step, style)
  local found = {}
  for _, party in ipairs(self.parties[side]) do
    if not party.ended and party.barrier == step.barrier and party.kind == style then
      found[#found + 1] = party
    end
  end
  return found[(step.number - 1) % math.max(#found, 1) + 1]
end

function Run:arrive(side, step)
  local party = { kind = step.style, barrier = step.barrier, inner = step.inner }
  table.insert(self.parties[side], party)
  party.id = #self.parties[side]
  if side == 2 then
    model.arrive(self.model[step.barrier], party)
    return
  end
  local b = self.real[step.barrier]
  if step.style == "callback" then
    party.waiter = b:wait(function(err, position)
      self:ended(1, party, outcome_of(err, position))
    end)
    return
  end
  party.waiter = coroutine.create(function()
    local ok, result = pcall(b.wait, b)
    self:ended(1, party, outcome_of(not ok and result or nil, result))
  end)
  assert(coroutine.resume(party.waiter))
end

local steps = { arrive = Run.arrive }

---waiter:close(), or coroutine.close where there is one.
function steps:close(side, step)
  local style = coroutine.close and step.style or "callback"
  local party = self:pick(side, step, style)
  if not party then
    return
  end
  party.ended = true
  local closed = style == "callback" and step.number % 2 == 0 and {
    id = "on_close of " .. party.id,
    inner = step.inner,
  } or nil
  if side == 2 then
    model.close(self.model[step.barrier], party, closed)
  elseif style == "callback" then
    party.waiter:close(closed and function()
      self:ended(1, closed, "closed")
    end)
  else
    coroutine.close(party.waiter)
  end
end

---A stranger resumes a coroutine.
function steps:leave(side, step)
  local party = self:pick(side, step, "coroutine")
  if party and side == 2 then
    model.stranger(self.model[step.barrier], party)
  elseif party then
    assert(coroutine.resume(party.waiter, "values", 1))
  end
end

function steps:cancel(side, step)
  local party = self:pick(side, step, "coroutine")
  if not party then
    return
  end
  local found
  if side == 2 then
    found = model.cancel(self.model[step.barrier], party)
  else
    found = self.real[step.barrier]:cancel(party.waiter)
  end
  table.insert(self.events[side], "cancel " .. party.id .. " " .. tostring(found))
end

function steps:abort(side, step)
  local reason = step.number % 3 > 0 and step.number or nil
  if side == 2 then
    model.abort(self.model[step.barrier], reason)
  else
    self.real[step.barrier]:abort(reason)
  end
end

function steps:reset(side, step)
  if side == 2 then
    model.reset(self.model[step.barrier])
  else
    self.real[step.barrier]:reset()
  end
end

function steps.collect()
  collectgarbage()
end

---Not inside another step: the loop does not nest everywhere.
function steps.turn() end

function Run:step(side, step)
  steps[step.kind](self, side, step)
end

---Lets the loop call every schedule() that is due.
local function run_loop()
  for _ = 1, 4 do
    uv.run("nowait")
  end
end

function Run:turn(step)
  local drain, simple = self.drains[step.barrier], self.model[step.barrier]
  if not drain then
    return not model.busy(simple) or "a wake-up is lost"
  end
  self.drains[step.barrier] = nil
  drain()
  model.turn(simple)
  return true
end

local function describe(events)
  return table.concat(events, "; ", math.max(1, #events - 7))
end

---Compares both sides; true, or what differs.
function Run:compare()
  for i = 1, math.max(#self.events[1], #self.events[2]) do
    if self.events[1][i] ~= self.events[2][i] then
      return ("event %d: %s, expected %s (%s)"):format(i, tostring(self.events[1][i]),
        tostring(self.events[2][i]), describe(self.events[1]))
    end
  end
  self.events = { {}, {} }
  for i, b in ipairs(self.real) do
    local simple = self.model[i]
    local ids = {}
    for _, party in ipairs(self.parties[1]) do
      ids[party.waiter] = party.id
    end
    local listed = b:waiters()
    for k, waiter in ipairs(listed) do
      listed[k] = ids[waiter]
    end
    local function line(state, waiting, generation, waiters)
      return ("%d: %s %d %d [%s]"):format(i, state, waiting, generation, table.concat(waiters, " "))
    end
    local real = line(b.state, b.n_waiting, b.generation, listed)
    local expected = line(simple.state, model.n_waiting(simple), simple.generation,
      model.waiters(simple))
    if real ~= expected then
      return "barrier " .. real .. ", expected " .. expected
    end
    assert(b.broken == (b.state == "broken"))
  end
  return true
end

---Forgets parties that are done, to stay fast.
function Run:tidy()
  if #self.parties[1] < 200 then
    return
  end
  for _, party in ipairs(self.parties[1]) do
    if not party.ended then
      return
    end
  end
  self.parties = { {}, {} }
end

---Runs a script. Returns true, or what differs, and the number of the step.
function M.run(script)
  local run = Run.new(script)
  for i, step in ipairs(script.steps) do
    local result
    if step.kind == "turn" then
      run_loop()
      result = run:turn(step)
    else
      run:step(1, step)
      run:step(2, step)
      result = true
    end
    if result == true then
      result = run:compare()
    end
    if result ~= true then
      return result, i
    end
    run:tidy()
  end
  return true
end

---The shortest script found that still fails, by leaving steps out.
function M.shorten(script)
  local size = math.floor(#script.steps / 2)
  while size >= 1 do
    local at = 1
    while at <= #script.steps do
      local shorter = { parties = script.parties, steps = {} }
      for i, step in ipairs(script.steps) do
        if i < at or i >= at + size then
          table.insert(shorter.steps, step)
        end
      end
      if M.run(shorter) ~= true then
        script = shorter
      else
        at = at + size
      end
    end
    size = math.floor(size / 2)
  end
  return script
end

local function write_step(step)
  local inner = {}
  for i, other in ipairs(step.inner) do
    inner[i] = write_step(other)
  end
  return ("%s(%d, %d, %s){%s}"):format(step.kind, step.barrier, step.number, step.style,
    table.concat(inner, " "))
end

---Runs the script of a seed; on failure returns a report with a shortened script.
function M.check(seed, length)
  local script = M.generate(seed, length)
  local result, at = M.run(script)
  if result == true then
    return true
  end
  local short = { parties = script.parties, steps = {} }
  for i = 1, at do
    short.steps[i] = script.steps[i]
  end
  short = M.shorten(short)
  local lines = { "seed " .. seed .. ": " .. tostring((M.run(short))),
    "parties: " .. table.concat(short.parties, " ") }
  for _, step in ipairs(short.steps) do
    lines[#lines + 1] = "  " .. write_step(step)
  end
  return table.concat(lines, "\n")
end

return M
