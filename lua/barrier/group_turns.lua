---How a group counts, and its barriers, at which parties wait and which call for turns.
---
---A finalizer or a debug hook may call any function of a group while another one runs, between
---any two instructions, and has returned before that goes on. So every change is one of these:
---
--- - One store that no other call makes.
--- - A claim: read, erase, then look whether a call in between has done it all. A call after
---   the erasure finds nothing to claim.
--- - A number that is taken, and then looked at: if a call in between has taken it, the next one.
--- - A slot of its own for a call in between, as in `count`.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local pool = require(prefix .. "await")
local core = environment.core()

local is_5_1 = _VERSION == "Lua 5.1" and not jit

local M = {}

-- {=== slots ===

local depth = 0 -- how many calls are between `enter` and `leave`
local is_deep = { true } -- whether there ever were so many

---The name of the caller's slot of a group: another one if this call came in between another.
---@param name string
---@return string slot
local function enter(name)
  local slot = depth + 1
  depth = slot
  if slot == 1 then
    return name
  end
  for lower = 2, slot do
    is_deep[lower] = true
  end
  return name .. slot
end

local function leave()
  depth = depth - 1
end

---Adds to a counter of the group.
local function count(group, name, n)
  local slot = depth + 1
  if slot > 1 then
    name = enter(name)
    rawset(group, name, (rawget(group, name) or 0) + n)
  else
    depth = slot
    group[name] = group[name] + n
  end
  depth = slot - 1
end

---@return integer
local function total(group, name)
  local sum = group[name]
  if is_deep[2] then
    for slot = 2, #is_deep do
      sum = sum + (rawget(group, name .. slot) or 0)
    end
  end
  return sum
end

---Appends to a list, whose length is its field `n`.
local function push(list, value)
  local n
  repeat
    n = list.n + 1
    list.n = n
  until list[n] == nil
  list[n] = value
end

M.count, M.total, M.push = count, total, push

-- }===

-- {=== barriers and turns ===

local function always()
  return true
end

local function new_barrier(group)
  local schedule = group._options.schedule
  local b
  if schedule == nil then
    b = pool.take()
  else
    b = core.make_new(schedule or nil, always)(1)
  end
  pool.owners[b] = group
  return b
end

---The group's barrier for one purpose: "_wait" trips when the group is complete, "_join" when the
---jobs that were stopped have ended too, "_turn" in each turn that is asked for, "_clock" never.
---The trip comes in a turn of the loop, never at once, so the parties that come until then pass.
---@return barrier.Barrier
function M.barrier(group, purpose)
  local b = group[purpose]
  if not b or depth > 0 then
    local made = new_barrier(group)
    local slot = enter(purpose)
    b = rawget(group, slot) or made
    rawset(group, slot, b)
    leave()
  end
  return b
end

---The generation of each barrier that was last asked to trip.
---@type table<barrier.Barrier, integer>
local asked = setmetatable({}, { __mode = "k" })

---Has a barrier trip in the next turn, once.
local function ask(b)
  local generation = b.generation
  if generation and asked[b] ~= generation then -- otherwise collected, or asked already
    b:arrive()
    asked[b] = generation
  end
end
M.ask = ask

---A party is let go by a trip of this barrier of a complete group: another group may have it,
---unless a further trip was asked for.
function M.release(group, purpose, b)
  if group[purpose] == b and asked[b] ~= b.generation then
    group[purpose] = false
    if group._options.schedule == nil then
      pool.give(b)
    end
  end
end

---Has the barriers for one purpose trip in the next turn.
function M.trip(group, purpose)
  local b = rawget(group, purpose)
  if b then
    ask(b)
  end
  for slot = 2, #is_deep do
    b = rawget(group, purpose .. slot)
    if b then
      ask(b)
    end
  end
end

---Calls `f` in a turn of the loop, where waiting parties go on. If it raises an error, that is
---reported as uncaught.
local function turn(group, f)
  local b = M.barrier(group, "_turn")
  b:await_trip(function()
    f()
  end)
  ask(b)
end
M.turn = turn

---Reports the error as uncaught, in a turn.
function M.report(group, err)
  turn(group, function()
    error(err, 0)
  end)
end

---Waits in a coroutine for the barrier's trip. PUC Lua 5.1 can't wait inside pcall: there a
---callback notices that the time has passed.
---@return barrier.Error? err of the wait
function M.suspend(group, b, timeout)
  if not is_5_1 then
    local ok, err = pcall(b.await_trip, b, timeout)
    return not ok and err or nil
  elseif timeout == nil then
    b:await_trip()
    return nil
  end
  local own, problem = new_barrier(group), nil
  b:await_trip(timeout, function(err)
    problem = err
    own:arrive()
  end)
  own:await_trip()
  return problem
end

-- }===

return M
