---One barrier for the loops of several threads: `barrier.shared(name, parties)`.
local core = require("barrier.environment").core() --[[@as table]]

---@class barrier.native the functions of src/shared/binding.c
---@field [string] any
local native = core.shared

-- Who waits in this state is known to the module that was loaded first.
if native.module then
  return native.module
end

local loop = require "barrier.shared_loop"
local waits = require "barrier.shared_waits"
local isyieldable = coroutine.isyieldable or core.isyieldable -- luacheck: ignore 143

-- {=== arguments ===

local function is_callable(value)
  if type(value) == "function" then
    return true
  end
  local metatable = (debug and debug.getmetatable or getmetatable)(value)
  return type(metatable) == "table" and metatable.__call ~= nil
end

local function is_integer(value, least, most)
  return type(value) == "number" and value >= least and value <= most and value % 1 == 0
end

local function bad_argument(position, name, format, ...)
  error(("bad argument #%d to '%s' (" .. format .. ")"):format(position, name, ...), 4)
end

local function check_self(self, name)
  if not native.is_barrier(self) then
    error(("calling '%s' on bad self (shared barrier expected, got %s)"):format(name,
      type(self)), 3)
  end
end

local MAX_TIMEOUT = 2 ^ 53

local function check_wait(timeout, callback)
  if type(timeout) == "number" then
    if not is_integer(timeout, 0, MAX_TIMEOUT) then
      bad_argument(1, "wait", "timeout must be an integer >= 0, in milliseconds, got %s",
        tostring(timeout))
    end
  elseif timeout ~= nil and is_callable(timeout) then
    if callback ~= nil then
      bad_argument(2, "wait", "nothing comes after the callback")
    end
    return nil, timeout
  elseif timeout ~= nil then
    bad_argument(1, "wait", "timeout or callback expected, got %s", type(timeout))
  end
  if callback ~= nil and not is_callable(callback) then
    bad_argument(2, "wait", "callback must be callable, got %s", type(callback))
  end
  return timeout, callback
end

local in_work -- whether this is a state of uv.new_work, once that is known
local function check_loop()
  if in_work == nil then
    in_work = native.in_work() or false
  end
  if in_work then
    error("cannot wait in a function of uv.new_work: nobody runs a loop there; use arrive", 3)
  end
end

local function check_can_suspend()
  if isyieldable() then
    return
  end
  local co, is_main = coroutine.running()
  if not co or is_main then
    error("cannot wait outside a coroutine; give wait a callback, or call it in one", 3)
  end
  error("cannot wait here: the coroutine cannot yield across a C function"
    .. (_VERSION == "Lua 5.1" and " (in Lua 5.1 also pcall, a metamethod or an iterator)" or "")
    .. "; give wait a callback", 3)
end

local MAY_TRAVEL = { ["nil"] = true, string = true, number = true, boolean = true }

-- }===

-- Its annotations are in _meta.lua.
local Shared = {}

function Shared:wait(timeout, callback)
  check_self(self, "wait")
  timeout, callback = check_wait(timeout, callback)
  check_loop()
  if callback then
    return waits.with_callback(self, timeout, callback)
  end
  check_can_suspend()
  return waits.in_coroutine(self, timeout)
end

function Shared:arrive()
  check_self(self, "arrive")
  local arrived, reason = native.arrive(self)
  if arrived then
    return true
  end
  return nil, waits.new_error("BrokenBarrierError", self, "barrier aborted", reason)
end

function Shared:reset()
  check_self(self, "reset")
  native.reset(self)
end

function Shared:abort(reason)
  check_self(self, "abort")
  if not MAY_TRAVEL[type(reason)] then
    error(("bad argument #1 to 'abort' (the reason goes to other threads: a string, number or "
      .. "boolean expected, got %s)"):format(type(reason)), 2)
  end
  native.abort(self, reason)
end

function Shared:cancel(co)
  check_self(self, "cancel")
  if type(co) ~= "thread" then
    error(("bad argument #1 to 'cancel' (coroutine expected, got %s)"):format(
      native.key(co) == false and type(co) or "Waiter (it has a method close)"), 2)
  end
  return waits.cancel(self, co)
end

-- {=== metatables ===

local properties = { parties = 1, n_waiting = 2, n_arrived = 3, generation = 4, broken = 5 }

---@type table<barrier.Shared, string>
local names = setmetatable({}, { __mode = "k" })

local metatable = native.barrier_metatable

function metatable.__index(self, key)
  local property = properties[key]
  if property then
    return (select(property, native.status(self)))
  elseif key == "name" then
    return names[self]
  end
  return Shared[key]
end

function metatable.__newindex(_, key)
  error(("cannot assign to '%s': the members of a barrier are read-only"):format(tostring(key)), 2)
end

function metatable.__tostring(self)
  check_self(self, "tostring")
  local parties, n_waiting, n_arrived, _, broken = native.status(self)
  local state = "broken"
  if not broken then
    state = ("filling, waiters:%d/%d"):format(n_waiting, parties)
    if n_arrived > n_waiting then
      state = ("%s, arrived:%d"):format(state, n_arrived)
    end
  end
  return ('<barrier.Shared object "%s" [%s]>'):format(names[self], state)
end

local Waiter = {}
native.wait_metatable.__index = Waiter

local function check_waiter(self, name)
  local key = native.key(self)
  if key == false then
    error(("calling '%s' on bad self (Waiter expected, got %s)"):format(name, type(self)), 3)
  end
  return key
end

---@param on_close? fun() called from the loop
function Waiter:close(on_close)
  local key = check_waiter(self, "close")
  if on_close ~= nil and not is_callable(on_close) then
    error(("bad argument #1 to 'close' (on_close must be callable, got %s)"):format(
      type(on_close)), 2)
  end
  if on_close ~= nil then
    loop.defer(on_close)
  end
  waits.close(key)
end

function Waiter:is_closing()
  return check_waiter(self, "is_closing") == nil
end

-- }===

local MAX_PARTIES = 2 ^ 31 - 1

---The barriers of this state, so that there is one object for each.
---@type table<string, barrier.Shared>
local known = setmetatable({}, { __mode = "v" })

---The barrier of that name in this process. The first call makes it; the others, from
---whatever thread, have to give the same number of parties.
---@param name string
---@param parties integer >= 1
---@return barrier.Shared
local function shared(name, parties)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'shared' (name must be a string, got %s)"):format(type(name)), 2)
  end
  if not is_integer(parties, 1, MAX_PARTIES) then
    local got = type(parties) == "number" and tostring(parties) or type(parties)
    error("bad argument #2 to 'shared' (parties must be an integer >= 1 and < 2^31, got " .. got
      .. ")", 2)
  end
  local b = known[name]
  local others
  if b and native.is_barrier(b) then -- and not one that was finalized
    others = b.parties ~= parties and b.parties
  else
    b, others = native.join(name, parties)
  end
  if others then
    error(("bad argument #2 to 'shared' (the barrier '%s' has %d parties, not %d)"):format(
      name, others, parties), 2)
  end
  known[name], names[b] = b, name
  return b
end

native.module = shared
return shared
