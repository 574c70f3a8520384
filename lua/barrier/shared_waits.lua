---What a Lua state does for its own waiters at shared barriers. The C core (src/shared/hub.h)
---knows who has arrived, in which state, and wakes the loop of a state when somebody there
---is ready.
local M = {}

local environment = require "barrier.environment"
local loop = require "barrier.shared_loop"
local core, uv = environment.core() --[[@as table]], environment.luv()

---@class barrier.native
local native = core.shared

local running, yield, resume = coroutine.running, coroutine.yield, coroutine.resume
local close_coroutine = coroutine.close -- luacheck: ignore 143

local in_fast_event = loop.schedule and vim.in_fast_event or nil

-- Lua 5.1 cannot say beforehand whether a metamethod is in the way of a yield.
local yield_may_fail = _VERSION == "Lua 5.1" and not jit

---A wait on its way.
---@class barrier.SharedRecord
---@field barrier barrier.Shared
---@field wait userdata what the core knows of it; the Waiter
---@field key userdata how the core calls it
---@field co? thread who waits, or
---@field callback? barrier.callback
---@field timeout? integer
---@field timer? userdata
---@field cancelled? boolean by `cancel`
---@field err? barrier.Error how the wait of a coroutine ended: with an error,
---@field position? integer or in this position
local Record = {}

---The records of all that wait, by key and, if it is one, by coroutine.
---@type table<userdata|thread, barrier.SharedRecord>
local records = {}

---The record that was prepared last. It may not have entered: there was no memory, or the
---coroutine could not yield.
---@type barrier.SharedRecord?
local prepared

---Whose coroutine is being resumed, by us and not by a stranger.
---@type barrier.SharedRecord?
local released

---Records of coroutines that could not be resumed, for the next turn.
---@type barrier.SharedRecord[]
local postponed = {}

-- {=== records ===

---The record is over.
---@param record barrier.SharedRecord
local function forget(record)
  local co, timer = record.co, record.timer
  if prepared == record then
    prepared = nil
  end
  if record.key then
    records[record.key] = nil
  end
  if co then
    records[co] = nil
  end
  if timer then
    record.timer = nil
    if not core.has_left() and not uv.is_closing(timer) then
      uv.close(timer)
    end
  end
end

local function rest()
  if #postponed == 0 then
    loop.rest()
  end
end

---Nobody waits for the outcome any more.
---@param record barrier.SharedRecord
local function abandon(record)
  if record.wait then
    native.free(record.wait)
  end
  forget(record)
  rest()
end

---A coroutine is closed while it waits: see `stay`.
function Record.__close(record)
  if records[record.key] == record then
    abandon(record)
  end
end

local function abandon_if_absent()
  local record = prepared
  prepared = nil
  if record and native.absent(record.wait) then
    abandon(record)
  end
end

---@param record barrier.SharedRecord
local function start_timer(record)
  record.timer = loop.start_timeout(record.timeout, function()
    local timer = record.timer
    if timer then
      record.timer = nil
      uv.close(timer)
      native.leave(record.wait, "timed out")
    end
  end)
end

---Does all for a wait that may fail or run a finalizer.
---@param record barrier.SharedRecord
local function prepare_unsafe(record)
  record.wait, record.key = native.new(record.barrier)
  records[record.key] = record
  if record.co then
    records[record.co] = record
  end
  if record.timeout then
    start_timer(record)
  end
  if yield_may_fail and record.co then
    native.wake() -- should it fail, the loop finds out, and ends
  end
  loop.prepare()
end

---@param self barrier.Shared
---@param timeout? integer
---@param co? thread
---@param callback? barrier.callback
---@return barrier.SharedRecord
local function prepare(self, timeout, co, callback)
  abandon_if_absent()
  local record = setmetatable({
    barrier = self, timeout = timeout, co = co, callback = callback, wait = false, key = false,
  }, Record)
  local ok, problem = pcall(prepare_unsafe, record)
  if not ok then
    abandon(record)
    error(problem, 0)
  end
  prepared = record
  return record
end

-- }===

-- {=== letting out ===

---@param class "BrokenBarrierError"|"CancelledError"|"TimeoutError"
---@return barrier.Error
function M.new_error(class, self, message, reason)
  return setmetatable({ name = class, message = message, barrier = self, reason = reason },
    core[class])
end

---What a wait ends with.
---@param record barrier.SharedRecord
---@param outcome string
---@param value any the reason, or how many had arrived
---@return barrier.Error?
local function failure(record, outcome, value)
  local self = record.barrier
  if outcome == "passed" then
    return nil
  elseif outcome == "aborted" then
    return M.new_error("BrokenBarrierError", self, "barrier aborted", value)
  elseif outcome == "reset" then
    return M.new_error("BrokenBarrierError", self, "barrier reset")
  elseif outcome == "timed out" then
    local message = ("wait timed out after %d ms, %d of %d had arrived"):format(
      record.timeout, value, (native.status(self)))
    return M.new_error("TimeoutError", self, message)
  elseif outcome == "cancelled" then
    return M.new_error("CancelledError", self, "wait cancelled")
  end
  return M.new_error("CancelledError", self, "wait cancelled: resumed by somebody else")
end

---@param problem any an error
---@param co? thread where it was raised; otherwise here
local function traceback(problem, co)
  local ok, text = pcall(tostring, problem)
  if not ok then
    text = "(error in error handling)"
  end
  if not debug then
    return text
  elseif co then
    return debug.traceback(co, text)
  end
  return debug.traceback(text, 2)
end

---@param record barrier.SharedRecord
---@param problem any what its coroutine died of
---@param reports string[]
local function bury(record, problem, reports)
  local co = record.co --[[@as thread]]
  if not (record.cancelled and problem == record.err) then
    reports[#reports + 1] = traceback(problem, co)
  end
  if close_coroutine then
    local ok, other = close_coroutine(co)
    if not ok and other ~= problem then
      reports[#reports + 1] = traceback(other)
    end
  end
end

---@param record barrier.SharedRecord
---@param reports string[] of errors that nobody caught
local function resume_waiter(record, reports)
  local co = record.co --[[@as thread]]
  released = record
  local ok, problem = resume(co)
  released = nil
  if ok then
    return
  end
  if coroutine.status(co) == "suspended" then -- "C stack overflow": nothing has run
    postponed[#postponed + 1] = record
  else
    bury(record, problem, reports)
  end
end

---@param record barrier.SharedRecord
---@param reports string[]
local function call_back(record, reports)
  local ok, report = xpcall(function()
    if record.err then
      record.callback(record.err)
    else
      record.callback(nil, record.position)
    end
  end, traceback)
  if not ok then
    reports[#reports + 1] = report
  end
end

---The next who is to be told. What may fail comes first: then it is still to be told.
---@param key userdata? what native.peek returned
---@return barrier.SharedRecord?
local function take(key, outcome, value)
  local record = records[key]
  if record then
    record.err = failure(record, outcome, value)
    record.position = value
    record.cancelled = outcome == "cancelled"
  end
  native.pop()
  if record then
    forget(record)
  end
  return record
end

---Lets out who is ready, in a turn of the loop.
local function drain()
  local reports = {}
  abandon_if_absent()
  native.begin()
  for _ = 1, #postponed do
    local record = table.remove(postponed, 1)
    if coroutine.status(record.co) == "suspended" then -- and not closed
      resume_waiter(record, reports)
    end
  end
  local key, outcome, value = native.peek()
  while key do
    local record = take(key, outcome, value)
    if record and record.co then
      resume_waiter(record, reports)
    elseif record then
      call_back(record, reports)
    end
    key, outcome, value = native.peek()
  end
  loop.settle()
  if #postponed > 0 then
    native.wake()
  end
  rest()
  if #reports > 0 then
    error(table.concat(reports, "\n"), 0)
  end
end

loop.on_ready(drain)

function loop.pending_waits()
  local parties, timeouts = #postponed, 0
  for key, record in pairs(records) do
    if key == record.key then
      parties = parties + 1
      timeouts = timeouts + (record.timer and 1 or 0)
    end
  end
  return parties, timeouts
end

-- }===

-- {=== waiting ===

---Enters the barrier, and suspends the coroutine until it is resumed by `drain`.
---@param record barrier.SharedRecord
local function stay(record)
  native.suspend(record.wait, loop.hold, loop.handle)
  while released ~= record do
    if records[record.key] == record then
      native.leave(record.wait, "disturbed") -- unless its outcome is decided already
    end
    yield()
  end
  released = nil
end

if close_coroutine then
  -- Lua 5.4's own notices when the coroutine is closed; the other Luas cannot read it.
  stay = assert(load([[
    local stay = ...
    return function(record)
      local guard <close> = record
      stay(record)
    end
  ]], "=barrier.shared"))(stay)
end

---`wait`, where it can suspend.
---@param self barrier.Shared
---@param timeout? integer
---@return integer position
function M.in_coroutine(self, timeout)
  -- In a fast event of Neovim the last arrival must not go on at once.
  local position = not (in_fast_event and in_fast_event()) and native.pass(self)
  if position then
    return position
  end
  local record = prepare(self, timeout, running())
  stay(record)
  if record.err then
    error(record.err, 0)
  end
  return record.position
end

---@param self barrier.Shared
---@param timeout? integer
---@param callback barrier.callback
---@return barrier.Waiter
function M.with_callback(self, timeout, callback)
  local record = prepare(self, timeout, nil, callback)
  native.enter(record.wait, loop.hold, loop.handle)
  return record.wait
end

---@param self barrier.Shared
---@param co thread
---@return boolean found
function M.cancel_anywhere(co)
  local record = records[co]
  return record ~= nil and native.leave(record.wait, "cancelled")
end

function M.cancel(self, co)
  local record = records[co]
  return record ~= nil and record.barrier == self and native.leave(record.wait, "cancelled")
end

---A Waiter's callback is not called any more.
---@param key userdata? of the Waiter
function M.close(key)
  local record = key and records[key]
  if record then
    abandon(record)
  end
end

-- }===

return M
