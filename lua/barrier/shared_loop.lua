---What wakes the loop of a Lua state for those who are ready at shared barriers: a handle
---that keeps the loop alive as long as somebody waits in this state.
local M = {}

local environment = require "barrier.environment"
local uv = environment.luv()

---@class barrier.native the functions of src/shared/binding.c
local native = environment.core().shared

---@type fun(f: fun())? in Neovim: how to get where vim.api may be called
M.schedule = type(vim) == "table" and vim.schedule or nil

local drain
local scheduled = false

---On Windows: runs as long as somebody may be ready. A loop cannot poll there. It reads the
---pipe that wakes it, but does not read on inside of that callback, where a waiter may run it.
---@type userdata?
local idle

local function stop_idle()
  if idle and not uv.is_closing(idle) then
    uv.idle_stop(idle)
  end
end

local function on_schedule()
  scheduled = false
  native.wake() -- for loops that run inside, and should it fail
  drain()
end

local function on_wake()
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
M.hold = nil
---@type fun(handle: userdata)
local let_go

local function start_clock(timer)
  if not uv.is_active(timer) then
    uv.timer_start(timer, 1, 1, on_wake)
  end
end

---Looks every millisecond.
local function look_at_clock()
  M.handle, M.hold, let_go = assert(uv.new_timer()), start_clock, uv.timer_stop
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
  M.handle, M.hold, let_go = poll, uv.ref, uv.unref
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
  M.handle, M.hold, let_go = pipe, uv.ref, uv.unref
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
  if M.handle and not uv.is_closing(M.handle) then
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
  if native.resting() and M.handle and not uv.is_closing(M.handle) then
    let_go(M.handle)
  end
end

---Calls a function in the next turn of the loop.
---@param f fun()
function M.defer(f)
  local timer = assert(uv.new_timer())
  uv.timer_start(timer, 0, 0, function()
    uv.close(timer)
    if M.schedule then
      M.schedule(f)
    else
      f()
    end
  end)
end

return M
