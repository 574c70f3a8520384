-- The scenario of out_of_memory.c: it calls every function of the module, on that program's
-- loop. Its argument is a table, which it fills with the barriers that it makes, the functions
-- to call if it fails, and at 64 the name of the section that runs.
local all = ...

local uv = require "luv"
local made = 0
local barrier

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

local function new(...)
  local b = barrier.new(...)
  made = made + 1
  all[made] = b
  return b
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
local function patient(b, log, timeout)
  if not pcall_yields then
    local function callback(e) add(log, e and tostring(e) or "none") end
    return timeout and b:wait(timeout, callback) or b:wait(callback)
  end
  return co(function()
    local ok, e = pcall(b.wait, b, timeout)
    if is_memory_error(e) then error(e, 0) end
    add(log, ok and "none" or tostring(e))
  end)
end

local function equal(got, expected)
  if got ~= expected then
    error("expected " .. tostring(expected) .. ", got " .. tostring(got), 0)
  end
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

function sections.cancel()
  local b, log = new(3), {}
  local c = patient(b, log, 100)
  if type(c) == "thread" then
    equal(b:cancel(c), true)
    equal(b:cancel(c), false)
    run()
    equal(log[1], "CancelledError: wait cancelled")
    c = patient(b, log)
    check(coroutine.resume(c))
    equal(log[2], "CancelledError: wait cancelled")
  else
    c:close()
    equal(b:cancel(co(wait, b, log)), true)
    run "wait cancelled"
  end
  if coroutine.close then
    c = co(wait, b, log, 100)
    check(coroutine.close(c))
  end
  equal(b.n_waiting, 0)
  run()
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
    local both = table.concat(log, ", ")
    if is_memory_error(both) then error(both, 0) end
    equal(both, "BrokenBarrierError: barrier aborted: oops, oops")
    b:reset()
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
    function() run() b:abort() end,
    function() run() uv.close_all() b:waiters()[2]:close() end,
    function() run() error("oops", 0) end,
    function() local w = b:waiters()[3] if type(w) == "userdata" then w:close(callback) end end,
  }
  for _, f in ipairs(meddlers) do
    for style = 1, 2 do
      meddle = f
      patient(b, log)
      b:wait(callback)
      if style == 1 then patient(b, log) else b:wait(callback) end
      meddle = function() end
      local report = uv.run()
      if is_memory_error(report) then error(report, 0) end
      b:abort()
      run()
      b:reset()
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
    made = made + 1
    all[made] = drain
    queue[#queue + 1] = drain
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

function sections.closed_handles()
  local b, log = new(2), {}
  co(wait, b, log)
  co(wait, b, log)
  uv.close_all()
  local other = new(1)
  other:wait(function(_, position) log[#log + 1] = position end)
  run()
  equal(#log, 3)
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

local order = {
  "load", "coroutines", "growth", "callbacks", "timeouts", "blocked", "cancel",
  "abort_and_reset", "with", "actions", "failing_actions", "actions_of_the_blocked",
  "meddling_actions", "schedule", "uncaught_errors", "bad_arguments", "many_turns",
  "closed_handles", "garbage",
}
for _, name in ipairs(order) do
  all[64] = name
  local ok, e = pcall(sections[name])
  if not ok then error(is_memory_error(e) and e or name .. ": " .. tostring(e), 0) end
end
