---Random scripts. They are plain tables, so that they can be shortened and printed.
local M = {}

---@class lockstep.Step
---@field kind string a method of the steps in run.lua
---@field barrier integer which of the barriers
---@field number integer picks among what there is when the step is done
---@field style "coroutine"|"bare"|"callback"
---@field inner lockstep.Step[] what the party does when its wait ends
---@field dies boolean? and then it raises an error
---@field rethrows boolean? and then it raises the error of its wait, if it got one
---@field fast boolean? it is done in a fast event
---@field again boolean? in the same coroutine, if it is done in one
---@field timeout integer?
---@field count integer? so many parties come
---@field n number? so many parties are registered or deregistered

---@class lockstep.Act what an action does
---@field inner lockstep.Step[]
---@field dies boolean? it raises an error

---@class lockstep.Offer what `schedule` does with drain
---@field how "now"|"twice"|"later"|"never"
---@field inner lockstep.Step[]
---@field dies boolean? it raises an error

---@class lockstep.Spec
---@field parties integer
---@field actions lockstep.Act[]? one for each call, again and again
---@field schedules lockstep.Offer[]? likewise
---@field defers boolean? `schedule` is the default, as in Neovim
---@field timeout integer?

---@class lockstep.Script
---@field loop { refires: boolean?, timers_last: boolean? }
---@field barriers lockstep.Spec[]
---@field every integer everything is looked at after so many steps; 0: at the end only
---@field steps lockstep.Step[]

---A generator of its own, so that a seed means the same in every Lua.
---@return fun(n: integer): integer from 1 to n
local function random_of(seed)
  local state = seed % 2147483646 + 1
  local function random(n)
    state = (state * 16807) % 2147483647
    return state % n + 1
  end
  random(1) -- seeds that are close to each other begin alike
  random(1)
  return random
end

local KINDS = {}
for kind, weight in pairs { wait = 34, arrive = 12, await_trip = 9, register = 5, deregister = 4,
  turn = 12, close = 10, disturb = 5, cancel = 12, abort = 4, reset = 5, sleep = 5, drain = 6,
  drop = 1, collect = 1, vandal = 2, stuck = 1, refused = 2 } do
  for _ = 1, weight do
    KINDS[#KINDS + 1] = kind
  end
end
table.sort(KINDS)

-- What is more often done while the action runs, or schedule: it changes the trip.
local MEDDLING = { "cancel", "cancel", "close", "close", "abort", "reset", "register",
  "deregister", "sleep", "turn", "turn" }
local STYLES = { "coroutine", "coroutine", "callback", "callback", "bare" }
local TIMEOUTS = { 0, 0, 1, 3, 3, 10, 50, 1000000 }
local PHASES = { 0, 2, 7, 20, 1000 }
local NUMBERS = { 1, 1, 2, 2, 3, 5 }
local STRANGE_NUMBERS = { 0, -1, 1.5, 2147483647, 2147483648, 2 ^ 53 }
local EVERY = { 1, 1, 1, 1, 17, 0 }
local HOW = { "now", "now", "later", "later", "later", "twice", "never" }

local Generator = {}
Generator.__index = Generator

function Generator:one_in(n)
  return self.random(n) == 1
end

function Generator:among(list)
  return list[self.random(#list)]
end

---How many parties are registered or deregistered: nil says one.
function Generator:number()
  if self:one_in(12) then
    return self:among(STRANGE_NUMBERS)
  end
  return not self:one_in(3) and self:among(NUMBERS) or nil
end

function Generator:step(depth)
  local step = {
    kind = self:among(KINDS),
    barrier = self.random(self.barriers),
    number = self.random(1000),
    style = self:among(STYLES),
    again = self:one_in(2),
    timeout = self:one_in(3) and self:among(TIMEOUTS) or nil,
    count = depth == 0 and self.crowd > 1 and self:one_in(4) and self.random(self.crowd) or 1,
    dies = self:one_in(25),
    rethrows = self:one_in(8),
    fast = self:one_in(3),
    n = self:number(),
    inner = {},
  }
  if step.count > 1 then
    depth = 2
  end
  if depth < 3 and self:one_in(3) then
    step.inner = self:steps(self.random(2), depth + 1)
  end
  return step
end

function Generator:steps(n, depth)
  local list = {}
  for i = 1, n do
    list[i] = self:step(depth)
  end
  return list
end

---What is done inside an action, or `schedule`, of this barrier: often to itself.
function Generator:calls(barrier, choices)
  local list = {}
  for i = 1, self.random(4) do
    local call = {
      how = choices and self:among(choices),
      dies = self:one_in(4),
      inner = self:steps(self.random(4) - 1, 1),
    }
    for _, step in ipairs(call.inner) do
      step.barrier = self:one_in(2) and barrier or step.barrier
      step.kind = self:one_in(2) and self:among(MEDDLING) or step.kind
    end
    list[i] = call
  end
  return list
end

function Generator:spec(barrier)
  local spec = { parties = self.random(5) }
  if self.crowd > 1 and self:one_in(2) then
    spec.parties = self.random(self.crowd)
  end
  if self:one_in(2) then
    spec.actions = self:calls(barrier)
  end
  if self:one_in(3) then
    spec.schedules = self:calls(barrier, HOW)
    spec.defers = not self:one_in(3)
  end
  if self:one_in(5) then
    spec.timeout = self:among(PHASES)
  end
  return spec
end

---@return lockstep.Script
function M.script(seed, length)
  local self = setmetatable({ random = random_of(seed) }, Generator)
  local script = { barriers = {}, every = self:among(EVERY) }
  script.loop = {
    refires = self:one_in(2),
    timers_last = self:one_in(2),
  }
  self.crowd = self:one_in(12) and 300 or 1
  self.barriers = self.random(4)
  for i = 1, self.barriers do
    script.barriers[i] = self:spec(i)
  end
  script.steps = self:steps(length, 0)
  return script
end

return M
