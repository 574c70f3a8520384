---Waiting in a coroutine for what luv calls back, and cancelling a coroutine that waits.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local core = environment.core()
local neovim = type(vim) == "table" and vim.schedule and require(prefix .. "neovim") or nil

local isyieldable = core.isyieldable or coroutine.isyieldable -- luacheck: ignore 143
---@diagnostic disable-next-line: deprecated
local unpack = table.unpack or unpack -- luacheck: ignore 113 143
local is_5_1 = _VERSION == "Lua 5.1" and not jit

---The group or await of each barrier that one has made for itself.
local owners = core.owners or setmetatable({}, { __mode = "kv" })
core.owners = owners

local M = {
  owners = owners,
  has_stopped = false, -- whether `stop` has ever met a coroutine that did not wait
}

function M.is_callable(value)
  if type(value) == "function" then
    return true
  end
  local metatable = (debug and debug.getmetatable or getmetatable)(value)
  return type(metatable) == "table" and metatable.__call ~= nil
end
local is_callable = M.is_callable

-- {=== cancelling ===

---The coroutines that `cancel` has taken out of a wait and that have not ended, and those whose
---next wait will fail.
---@type table<thread, boolean>
local cancelled = setmetatable({}, { __mode = "k" })

---What barrier.cancel calls.
---@param co thread
---@return boolean found
function M.cancel(co)
  if type(co) ~= "thread" then
    local waiter = tostring(co):find("^<barrier%.Waiter") and " (it has a method close)" or ""
    error(("bad argument #1 to 'cancel' (coroutine expected, got %s%s)"):format(type(co), waiter),
      2)
  end
  for _, b in ipairs(core.barriers()) do
    if b:cancel(co) then
      cancelled[co] = true
      return true
    end
  end
  return false
end

---Cancels the coroutine; if it does not wait now, its next wait fails.
---@param co thread
function M.stop(co)
  if not M.cancel(co) and coroutine.status(co) ~= "dead" and core.cancel_next then
    cancelled[co], M.has_stopped = true, true
    core.cancel_next(co, true)
  end
end

---Whether the next wait of the running coroutine was cancelled.
local function is_stopped()
  return M.has_stopped and core.cancel_next((coroutine.running()))
end

---Raises the error in a turn, if the next wait of the running coroutine was cancelled.
function M.check()
  if is_stopped() then
    M.take(M):await_trip()
  end
end

---Whether the running coroutine would be suspended by a wait, or that would raise an error.
---@return boolean
function M.can_wait()
  return isyieldable() and not is_stopped()
end

---The coroutine has ended: it will not wait any more.
---@param co thread
---@return boolean was_cancelled
function M.ended(co)
  local was = cancelled[co] or false
  if was and core.cancel_next then
    core.cancel_next(co, false)
  end
  return was
end

-- }===

-- {=== barriers to use for a while ===

local function always()
  return true
end

local new = core.make_new(neovim and neovim.schedule, always)

local idle = {}

---Makes a barrier of one party, which trips in a turn of the loop, never at once.
---@param owner table see `owners`
---@param schedule? function|false where parties go on; without it, the barrier may be used again
---@return barrier.Barrier
function M.take(owner, schedule)
  local b
  if schedule == nil then
    b = table.remove(idle) or new(1)
  else
    b = core.make_new(schedule or nil, always)(1)
  end
  owners[b] = owner
  return b
end

---Nothing but the parties of a trip that has come may be at the barrier.
function M.give(b)
  if #idle < 8 then
    idle[#idle + 1] = b
  end
end

---The generation of each barrier that was last asked to trip.
---@type table<barrier.Barrier, integer>
local asked = setmetatable({}, { __mode = "k" })

---True if the barrier will trip in the next turn.
---@return boolean
function M.is_asked(b)
  return asked[b] == b.generation
end

---Has a barrier trip in the next turn, once.
function M.ask(b)
  local generation = b.generation
  if generation and asked[b] ~= generation then -- otherwise collected, or asked already
    b:arrive()
    asked[b] = generation
  end
end

---Calls `f` in a turn of the loop. If it raises an error, that is reported as uncaught.
function M.turn(owner, schedule, f)
  local b = M.take(owner, schedule)
  b:await_trip(function()
    if schedule == nil then
      M.give(b)
    end
    f()
  end)
  M.ask(b)
end

---Waits in a coroutine for the barrier's trip. PUC Lua 5.1 can't wait inside pcall: there a
---callback notices that the time has passed.
---@return barrier.Error|string|nil err of the wait
function M.suspend(b, timeout)
  if not is_5_1 then
    local ok, err = pcall(b.await_trip, b, timeout)
    return not ok and err or nil
  elseif timeout == nil then
    b:await_trip()
    return nil
  end
  local own, problem = M.take(owners[b]), nil
  b:await_trip(timeout, function(err)
    problem = err
    own:arrive()
  end)
  own:await_trip()
  M.give(own)
  return problem
end

-- }===

-- {=== await ===

local function pack(...)
  return { n = select("#", ...), ... }
end

---Suspends the coroutine until `state.values` are there.
local function suspend(state)
  local b = M.take(M)
  state.b = b
  if not state.values then -- or a finalizer has called back meanwhile
    b:await_trip()
    M.give(b)
  end
end

---The callback that ends an await.
local function new_callback(state)
  return function(...)
    local values = pack(...)
    local waits = state.waits
    state.waits = nil -- from here on another call is ignored
    if waits and not state.values then
      state.values = values
      local b = state.b
      if b and b.generation then -- and not collected with the Lua state
        b:arrive()
      end
    end
  end
end

---What barrier.await calls.
---@param f fun(...: any): any, any
---@param ... any
---@return any ...
function M.await(f, ...)
  if not isyieldable() then
    local co, is_main = coroutine.running()
    error((not co or is_main) and "cannot await outside a coroutine; call it in barrier.run"
      or "cannot await here: the coroutine cannot yield across a C function", 2)
  elseif not is_callable(f) then
    error(("bad argument #1 to '%s' (%s, got %s)"):format("await", "function expected", type(f)), 2)
  end
  M.check()
  local state, n = { waits = true }, select("#", ...) + 1
  local arguments = { ... }
  arguments[n] = new_callback(state)
  local first, problem = f(unpack(arguments, 1, n))
  if not state.values then
    if not first and problem then
      state.waits = nil
      return problem
    end
    suspend(state)
  end
  return unpack(state.values, 1, state.values.n)
end

-- }===

return M
