---The core in Lua, 3 of 3: what stands in for the C core where that is not there. Coroutines and
---callbacks that wait, the errors that they get, and the methods of a barrier.
local here = (...):gsub("waits$", "")
local machine = require(here .. "machine")
local turns = require(here .. "turns")

local running, status, resume, yield =
  coroutine.running, coroutine.status, coroutine.resume, coroutine.yield
local traceback = debug.traceback

local enter, next_node = machine.enter, machine.next

local MOST = 2147483647 -- parties
local BURST = 256 -- nodes
local SELF = {} -- the key of what a barrier and a Waiter are about; no other code has it

---@type table<string, any>
local M = { _VERSION = "the core in Lua", implementation = "Lua" }

---{=== errors

local Error = {}

function Error:__tostring()
  local text = tostring(self.name) .. ": " .. tostring(self.message)
  return self.reason == nil and text or text .. ": " .. tostring(self.reason)
end

---Either operand may be the error; the other is a string, or another error.
function Error.__concat(a, b)
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
  M[name] = { __name = name, __tostring = Error.__tostring, __concat = Error.__concat }
end

-- The coroutine for each error that cancelled it: when that dies of it, nothing is reported.
local cancels = setmetatable({}, { __mode = "kv" })

---@param name string of the class
local function new_error(m, name, message, reason)
  return setmetatable({ name = name, message = message, barrier = m.self, reason = reason },
    M[name])
end

---The error for an outcome other than passed.
local function error_for(m, outcome)
  if outcome == "reset" then
    return new_error(m, "BrokenBarrierError", "barrier reset")
  elseif outcome == "cancelled" then
    return new_error(m, "CancelledError", "wait cancelled")
  elseif outcome == "disturbed" then
    return new_error(m, "CancelledError", "wait cancelled: resumed by somebody else")
  end
  return new_error(m, "BrokenBarrierError", "barrier aborted", m.reason)
end

---The text for an error that was not caught, in place of which `tostring` may raise another.
local function text_of(err)
  local ok, text = pcall(tostring, err)
  if ok and type(text) == "string" then
    return text
  end
  return ("(error object is a %s value; its __tostring raised: %s)"):format(type(err),
    type(text) == "string" and text or type(text))
end

local function add_traceback(err)
  return traceback(text_of(err), 2)
end

---A bad argument, of which the function at `level` is told, as `error` counts.
local function refuse(level, number, name, ...)
  error(("bad argument #%d to '%s' (%s)"):format(number, name, string.format(...)), level + 1)
end

---Nothing but nil comes from argument `number` on.
local function check_nothing(level, number, name, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then
      refuse(level + 1, number + i - 1, name, "no such argument is taken, got %s", type(value))
    end
  end
end

---}=== {=== calling user code

local xpcall_takes_arguments = select(2, xpcall(type, type, 1)) == "number"

---xpcall with arguments, also in Lua 5.1.
local call_back = xpcall_takes_arguments and xpcall or function(f, handler, ...)
  local arguments, n = { ... }, select("#", ...)
  return xpcall(function()
    ---@diagnostic disable-next-line: deprecated
    return f(unpack(arguments, 1, n)) -- luacheck: ignore 113
  end, handler)
end

---Calls a function that may not yield: no Lua can yield across gsub.
local function call(f, argument)
  local ok, err
  string.gsub(".", ".", function()
    ok, err = pcall(f, argument)
  end)
  return ok, err
end

local function is_callable(value)
  local t = type(value)
  if t == "function" then
    return true
  elseif t ~= "table" and t ~= "userdata" then
    return false
  end
  local metatable = debug.getmetatable(value)
  return metatable ~= nil and rawget(metatable, "__call") ~= nil
end

---}=== {=== what changes a barrier

local expire_phase

---The deadline of the phase runs while a party has arrived, and the trip is not decided yet.
local function keep_phase(m)
  local spare
  while m.timeout do
    local runs = not m.held and machine.counted(m) > 0
    if not runs or m.deadline then
      if not runs then
        turns.clear(m)
      end
      return
    elseif spare then
      turns.add(spare)
      return
    end
    spare = turns.deadline(m, m.timeout, expire_phase) -- a finalizer may run: look again
  end
end

---To be called when nodes may have become ready, or parties have arrived or left.
local function changed(m)
  keep_phase(m)
  turns.request(m)
end

local function abort(m, reason)
  if m.state ~= "broken" and not turns.ended then
    m.reason = reason
    machine.abort(m, turns.turn)
  end
end

---Takes a node out for good.
local function leave(m, node)
  turns.clear(node)
  machine.leave(m, node, turns.turn)
  if node.co then
    m.nodes[node.co] = nil
  end
  changed(m)
end

---The node leaves early. False if it is leaving already.
local function withdraw(m, node, outcome, err)
  if not machine.withdraw(m, node, outcome, err or false, turns.turn) then
    return false
  end
  turns.clear(node)
  changed(m)
  return true
end

---Notifies a node outside the barrier in a later turn.
local function post(m, node, outcome, value)
  machine.post(m, node, outcome, value, turns.turn)
  turns.request(m)
end

local function had_arrived(m)
  return ("%d of %d had arrived"):format(machine.counted(m), m.parties)
end

function expire_phase(m, deadline)
  local reason = ("timed out after %s ms, %s"):format(deadline.timeout, had_arrived(m))
  if m.deadline == deadline then
    abort(m, reason)
    changed(m)
  end
end

local function expire_wait(node, deadline)
  local m = node.machine
  if not machine.waits(m, node) then
    return
  end
  local err = new_error(m, "TimeoutError", ("wait timed out after %s ms%s"):format(
    deadline.timeout, m.state == "filling" and ", " .. had_arrived(m)
      or " while the barrier was " .. m.state))
  err.timeout = deadline.timeout
  if node.deadline == deadline and machine.waits(m, node) then
    withdraw(m, node, "failed", err)
  end
end

---}=== {=== all parties are there

---Trips the barrier, or runs its action and does what comes of it.
---@param last barrier.Node|false the last arrival, if it waits
---@param runs boolean its own call runs the action
---@param passes boolean it is a coroutine, which passes at once
---@param since integer? the parties leave in the turns after this one
---@return string outcome "passed", "failed", "reset" or "aborted"
---@return any value the position, or the error that the last arrival has not got yet
---@return barrier.Node|false? gets_it the last arrival, if it gets that error
local function complete(m, last, runs, passes, since)
  local ok, err, on, is_there = true, nil, true, nil
  if m.action then
    machine.hold(m, last, runs)
    keep_phase(m)
    ok, err = call(m.action, m.self)
    on, is_there = machine.release(m, turns.turn)
  end
  if not ok then
    if is_there then
      last.outcome, last.value = "failed", err
    end
    abort(m, err)
    return "failed", err, is_there
  elseif not on then
    return m.verdict
  end
  local position
  if passes and is_there then
    machine.leave(m, last, turns.turn)
  end
  if passes and (is_there or not last) then
    position = m.inside.count
  end
  machine.trip(m, since or turns.turn, turns.turn)
  return "passed", position
end

---The error of an action that no party gets, neither as its own nor as the reason.
local function is_lost(m, outcome, gets_it)
  return outcome == "failed" and not gets_it and not machine.is_awaited(m)
end

local function report_lost(m, err)
  post(m, machine.node(m), "uncaught", err)
end

---True in a fast event of Neovim, where the trip is left to a turn.
local function is_deferred(m)
  return m.in_fast_event and m.in_fast_event()
end

---}=== {=== letting out

---@param reports string[]
local function report_death(node, err, reports)
  local co = node.co
  if cancels[err] ~= co then
    reports[#reports + 1] = traceback(co, text_of(err))
  end
  if coroutine.close then -- luacheck: ignore 143
    local ok, problem = coroutine.close(co) -- luacheck: ignore 143
    if not ok and not rawequal(problem, err) then
      reports[#reports + 1] = traceback(text_of(problem))
    end
  end
end

local PASSED, FAILED = {}, {} -- what the loop resumes a waiting coroutine with, and no other code

---The resume of a waiting coroutine has failed. False if nothing has run, for want of C stack ("C
---stack overflow"): then it is resumed in another turn.
local function resume_failed(m, node, outcome, value, err, reports)
  if status(node.co) == "dead" then
    report_death(node, err, reports)
    return true
  end
  machine.put_back(m, node, outcome, value)
  return false
end

local function resume_with_error(m, node, outcome, value, reports)
  local co = node.co
  if outcome ~= "failed" then
    value = error_for(m, outcome)
    if outcome == "cancelled" then
      cancels[value] = co
    end
  end
  if status(co) == "dead" then
    return true -- a finalizer has closed it
  end
  local ok, err = resume(co, FAILED, value)
  return ok or resume_failed(m, node, "failed", value, err, reports)
end

---@param node barrier.Node of a wait with a callback, or of no wait
local function notify(m, node, outcome, value, reports)
  local callback = node.callback
  local ok, err
  node.callback = false -- from here on it is out, also for a finalizer that closes it
  if outcome == "uncaught" then
    ok, err = false, add_traceback(value)
  elseif outcome == "closed" then
    ok, err = call_back(callback, add_traceback)
  elseif not callback then
    return
  elseif outcome == "passed" or outcome == "tripped" then
    ok, err = call_back(callback, add_traceback, nil, value)
  else
    -- an action's error that is nil or false would look like success
    ok, err = call_back(callback, add_traceback,
      outcome == "failed" and value or error_for(m, outcome))
  end
  if not ok then
    reports[#reports + 1] = err
  end
end

local function complete_in_turn(m, last, since, reports)
  local outcome, err, gets_it = complete(m, last, false, false, since)
  if is_lost(m, outcome, gets_it) then
    reports[#reports + 1] = add_traceback(err)
  end
  if m.action then
    changed(m) -- it may have run the loop, which has found nothing to do
  end
end

---Lets out the parties that are ready in this turn.
local function let_out(m, turn, reports)
  local nodes = m.nodes
  local node, outcome, value = next_node(m, turn)
  while node do
    local co, ok = node.co, true
    local err
    turns.credit = turns.credit - 1
    if node.deadline then
      turns.clear(node)
    end
    if not co then
      notify(m, node, outcome, value, reports)
    elseif outcome == "passed" or outcome == "tripped" then
      ok, err = resume(co, PASSED, value)
      ok = ok or resume_failed(m, node, outcome, value, err, reports)
    else
      ok = resume_with_error(m, node, outcome, value, reports)
    end
    if co and not node.place and nodes[co] == node then
      nodes[co] = nil -- it does not wait again
    end
    if not ok then
      return
    end
    node, outcome, value = next_node(m, turn)
  end
end

---Lets out and in the parties that are ready in this turn.
function turns.drain(m, turn, reports)
  if m.due and m.inside_since < turn then
    local _, last = machine.release(m, turns.turn)
    complete_in_turn(m, last, turn - 1, reports)
  end
  let_out(m, turn, reports)
  if machine.admit(m, turn) then
    local last = m.last
    m.last = false
    complete_in_turn(m, last, nil, reports)
  end
  keep_phase(m)
  turns.enqueue(m)
  if m.n_nodes > BURST and not machine.busy(m) and not machine.is_awaited(m) then
    m.nodes, m.n_nodes = {}, 0 -- gives the memory back that a crowd has needed
  end
end

---Calls schedule(drain). False if that failed and the parties are still to be let out.
local function hand_over(m, reports)
  local pending = m
  local function drain()
    local owner = pending
    if owner then
      turns.request(owner) -- for loops that run inside, and should this fail
      pending = nil
      local ok, err = call(turns.run_alone, owner)
      if not ok then
        error(err, 0)
      end
    end
  end
  turns.dismiss(m)
  local ok, err = call_back(m.schedule, add_traceback, drain)
  if not ok then
    reports[#reports + 1] = err
  end
  return ok or not pending
end

function turns.serve(m, turn, reports)
  if m.schedule then
    if hand_over(m, reports) then
      return
    end
    turns.request(m)
  end
  turns.drain(m, turn, reports)
end

---}=== {=== can the running coroutine yield?

local isyieldable = coroutine.isyieldable -- luacheck: ignore 143

local NO_YIELD = _VERSION == "Lua 5.1"
  and "a C function (in Lua 5.1 also pcall, a metamethod or an iterator)" or "a C function"

-- Lua 5.1 and 5.2: what lets a yield through.
local OPEN = _VERSION == "Lua 5.2" and { [pcall] = true, [xpcall] = true, [dofile] = true } or {}

-- Lua 5.1 and 5.2: the node that was suspended last. Those do not tell whether a metamethod or a
-- finalizer is running; then the yield itself fails, and the wait has never begun.
local unsure = not isyieldable and setmetatable({}, { __mode = "v" }) or nil --[[@as table]]

---Without coroutine.isyieldable: looks for what called Lua from C.
local function looks_yieldable()
  local co, is_main = running()
  if not co or is_main then
    return false
  end
  local level, info = 2, debug.getinfo(2, "nSf")
  while info do
    if info.what == "C" and not OPEN[info.func]
      or info.name == "(for generator)" and _VERSION == "Lua 5.1" then
      return false
    end
    level = level + 1
    info = debug.getinfo(level, "nSf")
  end
  return true
end

isyieldable = isyieldable or looks_yieldable
M.isyieldable = isyieldable

---Takes back a wait whose yield has failed.
local function take_back()
  local node = unsure[1]
  unsure[1] = nil
  if node and node.place and status(node.co) ~= "suspended" then
    leave(node.machine, node)
  end
end

local function refuse_to_suspend(level)
  local co, is_main = running()
  if not co or is_main then
    error("cannot wait outside a coroutine; give wait a callback, or call it in one", level + 1)
  end
  error("cannot wait here: the coroutine cannot yield across " .. NO_YIELD
    .. "; give wait a callback", level + 1)
end

---}=== {=== suspending

---What the coroutine was resumed with decides. After other code's resume it is suspended again.
local function go_on(node, token, result)
  while token ~= PASSED do
    if token == FAILED then
      error(result, 0)
    end
    if unsure then
      unsure[1] = nil
    end
    withdraw(node.machine, node, "disturbed")
    token, result = yield()
  end
  return result
end

local function suspend(node)
  if unsure then
    unsure[1] = node
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
      leave(node.machine, node)
    end
  end }
end

---}=== {=== waiting in a coroutine

---A new node for the running coroutine. One that was let out and waits again has its node still.
local function new_node(m, co)
  local node = machine.node(m, co)
  m.n_nodes = m.n_nodes + 1
  m.nodes[co] = Node and setmetatable(node, Node) or node
  return node
end

---The coroutine is the last arrival.
local function complete_in_coroutine(m, node)
  local outcome, result, gets_it
  if is_deferred(m) then
    enter(m, node, true)
    machine.defer(m, node, turns.turn)
  elseif m.action then
    enter(m, node, true)
    outcome, result, gets_it = complete(m, node, true, true)
  else
    outcome, result = complete(m, false, false, true)
  end
  if outcome == "passed" and result then
    m.nodes[node.co] = nil
    changed(m)
    return result
  elseif is_lost(m, outcome, gets_it) then
    report_lost(m, result)
  end
  changed(m)
  return suspend(node)
end

local to_cancel = setmetatable({}, { __mode = "k" }) -- coroutines whose next wait fails
local cancels_next = false -- whether there are any

---Cancels the next wait of a coroutine, or no longer; without `fails` it says which.
---@param co thread
---@param fails? boolean
---@return boolean?
function M.cancel_next(co, fails)
  if fails == nil then
    return to_cancel[co] or false
  end
  to_cancel[co] = fails or nil
  cancels_next = next(to_cancel) ~= nil
end

local function come_in_coroutine(m, watches, timeout)
  local co = running()
  local node = m.nodes[co] or new_node(m, co)
  if cancels_next and to_cancel[co] then
    M.cancel_next(co, false)
    post(m, node, "cancelled")
    return suspend(node)
  end
  local deadline = timeout and turns.deadline(node, timeout, expire_wait)
  if m.state == "broken" then
    local err = error_for(m, "aborted")
    post(m, node, "failed", err)
    return suspend(node)
  elseif watches then
    machine.watch(m, node)
  elseif not enter(m, node) then
    return complete_in_coroutine(m, node)
  end
  if deadline then
    turns.add(deadline)
  end
  if m.timeout then
    keep_phase(m)
  end
  return suspend(node)
end

---}=== {=== waiting with a callback

local Waiter = { __name = "barrier.Waiter", __metatable = "barrier.Waiter" }
local waiter_methods = {}

local function waiter_at(value)
  return type(value) == "table" and rawget(value, SELF) or nil
end

local function check_waiter(self, name)
  local node = waiter_at(self)
  if not node or node.waiter ~= self then
    error(("calling '%s' on bad self (Waiter expected, got %s)"):format(name, type(self)), 3)
  end
  return node
end

function Waiter.__index(_, name)
  return waiter_methods[name]
end

function Waiter.__newindex(_, name)
  error(("cannot assign to '%s': a Waiter is read-only"):format(tostring(name)), 2)
end

function Waiter:__tostring()
  local node = check_waiter(self, "tostring")
  return ("<barrier.Waiter object at %s [%s]>"):format(tostring(node):match ": (.*)",
    node.callback and "waiting" or "done")
end

local function check_on_close(on_close)
  if on_close ~= nil and not is_callable(on_close) then
    refuse(3, 1, "close", "on_close must be callable, got %s", type(on_close))
  end
end

function waiter_methods.close(self, on_close, ...)
  local node = check_waiter(self, "close")
  local m = node.machine
  check_on_close(on_close)
  check_nothing(2, 2, "close", ...)
  if on_close ~= nil then
    post(m, machine.node(m, nil, nil, on_close), "closed")
  end
  node.callback = false
  if node.place then
    leave(m, node)
  end
end

function waiter_methods.is_closing(self, ...)
  local node = check_waiter(self, "is_closing")
  check_nothing(2, 1, "is_closing", ...)
  return not node.callback
end

local function come_with_callback(m, watches, timeout, callback)
  local node = machine.node(m, nil, setmetatable({}, Waiter), callback)
  local waiter = node.waiter
  rawset(waiter, SELF, node)
  local deadline = timeout and turns.deadline(node, timeout, expire_wait)
  if m.state == "broken" then
    post(m, node, "failed", error_for(m, "aborted"))
  elseif watches then
    machine.watch(m, node)
  elseif not enter(m, node) then
    local deferred = is_deferred(m)
    enter(m, node, true)
    if deferred then
      machine.defer(m, node, turns.turn)
    else
      local outcome, err, gets_it = complete(m, node, true, false)
      if is_lost(m, outcome, gets_it) then
        report_lost(m, err)
      end
    end
    changed(m)
    return waiter
  end
  if deadline and node.place ~= m.leaving then
    turns.add(deadline)
  end
  keep_phase(m)
  return waiter
end

---}=== {=== checking arguments

local function check_barrier(self, name, level)
  local m = type(self) == "table" and self[SELF]
  if not m or m.self ~= self then
    error(("calling '%s' on bad self (barrier expected, got %s)"):format(name, type(self)),
      (level or 2) + 1)
  end
  if unsure then
    take_back()
  end
  return m
end

local LARGEST = math.maxinteger or 9007199254740992 -- luacheck: ignore 143
local AND_MOST = math.maxinteger and "" or " and <= 2^53" -- luacheck: ignore 143
local to_integer = math.tointeger or function(value) -- luacheck: ignore 143
  return value
end

---The integer that a number, not a string, stands for; nil if none does.
local function integer_of(value, least)
  if type(value) == "number" and value >= least and value <= LARGEST and value % 1 == 0 then
    return to_integer(value)
  end
end

local function shown(value)
  return type(value) == "number" and tostring(value) or type(value)
end

---The arguments of a wait, of which the function at level 3 is told.
---@return integer? timeout
---@return function? callback
local function check_request(name, timeout, callback, ...)
  local ms
  if type(timeout) == "number" then
    ms = integer_of(timeout, 0)
    if not ms then
      refuse(3, 1, name, "timeout must be an integer >= 0%s, in milliseconds, got %s", AND_MOST,
        tostring(timeout))
    end
  elseif timeout ~= nil then
    if not is_callable(timeout) then
      refuse(3, 1, name, "timeout or callback expected, got %s", type(timeout))
    end
    if callback ~= nil then
      refuse(3, 2, name, "nothing comes after the callback")
    end
    check_nothing(3, 3, name, ...)
    return nil, timeout
  end
  if callback ~= nil and not is_callable(callback) then
    refuse(3, 2, name, "callback must be callable, got %s", type(callback))
  end
  check_nothing(3, 3, name, ...)
  return ms, callback
end

---How many parties.
local function check_count(name, n, ...)
  check_nothing(3, 2, name, ...)
  if n == nil then
    return 1
  end
  local count = integer_of(n, 1)
  if not count then
    refuse(3, 1, name, "n must be an integer >= 1, got %s", shown(n))
  end
  return count
end

local function check_absent(m, name, n)
  if n > machine.absent(m) then
    refuse(3, 1, name, "only %d of %d parties have yet to arrive", machine.absent(m), m.parties)
  end
end

---}=== {=== methods

local Barrier = { __name = "barrier.Barrier", __metatable = "barrier.Barrier" }
local methods, properties = {}, {}
M.members = methods

local function come(m, watches, timeout, callback)
  if callback then
    return come_with_callback(m, watches, timeout, callback)
  elseif not isyieldable() then
    refuse_to_suspend(3)
  end
  return come_in_coroutine(m, watches, timeout)
end

function methods.wait(self, timeout, callback, ...)
  local m = type(self) == "table" and self[SELF]
  if not m or unsure or cancels_next or m.timeout or m.state == "broken" or timeout ~= nil
    or callback ~= nil or select("#", ...) > 0 or not isyieldable() then
    m = check_barrier(self, "wait")
    timeout, callback = check_request("wait", timeout, callback, ...)
    local result = come(m, false, timeout, callback)
    return result
  end
  local co = running() -- the usual wait
  local node = m.nodes[co] or new_node(m, co)
  if enter(m, node) then
    return suspend(node)
  end
  return complete_in_coroutine(m, node)
end

function methods.await_trip(self, ...)
  local m = check_barrier(self, "await_trip")
  local result = come(m, true, check_request("await_trip", ...))
  return result
end

---The checks of b:with(body).
function M.check_with(self, can_yield, body, ...)
  check_barrier(self, "with", 3)
  if not is_callable(body) then
    refuse(3, 1, "with", "body must be callable, got %s", type(body))
  end
  check_nothing(3, 2, "with", ...)
  if not can_yield then
    refuse_to_suspend(3)
  end
end

---A party has arrived, or left for good, that does not wait; with `completes` it was the last
---that the barrier waited for.
---@return true?
---@return any err
local function finish(m, completes)
  local outcome, err
  if m.state == "broken" then
    return nil, error_for(m, "aborted")
  elseif completes and is_deferred(m) then
    machine.defer(m, false, turns.turn)
  elseif completes then
    outcome, err = complete(m, false, false, false)
  end
  if completes then
    changed(m)
  else
    keep_phase(m)
  end
  if outcome == "failed" then
    return nil, err
  elseif outcome == "reset" or outcome == "aborted" then
    return nil, error_for(m, outcome)
  end
  return true
end

function methods.arrive(self, n, ...)
  local m = check_barrier(self, "arrive")
  n = check_count("arrive", n, ...)
  local spare = not machine.is_open(m) and machine.node(m)
  if m.parties > 0 then
    check_absent(m, "arrive", n)
  elseif n > 1 then
    refuse(2, 1, "arrive", "with no party left, one arrives at a time")
  end
  local completes = machine.would_trip(m, n)
  if m.state ~= "broken" then
    machine.arrive(m, n, spare)
  end
  return finish(m, completes)
end

function methods.register(self, n, ...)
  local m = check_barrier(self, "register")
  n = check_count("register", n, ...)
  if n > MOST - m.parties then
    refuse(2, 1, "register", "a barrier has at most %d parties", MOST)
  end
  m.parties = m.parties + n
end

function methods.deregister(self, n, ...)
  local m = check_barrier(self, "deregister")
  n = check_count("deregister", n, ...)
  check_absent(m, "deregister", n)
  m.parties = m.parties - n
  return finish(m, m.state == "filling" and not m.held and machine.counted(m) == m.parties)
end

function methods.reset(self, ...)
  local m = check_barrier(self, "reset")
  check_nothing(2, 1, "reset", ...)
  if not turns.ended then
    machine.reset(m, turns.turn)
    m.reason = nil
    changed(m)
  end
end

function methods.abort(self, reason, ...)
  local m = check_barrier(self, "abort")
  check_nothing(2, 2, "abort", ...)
  if m.state ~= "broken" then
    abort(m, reason)
    changed(m)
  end
end

function methods.cancel(self, co)
  local m = check_barrier(self, "cancel")
  if type(co) ~= "thread" then
    refuse(2, 1, "cancel", "coroutine expected, got %s",
      waiter_at(co) and "Waiter (it has a method close)" or type(co))
  end
  local node = m.nodes[co]
  return node ~= nil and withdraw(m, node, "cancelled")
end

local function by_ticket(a, b)
  return a.ticket < b.ticket
end

---@param lists barrier.List[]
local function waiters_of(m, lists)
  local nodes = {}
  for _, list in ipairs(lists) do
    local node = list.first
    while node do
      if node.arrivals == 0 and (list ~= m.leaving or node.listed) then
        nodes[#nodes + 1] = node
      end
      node = node.next
    end
  end
  table.sort(nodes, by_ticket)
  for i, node in ipairs(nodes) do
    nodes[i] = node.co or node.waiter
  end
  return nodes
end

function methods.waiters(self, ...)
  local m = check_barrier(self, "waiters")
  check_nothing(2, 1, "waiters", ...)
  return waiters_of(m, { m.inside, m.blocked, m.leaving })
end

M.waiters = methods.waiters

---@return any # the callback of a Waiter; false if it was called or closed
function M.callback_of(waiter)
  return check_waiter(waiter, "callback_of").callback
end

function M.watchers(self)
  local m = check_barrier(self, "watchers")
  return waiters_of(m, { m.watching })
end

function properties.parties(m)
  return m.parties
end

function properties.n_waiting(m)
  return m.state == "filling" and m.inside.count or 0
end

function properties.n_arrived(m)
  return machine.counted(m)
end

function properties.broken(m)
  return m.state == "broken"
end

function properties.state(m)
  return m.state
end

function properties.generation(m)
  return m.generation
end

function Barrier:__index(name)
  local property = properties[name]
  if not property then
    return methods[name]
  end
  if unsure then
    take_back()
  end
  return property(self[SELF])
end

function Barrier.__newindex(_, name)
  error(("cannot assign to '%s': the members of a barrier are read-only"):format(tostring(name)), 2)
end

function Barrier:__tostring()
  local m = check_barrier(self, "tostring")
  local waiting, counted = properties.n_waiting(m), machine.counted(m)
  return ("<barrier.Barrier object at %s [%s%s%s]>"):format(tostring(m):match ": (.*)", m.state,
    m.state == "broken" and "" or (", waiters:%d/%d"):format(waiting, m.parties),
    counted > waiting and ", arrived:" .. counted or "")
end

---}=== {=== the module

local all = setmetatable({}, { __mode = "k" }) -- the number of each barrier
local n_made = 0

---@return barrier.Barrier[] # those in which a party is
function M.barriers()
  local machines, list = {}, {}
  if unsure then
    take_back()
  end
  for m in pairs(all) do
    machines[#machines + 1] = m
  end
  table.sort(machines, function(a, b)
    return all[a] < all[b]
  end)
  for _, m in ipairs(machines) do
    if machine.is_awaited(m) or waiters_of(m, { m.leaving })[1] then
      list[#list + 1] = m.self
    end
  end
  return list
end

local OPTIONS = {
  action = function(value)
    return is_callable(value) or ("must be callable, got " .. type(value))
  end,
  schedule = function(value)
    return value == false or is_callable(value)
      or "must be callable or false, got " .. type(value)
  end,
  timeout = function(value)
    return integer_of(value, 0) ~= nil or ("must be an integer >= 0%s, in milliseconds, got %s")
      :format(AND_MOST, tostring(value))
  end,
}

local function check_options(options)
  if options ~= nil and type(options) ~= "table" then
    refuse(3, 2, "new", "options must be a table, got %s", type(options))
  end
  for name, value in pairs(options or {}) do
    local check = OPTIONS[name]
    local problem = check and check(value)
    if not check then
      refuse(3, 2, "new", "unknown option '%s'", tostring(name))
    elseif problem ~= true then
      refuse(3, 2, "new", "option '%s' %s", name, problem)
    end
  end
end

local function check_parties(n, parties)
  local count = integer_of(parties, 1)
  if not count or count > MOST then
    refuse(3, 1, "new", "parties must be an integer >= 1%s, got %s",
      count and " and <= " .. MOST or "", n > 0 and shown(parties) or "no value")
  end
  return count
end

---@param default_schedule function? of the option `schedule`
---@param in_fast_event (fun(): boolean)? with that default, a last arrival there is put off
---@return fun(parties: integer, options?: barrier.Options): barrier.Barrier
function M.make_new(default_schedule, in_fast_event)
  return function(...)
    local _, options = ...
    local m = machine.new(check_parties(select("#", ...), (...)))
    check_options(options)
    check_nothing(2, 3, "new", select(3, ...))
    m.self = setmetatable({ [SELF] = m }, Barrier)
    m.nodes, m.n_nodes = {}, 0 -- of the coroutines in it; how many were made
    if options then
      m.action, m.schedule = options.action, options.schedule
      m.timeout = options.timeout and integer_of(options.timeout, 0)
    end
    if m.schedule == nil then
      m.schedule, m.in_fast_event = default_schedule, in_fast_event
    end
    n_made = n_made + 1
    all[m] = n_made
    if turns.ended then
      machine.freeze(m)
    end
    return m.self
  end
end

function turns.on_end()
  for m in pairs(all) do
    machine.freeze(m)
  end
end

M.bind, M.close, M.leave = turns.bind, turns.close, turns.leave
M.has_left, M.watch_exit = turns.has_left, turns.watch_exit

---@return integer parties that have yet to be let out or notified
---@return integer timeouts that are yet to come
function M.pending()
  local parties = 0
  for m in pairs(all) do
    parties = parties + machine.n_ready(m)
  end
  return parties, turns.n_deadlines()
end

---}===

return M
