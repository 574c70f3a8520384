---barrier.run: a coroutine in which everything may wait, and the loop until it has ended.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local is_callable = require(prefix .. "await").is_callable

-- PUC Lua 5.1 can't wait inside pcall.
local is_5_1 = _VERSION == "Lua 5.1" and not jit
---@diagnostic disable-next-line: deprecated
local unpack = table.unpack or unpack -- luacheck: ignore 113 143
local in_fast_event = type(vim) == "table" and vim.in_fast_event or nil

local MOST = 2 ^ 31 - 1

---@return string? problem
local function refuse(timeout, main)
  local co, is_main = coroutine.running()
  if co and not is_main then
    return "cannot run the loop in a coroutine; await in it"
  elseif in_fast_event and in_fast_event() then
    return "cannot run the loop in a fast event; use vim.schedule"
  elseif not is_callable(main) then
    return ("bad argument #%d to '%s' (%s, got %s)"):format(timeout == nil and 1 or 2, "run",
      "main must be callable", type(main))
  elseif timeout ~= nil and not (type(timeout) == "number" and timeout >= 0 and timeout % 1 == 0
    and timeout <= MOST) then
    return ("bad argument #1 to '%s' (%s, got %s)"):format("run",
      "timeout must be an integer >= 0, in milliseconds", tostring(timeout))
  end
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local function with_traceback(err)
  return type(err) == "string" and debug.traceback(err, 2) or err
end

---Starts `main` in a coroutine.
---@return { ended?: table, co: thread, stop?: fun() } state `ended` has what pcall returned;
---`stop` is called then
local function begin(main)
  local state = {}
  state.co = coroutine.create(function()
    if is_5_1 then
      state.ended = pack(true, main())
    else
      state.ended = pack(xpcall(main, with_traceback))
    end
    if state.stop then
      state.stop()
    end
  end)
  local ok, err = coroutine.resume(state.co)
  if not ok then
    state.ended = { n = 2, false, type(err) == "string" and debug.traceback(state.co, err) or err }
  end
  return state
end

---Runs Neovim's loop until `main` has ended or the time has passed.
local function run_neovim(state, timeout)
  vim.wait(timeout or MOST, function()
    return state.ended ~= nil
  end, 20)
  return state.ended == nil
end

---Runs luv's loop until `main` has ended, the time has passed, or there is nothing left to do.
---
---Before libuv 1.45, a pass of the loop runs timers before it sleeps, too. If one of these ends the
---wait here, an idle handle keeps the loop from sleeping. (uv.stop would also end a loop that other
---code runs inside.)
---@return boolean timed_out
local function run_luv(state, timeout)
  local uv = environment.luv()
  local timed_out, timer, idle = false, uv.new_timer(), uv.new_idle()
  uv.unref(timer)
  uv.unref(idle)
  function state.stop()
    idle:start(function() end)
  end
  if timeout then
    timer:start(timeout, 0, function()
      timed_out = true
      state.stop()
    end)
  end
  while not state.ended and not timed_out and uv.run "once" do end
  state.stop = nil -- main may go on after its time
  timer:close()
  idle:close()
  uv.run "nowait"
  return timed_out
end

return function(timeout, main)
  if main == nil and type(timeout) ~= "number" then
    timeout, main = nil, timeout
  end
  local problem = refuse(timeout, main)
  if problem then
    error(problem, 2)
  end
  local state = begin(main)
  local timed_out = (in_fast_event and run_neovim or run_luv)(state, timeout)
  local ended = state.ended
  if not ended then
    local why = timed_out and timeout and ("main has not ended after %d ms"):format(timeout)
      or "main has not ended, and the loop has nothing left to do"
    local report = require(prefix:sub(1, -2)).stuck()
    error(why .. (report and "\n" .. report or ""), 2)
  elseif not ended[1] then
    error(ended[2], 0)
  end
  return unpack(ended, 2, ended.n)
end
