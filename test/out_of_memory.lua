-- The scenario of out_of_memory.c: it calls every function of the module, on that program's
-- loop. Its argument is a table, which it fills with the barriers that it makes and the
-- functions to call if it fails, and, at the keys below, with the name of the section that
-- runs and a function that meddles.
--
-- The sections are in two other files, which the program loads too, so that no memory is
-- wanted for that here.
local all, waits, others = ...

local SECTION, MEDDLE = 126, 127

local uv = require "luv"
local made = 0
local t = { uv = uv } -- what the sections use; `barrier` is the module, `latest` its latest barrier

-- luaL_checkstack reports a stack overflow if the stack cannot grow.
function t.is_memory_error(e)
  return type(e) == "string" and (e:find("not enough memory", 1, true)
    or e:find("stack overflow", 1, true))
end

-- Raises an error if the call failed; a memory error stays as it is.
function t.check(ok, e)
  if not ok then error(t.is_memory_error(e) and e or tostring(e or "check failed"), 0) end
  return ok, e
end

-- A barrier, or a drain, for which the program looks at the end.
function t.keep(value)
  made = made + 1
  all[made] = value
  return value
end

function t.new(...)
  t.latest = t.keep(t.barrier.new(...))
  return t.latest
end

-- Runs the loop until it rests. `expected` must be part of the uncaught errors.
function t.run(expected)
  local report = uv.run()
  if t.is_memory_error(report) then error(report, 0) end
  if report and not (expected and report:find(expected, 1, true)) then error(report, 0) end
  if expected and not report then error("no report of " .. expected, 0) end
end

function t.co(f, ...)
  local c = coroutine.create(f)
  t.check(coroutine.resume(c, ...))
  return c
end

function t.add(log, value)
  log[#log + 1] = value
end

function t.wait(b, log, ...)
  t.add(log, (b:wait(...)))
end

-- A party whose wait may fail. It logs how the wait ended. Lua 5.1 cannot wait inside pcall,
-- so there it waits with a callback.
t.pcall_yields = coroutine.wrap(function() return pcall(coroutine.yield) end)() == nil
function t.patient(b, log, timeout, name)
  local method = b[name or "wait"]
  if not t.pcall_yields then
    local function callback(e) t.add(log, e and tostring(e) or "none") end
    return timeout and method(b, timeout, callback) or method(b, callback)
  end
  return t.co(function()
    local ok, e = pcall(method, b, timeout)
    if t.is_memory_error(e) then error(e, 0) end
    t.add(log, ok and "none" or tostring(e))
  end)
end

function t.equal(got, expected)
  if got ~= expected then
    error("expected " .. tostring(expected) .. ", got " .. tostring(got), 0)
  end
end

-- What is in the log, in one line. It may speak of a memory error that was an action's.
function t.joined(log)
  local line = table.concat(log, ", ")
  if t.is_memory_error(line) then error(line, 0) end
  return line
end

-- The results of arrive or deregister: nil and an error, which is not for lack of memory.
function t.failed(ok, e)
  t.equal(ok, nil)
  if t.is_memory_error(tostring(e)) then error(tostring(e), 0) end
  return tostring(e)
end

local sections = {}
waits(t, sections)
others(t, sections)

function sections.load()
  for name in pairs(package.loaded) do
    if name:find "^barrier" then package.loaded[name] = nil end
  end
  t.barrier = require "barrier"
end

-- What other code may do while the module calls the loop.
local meddlers = {
  function() t.latest:arrive() end,
  function() t.latest:reset() end,
  function() t.latest:abort "meddled" end,
  function() t.latest:wait(10, function() end) end,
  function()
    for _, waiter in ipairs(t.latest:waiters()) do
      if type(waiter) == "thread" then t.latest:cancel(waiter) else waiter:close(function() end) end
    end
  end,
  function() uv.run() end,
  function() t.latest:deregister() end,
  function()
    collectgarbage()
    t.barrier.new(1):wait(function() end)
  end,
}

all[MEDDLE] = function(kind)
  if t.latest then meddlers[kind]() end
end

local order = {
  "load", "coroutines", "growth", "callbacks", "timeouts", "late_clock", "blocked", "arrivals",
  "parties", "watching", "phases", "cancel", "disturbed", "broken_from_the_loop",
  "abort_and_reset", "with", "actions", "actions_that_run_the_loop", "failing_actions",
  "aborting_actions", "actions_of_the_blocked", "meddling_actions", "parties_of_actions",
  "lost_errors", "nil_errors", "phases_with_actions", "schedule", "deferred", "uncaught_errors",
  "bad_arguments", "many_turns", "tampered_handles", "latch",
  "stuck", "close", "odds_and_ends", "garbage",
}
for _, name in ipairs(order) do
  all[SECTION] = name
  local ok, e = pcall(sections[name])
  if not ok then error(t.is_memory_error(e) and e or name .. ": " .. tostring(e), 0) end
end
