---What wakes the loop of a Lua state for those who are ready at shared barriers: a handle
---that keeps the loop alive as long as somebody waits in this state.
local M = {}

local environment = require "barrier.environment"
local uv = environment.luv()

---@class barrier.native the functions of src/shared_binding.c
local native = environment.core().shared

---@type fun(f: fun())? in Neovim: how to get where vim.api may be called
M.schedule = type(vim) == "table" and vim.schedule or nil

local drain
local scheduled = false

local function on_schedule()
  scheduled = false
  drain()
end

local function on_wake()
  if not M.schedule then
    drain()
  elseif native.acknowledge() and not scheduled then
    scheduled = true
    M.schedule(on_schedule)
  end
end

---@param f fun() lets out who is ready
function M.on_ready(f)
  drain = f
end

local handle, hold, let_go

---@return boolean done false where there is no descriptor that a loop can wait for
local function poll_descriptor()
  local descriptor = native.descriptor()
  local poll = descriptor and uv.new_poll and uv.new_poll(descriptor)
  if not poll then
    return false
  end
  if uv.poll_start(poll, "r", on_wake) ~= 0 then
    uv.close(poll)
    return false
  end
  handle, hold, let_go = poll, uv.ref, uv.unref
  return true
end

---Looks every millisecond.
local function poll_clock()
  handle, let_go = assert(uv.new_timer()), uv.timer_stop
  function hold(timer)
    if not uv.is_active(timer) then
      uv.timer_start(timer, 1, 1, on_wake)
    end
  end
end

---Somebody is going to wait.
function M.hold()
  if not handle or uv.is_closing(handle) then
    if not poll_descriptor() then
      poll_clock()
    end
  end
  hold(handle)
end

---Unless somebody waits, the loop may end.
function M.rest()
  if native.resting() and handle and not uv.is_closing(handle) then
    let_go(handle)
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
