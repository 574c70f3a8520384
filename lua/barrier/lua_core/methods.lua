---The core in Lua, 6 of 6: what stands in for the C core where that is not there. The methods of
---barriers and Waiters.
local here = (...):gsub("methods$", "")
local arguments = require(here .. "arguments")
local loop, turns = require(here .. "loop"), require(here .. "turns")
local machine, waits = require(here .. "machine"), require(here .. "waits")
require(here .. "drain")

local isyieldable, error_for, guess = waits.isyieldable, waits.error_for, waits.guess
local running, suspend = coroutine.running, waits.suspend
local last_nodes, new_node, to_cancel = waits.nodes, waits.new_node, waits.to_cancel

local problem_of, callable = arguments.problem_of, arguments.callable
local to_integer = math.tointeger or function(value) -- luacheck: ignore 143
  return value
end
local SELF = {} -- the key of what a barrier and a Waiter are about; no other code has it

local Barrier = { __name = "barrier.Barrier", __metatable = "barrier.Barrier" }
local Waiter = { __name = "barrier.Waiter", __metatable = "barrier.Waiter" }
local methods, waiter_methods = {}, {}

---@type table<string, any>
local M = {
  _VERSION = "the core in Lua", implementation = "Lua", members = methods,
  BrokenBarrierError = waits.BrokenBarrierError, CancelledError = waits.CancelledError,
  TimeoutError = waits.TimeoutError, isyieldable = isyieldable, cancel_next = waits.cancel_next,
  bind = loop.bind, close = loop.close, leave = loop.leave, has_left = loop.has_left,
  watch_exit = loop.watch_exit, schedule_by = turns.schedule_by,
}

---{=== what a method is called on

local function check_barrier(self, name, level)
  local m = type(self) == "table" and rawget(self, SELF)
  if not m or m.self ~= self then
    error(("calling '%s' on bad self (barrier expected, got %s)"):format(name, type(self)),
      level or 3)
  end
  if guess then
    guess.take_back()
  end
  return m
end

local function check_waiter(self, name)
  local node = type(self) == "table" and rawget(self, SELF)
  if not node or node.waiter ~= self then
    error(("calling '%s' on bad self (Waiter expected, got %s)"):format(name, type(self)), 3)
  end
  return node
end

---}=== {=== waiting

local NO_YIELD = _VERSION == "Lua 5.1"
  and "a C function (in Lua 5.1 also pcall, a metamethod or an iterator)" or "a C function"

local function why_not_here()
  local co, is_main = coroutine.running()
  if not co or is_main then
    return "cannot wait outside a coroutine; give wait a callback, or call it in one"
  end
  return "cannot wait here: the coroutine cannot yield across " .. NO_YIELD
    .. "; give wait a callback"
end

---In a coroutine. `guess` was asked already.
---@return integer # the position, or the generation
local function wait_here(self, name, arrive, timeout)
  local co = running()
  local node = last_nodes[co]
  local m = node and node.machine
  if not m or m.self ~= self then -- it does not wait where it has waited before
    m = check_barrier(self, name)
  end
  if not guess and not isyieldable() then
    error(why_not_here(), 2)
  end
  node = node or new_node(m, co)
  node.machine = m
  if timeout or m.timeout or m.state == "broken" or to_cancel[co] then
    waits.come(m, node, arrive, timeout)
  elseif arrive(m, node) then
    waits.complete(m, node)
  else
    return suspend(node) -- the usual wait
  end
  if node.place then
    return suspend(node)
  end
  return node.value -- it was the last arrival
end

---LuaJIT compiles no return from a function with varargs that has called C: `wait_here` calls it.
---@param arrive fun(m: barrier.Machine, node: barrier.Node): boolean?
local function waiting(name, arrive)
  local checks = { arguments.timeout_or_callback, arguments.callback_behind }
  return function(self, timeout, callback, ...)
    if guess or timeout ~= nil or callback ~= nil or select("#", ...) > 0 then
      local m = check_barrier(self, name)
      local problem = problem_of(name, checks, m, timeout, callback, ...)
      if problem then
        error(problem, 2)
      elseif type(timeout) ~= "number" then
        timeout, callback = nil, timeout or callback
      end
      timeout = timeout and to_integer(timeout)
      if callback then
        local node = machine.node(m, nil, callback)
        node.waiter = setmetatable({ [SELF] = node }, Waiter)
        waits.come(m, node, arrive, timeout)
        return node.waiter
      elseif guess and not isyieldable() then
        error(why_not_here(), 2)
      end
    end
    return wait_here(self, name, arrive, timeout)
  end
end

methods.wait = waiting("wait", machine.enter)
methods.await_trip = waiting("await_trip", machine.watch)

local with_checks = { callable "body" }

---The checks of b:with(body).
function M.check_with(self, can_yield, ...)
  local m = check_barrier(self, "with", 4)
  local problem = problem_of("with", with_checks, m, ...) or not can_yield and why_not_here()
  if problem then
    error(problem, 3)
  end
end

---}=== {=== the other methods

---Makes a method.
local function define(in_table, name, check_self, checks, f)
  in_table[name] = function(self, ...)
    local object = check_self(self, name)
    local problem = problem_of(name, checks, object, ...)
    if problem then
      error(problem, 2)
    end
    return f(object, ...)
  end
end

local function method(name, checks, f)
  define(methods, name, check_barrier, checks, f)
end

---A party has arrived, or left for good, that does not wait.
---@param is_last boolean the barrier waits for no other party
---@return true?
---@return any err
local function finish(m, is_last)
  local outcome, err
  if m.state == "broken" then
    return nil, error_for(m, "aborted")
  elseif is_last then
    outcome, err = waits.complete(m, false)
  else
    machine.keep_phase(m)
  end
  if outcome == "failed" then
    return nil, err
  elseif outcome == "reset" or outcome == "aborted" then
    return nil, error_for(m, outcome)
  end
  return true
end

method("arrive", { arguments.n_to_arrive }, function(m, n)
  return finish(m, m.state ~= "broken" and machine.arrive(m, to_integer(n or 1)))
end)

method("register", { arguments.n_to_register }, function(m, n)
  machine.add_parties(m, to_integer(n or 1))
end)

method("deregister", { arguments.n_absent }, function(m, n)
  return finish(m, machine.add_parties(m, -to_integer(n or 1)))
end)

method("reset", {}, machine.reset)
method("abort", { arguments.anything }, machine.abort)

method("cancel", { function(co)
  local is_waiter = type(co) == "table" and rawget(co, SELF)
  return type(co) ~= "thread" and "coroutine expected, got "
    .. (is_waiter and "Waiter (it has a method close)" or type(co))
end, arguments.anything }, function(m, co)
  local node = waits.node_of(m, co)
  return node ~= nil and machine.withdraw(m, node, "cancelled")
end)

define(waiter_methods, "close", check_waiter, { arguments.on_close }, function(node, on_close)
  local m = node.machine
  if on_close ~= nil then
    machine.post(m, machine.node(m, nil, on_close), "closed")
  end
  node.callback = false
  if node.place then
    machine.leave(m, node)
  end
end)

define(waiter_methods, "is_closing", check_waiter, {}, function(node)
  return not node.callback
end)

---}=== {=== looking

---@param lists barrier.List[]
---@return (thread|barrier.Waiter)[] # in order of arrival
local function waiters_of(lists, is_watching)
  local nodes = {}
  for _, list in ipairs(lists) do
    local node = list.next
    while node ~= list do
      nodes[#nodes + 1] = (is_watching or node.ticket > 0) and node or nil
      node = node.next
    end
  end
  if not is_watching then
    table.sort(nodes, function(a, b)
      return a.ticket < b.ticket
    end)
  end
  for i, node in ipairs(nodes) do
    nodes[i] = node.co or node.waiter
  end
  return nodes
end

method("waiters", {}, function(m)
  return waiters_of { m.inside, m.blocked, m.leaving }
end)

M.waiters = methods.waiters

function M.watchers(self)
  return waiters_of({ check_barrier(self, "watchers").watching }, true)
end

---@return any # the callback of a Waiter; false if it was called or closed
function M.callback_of(waiter)
  return check_waiter(waiter, "callback_of").callback
end

local function n_waiting(m)
  return m.state == "filling" and m.inside.count or 0
end

local properties = {
  parties = function(m) return m.parties end,
  n_waiting = n_waiting,
  n_arrived = machine.counted,
  broken = function(m) return m.state == "broken" end,
  state = function(m) return m.state end,
  generation = function(m) return m.generation end,
}

function Barrier:__index(name)
  local found = methods[name]
  if found then
    return found
  end
  found = properties[name]
  if found and guess then
    guess.take_back()
  end
  return found and found(rawget(self, SELF))
end

function Barrier.__newindex(_, name)
  error(("cannot assign to '%s': the members of a barrier are read-only"):format(tostring(name)), 2)
end

function Barrier:__tostring()
  local m = check_barrier(self, "tostring")
  local waiting_now, counted = n_waiting(m), machine.counted(m)
  return ("<barrier.Barrier object at %s [%s%s%s]>"):format(tostring(m):match ": (.*)", m.state,
    m.state == "broken" and "" or (", waiters:%d/%d"):format(waiting_now, m.parties),
    counted > waiting_now and ", arrived:" .. counted or "")
end

Waiter.__index = function(_, name)
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

---}=== {=== the module

---@return barrier.Barrier[] # those in which a party is
function M.barriers()
  local machines, list = {}, {}
  if guess then
    guess.take_back()
  end
  for m in pairs(machine.all) do
    machines[#machines + 1] = m
  end
  table.sort(machines, function(a, b)
    return machine.all[a] < machine.all[b]
  end)
  for _, m in ipairs(machines) do
    if machine.is_awaited(m) or waiters_of { m.leaving }[1] then
      list[#list + 1] = m.self
    end
  end
  return list
end

---@return integer parties that have yet to be let out, let in or notified
---@return integer timeouts that are yet to come
function M.pending()
  local parties = 0
  for m in pairs(machine.all) do
    local n = m.leaving.count + m.told.count + m.blocked.count
    if m.state ~= "filling" or m.held then
      n = n + m.inside.count
    end
    parties = parties + (n == 0 and turns.busy(m) and 1 or n)
  end
  return parties, turns.n_deadlines()
end

---@param default_schedule function? of the option `schedule`
---@param in_fast_event (fun(): boolean)? with that default, a last arrival there is put off
---@return fun(parties: integer, options?: barrier.Options): barrier.Barrier
function M.make_new(default_schedule, in_fast_event)
  return function(...)
    local problem = problem_of("new", arguments.new, nil, ...)
    if problem then
      error(problem, 2)
    end
    local parties, options = ...
    local m = machine.new(to_integer(parties))
    m.self = setmetatable({ [SELF] = m }, Barrier)
    m.schedule = options and options.schedule
    if options then
      m.action, m.timeout = options.action, options.timeout and to_integer(options.timeout)
    end
    if m.schedule == nil then
      m.schedule, m.in_fast_event = default_schedule, in_fast_event
    end
    m.queue, m.schedule = turns.queue_of(m.schedule)
    return m.self
  end
end

---}===

return M
