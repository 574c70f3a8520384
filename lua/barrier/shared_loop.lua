---What wakes the loop of a Lua state for those who are ready at shared barriers: a handle
---that keeps the loop alive as long as somebody waits in this state.
local M = {}

local environment = require "barrier.environment"
local uv = environment.luv()

---@class barrier.native the functions of src/shared/binding.c
local native = environment.core().shared

-- Once the Lua state or Neovim ends, no handle is started or made.
local has_left = environment.core().has_left

---@type fun(f: fun())? in Neovim: how to get where vim.api may be called
M.schedule = type(vim) == "table" and vim.schedule or nil

local drain
local scheduled = false

---On Windows: runs as long as somebody may be ready. A loop cannot poll there. It reads the
---pipe that wakes it, but does not read on inside of that callback, where a waiter may run it.
---@type userdata?
local idle

local function stop_idle()
  if idle and not has_left() and not uv.is_closing(idle) then
    uv.idle_stop(idle)
  end
end

local function on_schedule()
  scheduled = false
  if has_left() then
    return
  end
  native.wake() -- for loops that run inside, and should it fail
  drain()
end

local function on_wake()
  if has_left() then
    return
  end
  if not M.schedule then
    drain()
    return
  end
  stop_idle()
  if native.acknowledge() and not scheduled then
    scheduled = true
    M.schedule(on_schedule)
  end
end

---@param f fun() lets out who is ready
function M.on_ready(f)
  drain = f
end

---The handle that keeps the loop alive as long as it is held.
---@type userdata?
M.handle = nil
---@type fun(handle: userdata)
local hold
---@type fun(handle: userdata)
local let_go

---@param handle userdata
function M.hold(handle)
  if not has_left() then
    hold(handle)
  end
end

local function start_clock(timer)
  if not uv.is_active(timer) then
    uv.timer_start(timer, 1, 1, on_wake)
  end
end

---Looks every millisecond.
local function look_at_clock()
  M.handle, hold, let_go = assert(uv.new_timer()), start_clock, uv.timer_stop
end

---@param descriptor integer
---@return boolean done
local function poll_descriptor(descriptor)
  local poll = uv.new_poll and uv.new_poll(descriptor)
  if not poll then
    return false
  end
  uv.unref(poll)
  if uv.poll_start(poll, "r", on_wake) ~= 0 then
    uv.close(poll)
    return false
  end
  M.handle, hold, let_go = poll, uv.ref, uv.unref
  return true
end

local function start_idle()
  if not idle or uv.is_closing(idle) then
    idle = assert(uv.new_idle())
    uv.unref(idle)
  end
  uv.idle_start(idle, on_wake)
end

---Reads a pipe of Windows.
---@param name string
local function read_pipe(name)
  local pipe = assert(uv.new_pipe(false))
  uv.unref(pipe)
  M.handle, hold, let_go = pipe, uv.ref, uv.unref
  uv.pipe_connect(pipe, name, function(err)
    if uv.is_closing(pipe) then
      return -- perhaps with this Lua state
    elseif err or uv.read_start(pipe, start_idle) ~= 0 then
      uv.close(pipe)
      look_at_clock()
      M.hold(M.handle)
    else
      start_idle() -- what was written before it was connected is lost
    end
  end)
end

---Makes sure that there is a handle.
function M.prepare()
  if has_left() or M.handle and not uv.is_closing(M.handle) then
    return
  end
  local pipe = native.pipe()
  if type(pipe) == "string" then
    read_pipe(pipe)
  elseif not (pipe and poll_descriptor(pipe)) then
    look_at_clock()
  end
end

---Ends a turn, in which nobody is ready any more.
function M.settle()
  if not native.settle() then
    stop_idle()
  end
end

---Unless somebody waits, the loop may end.
function M.rest()
  if not has_left() and native.resting() and M.handle and not uv.is_closing(M.handle) then
    let_go(M.handle)
  end
end

local deferred = 0 -- functions that were not called yet

---Calls a function in the next turn of the loop.
---@param f fun()
function M.defer(f)
  if has_left() then
    return
  end
  local timer = assert(uv.new_timer())
  local function call()
    deferred = deferred - 1
    f()
  end
  deferred = deferred + 1
  uv.timer_start(timer, 0, 0, function()
    uv.close(timer)
    if M.schedule then
      M.schedule(call)
    else
      call()
    end
  end)
end

---Starts a timer for a timeout.
---@param timeout integer
---@param f fun()
---@return userdata? timer
function M.start_timeout(timeout, f)
  if has_left() then
    return nil
  end
  local timer = assert(uv.new_timer())
  uv.update_time()
  uv.timer_start(timer, timeout, 0, f)
  return timer
end

---Closes the handles; new ones are made when they are needed.
function M.close()
  for _, handle in pairs { M.handle, idle } do -- either may be nil
    if not uv.is_closing(handle) then
      uv.close(handle)
    end
  end
end

---How many wait, or have yet to be notified, and how many timeouts are yet to come.
---@type fun(): integer, integer
M.pending_waits = nil

---@return integer parties
---@return integer timeouts
function M.pending()
  local parties, timeouts = M.pending_waits()
  return parties + deferred, timeouts
end

native.loop = M

return M
