---The core in Lua, 4 of 6: coroutines and callbacks that wait at a barrier, and what they get.
local here = (...):gsub("waits$", "")
local turns, machine = require(here .. "turns"), require(here .. "machine")

local yield = coroutine.yield

---@type table<string, any>
local M = {}

---{=== errors

---@param err table
local function text_of_error(err)
  local text = tostring(err.name) .. ": " .. tostring(err.message)
  return err.reason == nil and text or text .. ": " .. tostring(err.reason)
end

---Either operand may be the error; the other is a string, or another error.
local function concat(a, b)
  for _, value in ipairs { a, b } do
    local class = type(value) == "table" and getmetatable(value)
    if type(value) ~= "string" and type(value) ~= "number"
      and not (class and class.__concat) then
      error("attempt to concatenate a " .. type(value) .. " value", 2)
    end
  end
  return tostring(a) .. tostring(b)
end

for _, name in ipairs { "BrokenBarrierError", "CancelledError", "TimeoutError" } do
  M[name] = { __name = name, __tostring = text_of_error, __concat = concat }
end

---@param name string of the class
local function new_error(m, name, message, reason, timeout)
  return setmetatable({ name = name, message = message, barrier = m.self, reason = reason,
    timeout = timeout }, M[name])
end

-- The coroutine for each error that cancelled it: when that dies of it, nothing is reported.
M.cancels = setmetatable({}, { __mode = "kv" })

---The error for an outcome that is neither "passed" nor "failed".
---@param co? thread|false that gets it
local function error_for(m, outcome, co)
  if outcome == "cancelled" then
    local err = new_error(m, "CancelledError", "wait cancelled")
    M.cancels[err] = co or nil
    return err
  elseif outcome == "disturbed" then
    return new_error(m, "CancelledError", "wait cancelled: resumed by somebody else")
  elseif outcome == "reset" then
    return new_error(m, "BrokenBarrierError", "barrier reset")
  end
  return new_error(m, "BrokenBarrierError", "barrier aborted", m.reason)
end

M.error_for = error_for

---The text for an error that was not caught, in place of which `tostring` may raise another.
function M.text_of(err)
  local ok, text = pcall(tostring, err)
  if ok and type(text) == "string" then
    return text
  end
  return ("(error object is a %s value; its __tostring raised: %s)"):format(type(err),
    type(text) == "string" and text or type(text))
end

function M.add_traceback(err)
  return debug.traceback(M.text_of(err), 2)
end

---}=== {=== all parties are there

---Calls a function that may not yield: no Lua can yield across gsub.
function M.call(f, argument)
  local ok, err
  string.gsub(".", ".", function()
    ok, err = pcall(f, argument)
  end)
  return ok, err
end

---Trips the barrier, after its action.
---@param last barrier.Node|false the last arrival, if it waits
---@param since integer the parties leave in the turns after this one
---@return string outcome "passed", "failed", "reset" or "aborted"
---@return any err of the action
---@return boolean? lost no party gets that error
function M.trip(m, last, since)
  if m.action then
    machine.hold(m, last, "runs")
    machine.keep_phase(m)
    local ok, err = M.call(m.action, m.self)
    local how, waits_still = machine.release(m)
    if not ok then
      if waits_still then
        waits_still.outcome, waits_still.value = "failed", err
      end
      machine.abort(m, err)
      return "failed", err, not waits_still and not machine.is_awaited(m)
    elseif how ~= "runs" then
      return how
    end
  end
  machine.trip(m, since)
  return "passed"
end

---The last party has arrived. In a fast event of Neovim the trip is left to a turn.
---@param last barrier.Node|false if it waits; a coroutine that passes is out afterwards
---@return string? outcome
---@return any err
function M.complete(m, last)
  local outcome, err, lost
  if m.in_fast_event and m.in_fast_event() then
    machine.hold(m, last, "due")
  else
    m.runner = last
    outcome, err, lost = M.trip(m, last, turns.turn)
    m.runner = false
  end
  if outcome == "passed" and last and last.co and last.place == m.inside then
    machine.take_out(m, last)
  elseif lost and last then
    machine.post(m, machine.node(m, nil, function()
      error(err, 0)
    end), "closed")
  end
  machine.changed(m)
  return outcome, err
end

---}=== {=== suspending

local PASSED, FAILED = {}, {} -- what the loop resumes a waiting coroutine with, and no other code
M.PASSED, M.FAILED = PASSED, FAILED

-- For Lua 5.1 and 5.2, which can't tell whether the running coroutine can yield.
local guess = not coroutine.isyieldable and require(here .. "yieldable") or nil -- luacheck: ignore
M.guess, M.isyieldable = guess, guess and guess.isyieldable or coroutine.isyieldable -- luacheck: ignore

---What the coroutine was resumed with decides. After other code's resume it is suspended again.
local function go_on(node, token, result)
  while token ~= PASSED do
    if token == FAILED then
      error(result, 0)
    elseif guess then
      guess.suspended(nil)
    end
    machine.withdraw(node.machine, node, "disturbed")
    token, result = yield()
  end
  return result
end

local function suspend(node)
  if guess then
    guess.suspended(node)
  end
  local token, result = yield()
  if token == PASSED then
    return result
  end
  return go_on(node, token, result)
end

local Node -- the metatable of nodes that notice coroutine.close
if coroutine.close then -- luacheck: ignore 143
  suspend = assert(load([[
    local yield, go_on, PASSED = ...
    return function(node)
      local guard <close> = node
      local token, result = yield()
      if token == PASSED then
        return result
      end
      return go_on(node, token, result)
    end
  ]], debug.getinfo(1, "S").source))(yield, go_on, PASSED) -- the source's name is for `stuck`
  Node = { __close = function(node)
    if node.place then
      machine.leave(node.machine, node)
    end
  end }
end

---}=== {=== waiting

-- The node that a coroutine has had last, which it has again in its next wait. In between, nothing
-- else keeps it: other nodes are garbage.
local nodes = setmetatable({}, { __mode = "kv" })

function M.new_node(m, co)
  local node = machine.node(m, co)
  nodes[co] = Node and setmetatable(node, Node) or node
  return node
end

---@return barrier.Node? node of a coroutine that is in the barrier
function M.node_of(m, co)
  local node = nodes[co]
  return node and node.place and node.machine == m and node or nil
end

local to_cancel = setmetatable({}, { __mode = "k" }) -- coroutines whose next wait fails
M.nodes, M.to_cancel, M.suspend = nodes, to_cancel, suspend

---Cancels the next wait of a coroutine, or no longer; without `fails` it says which.
---@param co thread
---@param fails? boolean
---@return boolean?
function M.cancel_next(co, fails)
  if fails == nil then
    return to_cancel[co] or false
  end
  to_cancel[co] = fails or nil
end

---The time of a wait has passed.
local function expire(node, deadline)
  local m = node.machine
  if machine.waits(m, node) then
    local err = new_error(m, "TimeoutError", ("wait timed out after %s ms%s"):format(
      deadline.timeout, m.state == "filling" and ", " .. machine.progress(m)
        or " while the barrier was " .. m.state), nil, deadline.timeout)
    if node.deadline == deadline and machine.waits(m, node) then -- a finalizer may have run
      machine.withdraw(m, node, "failed", err)
    end
  end
end

---A party arrives, or a node watches.
---@param arrive fun(m: barrier.Machine, node: barrier.Node): boolean? `enter` or `watch`
function M.come(m, node, arrive, timeout)
  local deadline = timeout and turns.deadline(node, timeout, expire)
  if to_cancel[node.co] then
    to_cancel[node.co] = nil
    machine.post(m, node, "cancelled")
  elseif m.state == "broken" then
    machine.post(m, node, "failed", error_for(m, "aborted"))
  elseif arrive(m, node) then
    M.complete(m, node)
  else
    if deadline then
      turns.add(deadline)
    end
    machine.keep_phase(m)
  end
end

---}===

return M
