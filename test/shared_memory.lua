-- The scenario of shared_memory.c: what can be done at shared barriers in one Lua state.
-- "run" does it; "rest" lets out all parties that a failed run has left, and checks that the
-- loop comes to rest.
local what = ...

local uv = require "luv"
local barrier

local function is_memory_error(e)
  return type(e) == "string" and (e:find("not enough memory", 1, true)
    or e:find("stack overflow", 1, true))
end

-- Passes a memory error on, whatever else may be wrong as well.
local function check(ok, e)
  if not ok then error(is_memory_error(e) and e or tostring(e or "check failed"), 0) end
  return ok, e
end

local function equal(got, expected)
  if got ~= expected then
    error("expected " .. tostring(expected) .. ", got " .. tostring(got), 0)
  end
end

local function run(expected)
  local report = uv.run()
  if is_memory_error(report) then error(report, 0) end
  if expected and report and report:find(expected, 1, true) then return end
  check(not expected and not report, report or "no report")
end

-- A party in coroutine style, where a coroutine can catch what its wait raises.
local pcall_yields = coroutine.wrap(function() return pcall(coroutine.yield) end)() == nil
local function patient(b, log, timeout)
  if not pcall_yields then
    local function callback(e, position) log[#log + 1] = tostring(e or position) end
    b:wait(timeout, callback)
    return
  end
  local c = coroutine.create(function()
    local _, e = pcall(b.wait, b, timeout)
    if is_memory_error(e) then error(e, 0) end
    log[#log + 1] = tostring(e)
  end)
  check(coroutine.resume(c))
  return c
end

local sections = {}

function sections.load()
  for name in pairs(package.loaded) do
    if name:find "^barrier" then package.loaded[name] = nil end
  end
  barrier = require "barrier"
end

function sections.trips()
  local b, log = barrier.shared("a", 3), {}
  for _ = 1, 2 do
    patient(b, log)
    b:wait(function(_, position) log[#log + 1] = position end)
    equal(uv.polling(), 1) -- other threads can wake the loop
    check(b:arrive())
    run()
  end
  equal(table.concat(log, " "), "0 1 0 1")
  equal(tostring(b), '<barrier.Shared object "a" [filling, waiters:0/3]>')
end

function sections.last_arrival()
  local b, log = barrier.shared("b", 2), {}
  for _ = 1, 3 do
    local c = coroutine.create(function()
      for _ = 1, 2 do
        local position = b:wait()
        log[#log + 1] = position
      end
    end)
    check(coroutine.resume(c))
  end
  run()
  equal(#log, 6)
end

function sections.failures()
  local b, log = barrier.shared("a", 3), {}
  patient(b, log)
  b:wait(100, function(e) log[#log + 1] = tostring(e) end)
  b:abort(("why"):rep(100))
  patient(b, log)
  local ok, e = b:arrive()
  equal(ok, nil)
  equal(e.reason, ("why"):rep(100))
  run()
  b:reset()
  patient(b, log)
  b:reset()
  run()
  equal(#log, 4)
end

function sections.timeouts()
  local b, log = barrier.shared("a", 3), {}
  patient(b, log, 10)
  b:wait(5, function(e) log[#log + 1] = tostring(e) end)
  run()
  local timed_out = "TimeoutError: wait timed out after %d ms, %d of 3 had arrived"
  equal(log[1], timed_out:format(5, 2))
  equal(log[2], timed_out:format(10, 1))
end

function sections.leaving()
  local b, log = barrier.shared("c", 3), {}
  local c = patient(b, log, 1000)
  if c then
    equal(b:cancel(c), true)
    c = patient(b, log)
    check(coroutine.resume(c))
    c = patient(b, log)
    if coroutine.close then
      check(coroutine.close(c))
    else
      equal(b:cancel(c), true)
    end
  else
    b:reset()
  end
  local w = b:wait(1000, function() log[#log + 1] = "called" end)
  w:close(function() log[#log + 1] = "closed" end)
  equal(w:is_closing(), true)
  run()
  equal(b.n_arrived, 0)
end

function sections.uncaught()
  local b = barrier.shared("c", 3)
  check(coroutine.resume(coroutine.create(function() b:wait() error("died", 0) end)))
  b:wait(function() error("died too", 0) end)
  check(b:arrive())
  run "died too"
end

function sections.bad_arguments()
  local b = barrier.shared("c", 3)
  local function bad(pattern, f, ...)
    local ok, e = pcall(f, ...)
    if is_memory_error(e) then error(e, 0) end
    if ok or not tostring(e):find(pattern, 1, true) then error(tostring(e), 0) end
  end
  bad("has 3 parties, not 4", barrier.shared, "c", 4)
  bad("parties must be", barrier.shared, "x", 0)
  bad("timeout", b.wait, b, -1)
  bad("cannot wait", b.wait, b)
  bad("reason", b.abort, b, {})
  equal(b.n_arrived, 0)
end

function sections.garbage()
  for i = 1, 5 do
    barrier.shared("garbage" .. i, 2)
  end
  collectgarbage()
end

local function rest()
  sections.load() -- in Lua 5.1 what has failed to load can't be loaded again
  local barriers = { barrier.shared("a", 3), barrier.shared("b", 2), barrier.shared("c", 3) }
  for _, b in ipairs(barriers) do b:abort() end
  local report = uv.run()
  if report and is_memory_error(report) then error(report, 0) end
  for _, b in ipairs(barriers) do
    b:reset()
    equal(b.n_arrived, 0)
  end
  equal(barrier.stuck(), nil)
end

if what == "rest" then
  rest()
else
  for _, name in ipairs { "load", "trips", "last_arrival", "failures", "timeouts", "leaving",
    "uncaught", "bad_arguments", "garbage" } do
    _G.section = name -- for shared_memory.c
    local ok, e = pcall(sections[name])
    if not ok then error(is_memory_error(e) and e or name .. ": " .. tostring(e), 0) end
  end
end
