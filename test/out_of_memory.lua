-- The scenario of out_of_memory.c: it calls every function of the module, on that program's
-- loop. Its argument is a table, which it fills with the barriers that it makes and the
-- functions to call if it fails, and, at the keys below, with the name of the section that
-- runs and a function that meddles.
local all = ...

local SECTION, MEDDLE = 126, 127

local uv = require "luv"
local made = 0
local barrier, latest

-- luaL_checkstack reports a stack overflow if the stack cannot grow.
local function is_memory_error(e)
  return type(e) == "string" and (e:find("not enough memory", 1, true)
    or e:find("stack overflow", 1, true))
end

-- Raises an error if the call failed; a memory error stays as it is.
local function check(ok, e)
  if not ok then error(is_memory_error(e) and e or tostring(e or "check failed"), 0) end
  return ok, e
end

-- A barrier, or a drain, for which the program looks at the end.
local function keep(value)
  made = made + 1
  all[made] = value
  return value
end

local function new(...)
  latest = keep(barrier.new(...))
  return latest
end

-- Runs the loop until it rests. `expected` must be part of the uncaught errors.
local function run(expected)
  local report = uv.run()
  if is_memory_error(report) then error(report, 0) end
  if report and not (expected and report:find(expected, 1, true)) then error(report, 0) end
  if expected and not report then error("no report of " .. expected, 0) end
end

local function co(f, ...)
  local c = coroutine.create(f)
  check(coroutine.resume(c, ...))
  return c
end

local function add(log, value)
  log[#log + 1] = value
end

local function wait(b, log, ...)
  add(log, (b:wait(...)))
end

-- A party whose wait may fail. It logs how the wait ended. Lua 5.1 cannot wait inside pcall,
-- so there it waits with a callback.
local pcall_yields = coroutine.wrap(function() return pcall(coroutine.yield) end)() == nil
local function patient(b, log, timeout, name)
  local method = b[name or "wait"]
  if not pcall_yields then
    local function callback(e) add(log, e and tostring(e) or "none") end
    return timeout and method(b, timeout, callback) or method(b, callback)
  end
  return co(function()
    local ok, e = pcall(method, b, timeout)
    if is_memory_error(e) then error(e, 0) end
    add(log, ok and "none" or tostring(e))
  end)
end

local function equal(got, expected)
  if got ~= expected then
    error("expected " .. tostring(expected) .. ", got " .. tostring(got), 0)
  end
end

-- What is in the log, in one line. It may speak of a memory error that was an action's.
local function joined(log)
  local line = table.concat(log, ", ")
  if is_memory_error(line) then error(line, 0) end
  return line
end

-- The results of arrive or deregister: nil and an error, which is not for lack of memory.
local function failed(ok, e)
  equal(ok, nil)
  if is_memory_error(tostring(e)) then error(tostring(e), 0) end
  return tostring(e)
end

local sections = {}

function sections.load()
  for name in pairs(package.loaded) do
    if name:find "^barrier" then package.loaded[name] = nil end
  end
  barrier = require "barrier"
end

function sections.coroutines()
  local b, log = new(3), {}
  for _ = 1, 2 do
    for _ = 1, 3 do co(wait, b, log) end
    run()
  end
  equal(table.concat(log, " "), "2 0 1 2 0 1")
  equal(b.generation, 2)
  equal(tostring(b):match "%[.*", "[filling, waiters:0/3]>")
end

function sections.growth()
  local b, log = new(300), {}
  for _ = 1, 299 do co(wait, b, log) end
  equal(#b:waiters(), 299)
  equal(b:wait(function(_, position) log[#log + 1] = position end) ~= nil, true)
  for _ = 1, 20 do co(wait, b, log) end
  run()
  equal(#log, 300)
  equal(b.n_waiting, 20)
  b:reset()
  run "barrier reset"
  b:deregister(298)
  for _ = 1, 3 do -- the memory of the crowd is given back meanwhile
    b:wait(function() end)
    b:wait(function() end)
    run()
  end
  equal(b.generation, 4)
end

function sections.callbacks()
  local b, log = new(2), {}
  local function callback(e, position) log[#log + 1] = e and tostring(e) or position end
  b:wait(callback)
  local w = b:wait(1000, callback)
  equal(tostring(w):match "%[.*", "[waiting]>")
  local late = b:wait(callback)
  late:close(function() log[#log + 1] = "closed" end)
  late:close()
  run()
  equal(tostring(w):match "%[.*", "[done]>")
  b:abort("why")
  b:wait(callback)
  run()
  equal(table.concat(log, " "), "closed 0 1 BrokenBarrierError: barrier aborted: why")
end

function sections.timeouts()
  local b, log = new(20), {}
  for i = 1, 15 do
    patient(b, log, 10 * i)
  end
  b:wait(5, function(e) log[#log + 1] = e.name end)
  patient(b, log, 0)
  run()
  equal(#log, 17)
  equal(b.n_waiting, 0)
  b = new(2)
  co(wait, b, log, 1000)
  co(wait, b, log, 1000)
  run()
  equal(#log, 19)
end

function sections.blocked()
  local b, log = new(2), {}
  for _ = 1, 7 do co(wait, b, log) end
  equal(b.state, "draining")
  equal(#b:waiters(), 6)
  run()
  equal(table.concat(log, " "), "1 0 0 1 0 1")
  b:abort()
  run "barrier aborted"
end

function sections.arrivals()
  local b, log = new(4), {}
  check(b:arrive())
  co(wait, b, log)
  b:wait(function(_, position) add(log, position) end)
  equal(tostring(b):match "%[.*", "[filling, waiters:2/4, arrived:3]>")
  check(b:arrive())
  for _ = 1, 9 do check(b:arrive()) end
  co(wait, b, log)
  check(b:arrive())
  equal(b.state, "draining")
  run()
  equal(joined(log), "0, 1")
  equal(b.generation, 3)
  equal(b.n_arrived, 3)
  b:abort "why"
  equal(failed(b:arrive()), "BrokenBarrierError: barrier aborted: why")
  run "barrier aborted: why"
  b:reset()
  equal(b.n_arrived, 0)
  for _ = 1, 4 do check(b:arrive()) end
  for _ = 1, 5 do b:wait(function(_, position) add(log, position) end) end
  check(b:arrive())
  b:abort()
  run()
  equal(b.generation, 5)
end

function sections.parties()
  local b, log = new(2), {}
  local function callback(e, position) add(log, e and tostring(e) or position) end
  b:register()
  b:register(2)
  co(wait, b, log)
  b:wait(callback)
  check(b:arrive())
  check(b:deregister())
  equal(b.generation, 0)
  check(b:deregister())
  equal(b.generation, 1)
  check(b:deregister(3))
  run()
  equal(b.parties, 0)
  check(b:arrive())
  co(wait, b, log)
  b:wait(callback)
  run()
  equal(joined(log), "0, 1, 0, 0")
  equal(b.generation, 4)
  b:register(2)
  b:abort()
  equal(failed(b:deregister()), "BrokenBarrierError: barrier aborted")
  equal(b.parties, 1)
end

function sections.watching()
  local b, log = new(2), {}
  local function callback(e, generation) add(log, e and tostring(e) or "trip " .. generation) end
  local function watch(...) add(log, "trip " .. b:await_trip(...)) end
  co(watch)
  b:await_trip(callback)
  b:await_trip(1000, callback)
  co(watch, 1000)
  b:await_trip(10, callback):close()
  for _ = 1, 2 do co(wait, b, {}) end
  run()
  equal(joined(log), "trip 1, trip 1, trip 1, trip 1")
  log = {}
  b:await_trip(5, callback)
  patient(b, log, 5, "await_trip")
  check(b:arrive())
  run()
  local text = "TimeoutError: wait timed out after 5 ms, 1 of 2 had arrived"
  equal(joined(log), text .. ", " .. text)
  log = {}
  patient(b, log, nil, "await_trip")
  check(b:arrive())
  b:await_trip(callback)
  b:reset()
  run()
  equal(joined(log), "BrokenBarrierError: barrier reset, BrokenBarrierError: barrier reset")
end

-- The option `timeout`.
function sections.phases()
  local b, log = new(3, { timeout = 50 }), {}
  local function callback(e) add(log, tostring(e)) end
  b:wait(callback)
  patient(b, log)
  run()
  local text = "BrokenBarrierError: barrier aborted: timed out after 50 ms, 2 of 3 had arrived"
  equal(joined(log), text .. ", " .. text)
  b:reset()
  check(b:arrive())
  run()
  equal(b.broken, true)
  b:reset()
  b:wait(callback):close()
  run()
  equal(b.broken, false)
  for _ = 1, 4 do b:wait(callback) end
  run()
  equal(log[6], "BrokenBarrierError: barrier aborted: timed out after 50 ms, 1 of 3 had arrived")
  b:reset()
  for _ = 1, 3 do check(b:arrive()) end
  run()
  equal(b.broken, false)
end

-- Timeouts count from the call, not from when the loop last looked at the clock.
function sections.late_clock()
  local b, log = new(3), {}
  b:wait(30, function(e) add(log, e.message) end)
  uv.sleep(20)
  b:wait(15, function(e) add(log, e.message) end)
  run()
  equal(joined(log), "wait timed out after 30 ms, 2 of 3 had arrived, "
    .. "wait timed out after 15 ms, 1 of 3 had arrived")
end

function sections.stuck()
  local b = new(4)
  co(wait, b, {})
  b:wait(function() end)
  b:await_trip(function() end)
  check(b:arrive())
  local report = check(barrier.stuck())
  for _, part in ipairs { "arrived:3]>, 1 missing", "traceback", "waits: <barrier.Waiter",
    "watches: <barrier.Waiter" } do
    if not report:find(part, 1, true) then error(report, 0) end
  end
  check(b:arrive())
  run()
end

function sections.close()
  local b, log = new(2), {}
  co(wait, b, log)
  co(wait, b, log)
  run()
  barrier.close()
  equal(uv.count(), 0)
  barrier.close()
  co(wait, b, log)
  co(wait, b, log)
  barrier.close()
  new(1):wait(function(_, position) add(log, position) end)
  run()
  equal(#log, 5)
  equal(uv.count(), 2)
end

-- Last arrivals in a fast event of Neovim.
function sections.deferred()
  local log, queue, fast, fails = {}, {}, true, false
  local make = require "barrier.core".make_new(function(drain) add(queue, keep(drain)) end,
    function() return fast end)
  local function callback(e, position) add(log, e and tostring(e) or position) end
  local function settle(expected)
    run()
    fast = false
    for _ = 1, 9 do
      local drain = table.remove(queue, 1)
      if drain then
        local ok, e = pcall(drain)
        if not ok and not (expected and tostring(e):find(expected, 1, true)) then error(e, 0) end
      end
      run()
    end
    fast = true
  end
  for style = 1, 2 do
    local function action()
      if fails then error("oops", 0) end
    end
    local b = keep(make(2, style == 2 and { action = action } or nil))
    latest = b
    log, fails = {}, false
    co(wait, b, log)
    co(wait, b, log)
    equal(b.state .. b.n_waiting .. b.generation, "filling20")
    check(b:arrive())
    settle()
    equal(joined(log), "0, 1")
    b:wait(10, callback)
    settle()
    log = {}
    co(wait, b, log)
    b:wait(callback)
    settle()
    check(b:arrive())
    settle()
    b:wait(callback)
    check(b:deregister())
    settle()
    equal(joined(log), "0, 0, 0")
    equal(b.generation, 4)
    b:wait(callback)
    b:abort()
    settle()
    b:reset()
    b:register()
    local w = b:wait(callback)
    b:wait(callback)
    b:wait(callback)
    w:close()
    settle()
    equal(b.generation, 5)
    fails = style == 2
    check(b:arrive())
    check(b:arrive())
    settle "oops"
    equal(b.broken, fails)
  end
end

function sections.cancel()
  local b, log = new(3), {}
  local c = patient(b, log, 100)
  if type(c) == "thread" then
    equal(b:cancel(c), true)
    equal(b:cancel(c), false)
    run()
    equal(log[1], "CancelledError: wait cancelled")
  else
    c:close()
  end
  equal(b:cancel(co(wait, b, log)), true)
  run()
  c = co(function() b:await_trip() end)
  equal(b:cancel(c), true)
  run()
  if coroutine.close then
    for _, method in ipairs { b.wait, b.await_trip } do
      check(coroutine.close(co(method, b, 100)))
    end
  end
  equal(b.n_waiting, 0)
  run()
end

function sections.disturbed()
  local b, log = new(3), {}
  for _, method in ipairs { b.wait, b.await_trip } do
    local c = co(method, b, 100)
    for _ = 1, 2 do
      local ok, value = coroutine.resume(c, 1, 2)
      check(ok, value)
      equal(value, nil)
      equal(coroutine.status(c), "suspended")
    end
    run "wait cancelled: resumed by somebody else"
  end
  local c = co(wait, b, log)
  equal(b:cancel(c), true)
  check(coroutine.resume(c))
  run()
  c = patient(b, log)
  if type(c) == "thread" then
    check(coroutine.resume(c))
    equal(#b:waiters(), 1)
    equal(b:cancel(c), false)
    run()
    equal(joined(log), "CancelledError: wait cancelled: resumed by somebody else")
  end
end

function sections.broken_from_the_loop()
  local b, log = new(2), {}
  b:abort "one"
  local c = patient(b, log)
  patient(b, log, 0, "await_trip")
  if type(c) == "thread" then
    equal(b:cancel(c), false)
    check(coroutine.resume(c))
  end
  equal(#b:waiters(), 0)
  b:reset()
  b:abort "two"
  run()
  local text = "BrokenBarrierError: barrier aborted: one"
  equal(joined(log), text .. ", " .. text)
  co(wait, b, log)
  run "barrier aborted: two"
  if coroutine.close then check(coroutine.close(co(wait, b, log))) end
  run()
  equal(#log, 2)
end

function sections.abort_and_reset()
  local b, log = new(3), {}
  patient(b, log)
  b:wait(function(e) log[#log + 1] = tostring(e) end)
  b:abort({})
  equal(tostring(b):match "%[.*", "[broken]>")
  patient(b, log)
  run()
  b:reset()
  patient(b, log)
  b:reset()
  equal(b.state, "resetting")
  co(wait, b, log)
  run()
  equal(#log, 4)
  equal(b.n_waiting, 1)
end

function sections.with()
  local b, log = new(2), {}
  for _ = 1, 2 do
    co(function() add(log, (b:with(function(position) return position end))) end)
  end
  run()
  equal(table.concat(log, " "), "1 0")
end

function sections.actions()
  local acted, log = 0, {}
  local b = new(2, { action = function() acted = acted + 1 end })
  local function callback(e, position) log[#log + 1] = e or position end
  for _ = 1, 5 do co(wait, b, log) end
  b:wait(callback)
  run()
  equal(acted, 3)
  equal(#log, 6)
  b:wait(callback)
  b:wait(callback)
  run()
  equal(acted, 4)
end

function sections.failing_actions()
  local b = new(2, { action = function() error("oops", 0) end })
  for style = 1, pcall_yields and 3 or 1 do
    local log = {}
    local function callback(e) add(log, tostring(e)) end
    if style == 2 then patient(b, log) else b:wait(callback) end
    if style == 3 then patient(b, log) else b:wait(callback) end
    run()
    table.sort(log)
    equal(joined(log), "BrokenBarrierError: barrier aborted: oops, oops")
    b:reset()
    if style < 3 then
      b:wait(callback)
      b:await_trip(callback)
      if style == 1 then
        equal(failed(b:arrive()), "oops")
      else
        equal(failed(b:deregister()), "oops")
        b:register()
      end
      run()
      b:reset()
      equal(#log, 4)
    end
  end
end

function sections.actions_of_the_blocked()
  local log, fail = {}, false
  local b = new(2, { action = function() if fail then error("oops", 0) end end })
  for style = 1, 2 do
    fail = false
    b:wait(function(_, position) add(log, position) end)
    co(wait, b, log)
    fail = true
    patient(b, log)
    if style == 1 then patient(b, log) else b:wait(function(e) add(log, tostring(e)) end) end
    run()
    equal(b.broken, true)
    b:reset()
  end
  equal(#log, 8)
end

function sections.meddling_actions()
  local meddle
  local log = {}
  local b = new(3, { action = function() meddle() end })
  local function callback(e, position) add(log, e and tostring(e) or position) end
  local meddlers = {
    function() b:abort("meddled") end,
    function() b:reset() end,
    function() b:cancel(co(wait, b, log)) end,
    function() b:waiters()[2]:close(callback) end,
    function() patient(b, log) b:wait(callback) end,
    function() run() end,
    function() uv.close_all() end,
    function() check(b:arrive()) b:register(2) b:await_trip(callback) end,
    function() check(b:deregister(2)) end,
    function() b:reset() b:await_trip(10, callback) end,
    function() run() b:abort() end,
    function() run() uv.close_all() b:waiters()[2]:close() end,
    function() run() error("oops", 0) end,
    function() local w = b:waiters()[3] if type(w) == "userdata" then w:close(callback) end end,
  }
  for _, f in ipairs(meddlers) do
    for style = 1, 4 do
      meddle = f
      patient(b, log)
      b:wait(callback)
      if style == 1 then
        patient(b, log)
      elseif style == 2 then
        b:wait(callback)
      else
        local _, e = b[style == 3 and "arrive" or "deregister"](b)
        if is_memory_error(tostring(e)) then error(tostring(e), 0) end
      end
      meddle = function() end
      local report = uv.run()
      if is_memory_error(report) then error(report, 0) end
      b:abort()
      run()
      b:reset()
      if b.parties > 3 then b:deregister(b.parties - 3) end
      if b.parties < 3 then b:register(3 - b.parties) end
    end
  end
end

function sections.schedule()
  local log, queue = {}, {}
  local function pair(schedule)
    local b = new(2, { schedule = schedule })
    co(wait, b, log)
    b:wait(function(_, position) log[#log + 1] = position end)
    return b
  end
  pair(false)
  pair(function(drain) drain() end)
  local b = pair(function(drain)
    queue[#queue + 1] = keep(drain)
  end)
  run()
  b:wait(function() end)
  for _, drain in ipairs(queue) do drain() drain() end
  b:reset()
  run()
  for _, drain in ipairs(queue) do drain() end
  pair(function() error("no schedule", 0) end)
  run "no schedule"
  equal(#log, 8)
end

function sections.uncaught_errors()
  local b = new(4)
  co(function() b:wait() error("died", 0) end)
  co(function() b:wait() error({}) end)
  b:wait(function() error(setmetatable({}, { __tostring = function() return "table" end })) end)
  b:wait(function() error("died too", 0) end)
  run "died too"
end

function sections.bad_arguments()
  local b = new(2)
  local function bad(pattern, f, ...)
    local ok, e = pcall(f, ...)
    if is_memory_error(e) then error(e, 0) end
    if ok or not tostring(e):find(pattern, 1, true) then error(tostring(e), 0) end
  end
  bad("parties", barrier.new, 0)
  bad("unknown option", barrier.new, 1, { [{}] = 1 })
  bad("must be callable", barrier.new, 1, { action = 1 })
  bad("cannot wait", b.wait, b)
  bad("timeout", b.wait, b, -1)
  bad("callback", b.wait, b, 1, 2)
  bad("expected", b.reset, 1)
  bad("coroutine expected", b.cancel, b, 1)
  bad("body", b.with, b)
  bad("n must be an integer", b.register, b, 0)
  bad("at most 2147483647", b.register, b, 2147483647)
  bad("n must be an integer", b.deregister, b, "2")
  bad("only 2 of 2", b.deregister, b, 3)
  bad("cannot wait", b.await_trip, b)
  bad("'timeout' must be", barrier.new, 1, { timeout = -1 })
  bad("read-only", function() b.parties = 1 end)
  local w = b:wait(function() end)
  bad("on_close", w.close, w, 1)
  w:close()
  equal(b.n_waiting, 0)
end

function sections.many_turns()
  local b, n = new(2), 0
  for _ = 1, 2 do
    co(function() for _ = 1, 300 do b:wait() n = n + 1 end end)
  end
  run()
  equal(n, 600)
end

function sections.tampered_handles()
  local b, log = new(2), {}
  for _, tamper in ipairs { uv.close_all, uv.stop_all, uv.unref_all } do
    co(wait, b, log)
    co(wait, b, log)
    tamper()
    new(1):wait(function(_, position) log[#log + 1] = position end)
    run()
  end
  equal(#log, 9)
end

function sections.garbage()
  for _ = 1, 20 do
    local b = barrier.new(2)
    co(function() b:wait() end)
    b:wait(function() end)
    b:wait(function() end)
  end
  collectgarbage()
  run()
end

-- What somebody else may do while the module calls the loop.
local meddlers = {
  function() latest:arrive() end,
  function() latest:reset() end,
  function() latest:abort "meddled" end,
  function() latest:wait(10, function() end) end,
  function()
    for _, waiter in ipairs(latest:waiters()) do
      if type(waiter) == "thread" then latest:cancel(waiter) else waiter:close(function() end) end
    end
  end,
  function() uv.run() end,
  function() latest:deregister() end,
  function()
    collectgarbage()
    barrier.new(1):wait(function() end)
  end,
}

all[MEDDLE] = function(kind)
  if latest then meddlers[kind]() end
end

local order = {
  "load", "coroutines", "growth", "callbacks", "timeouts", "late_clock", "blocked", "arrivals",
  "parties", "watching", "phases", "cancel", "disturbed", "broken_from_the_loop",
  "abort_and_reset", "with", "actions", "failing_actions", "actions_of_the_blocked",
  "meddling_actions", "schedule", "deferred", "uncaught_errors", "bad_arguments", "many_turns",
  "tampered_handles", "stuck", "close", "garbage",
}
for _, name in ipairs(order) do
  all[SECTION] = name
  local ok, e = pcall(sections[name])
  if not ok then error(is_memory_error(e) and e or name .. ": " .. tostring(e), 0) end
end
