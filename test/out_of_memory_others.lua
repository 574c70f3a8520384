-- Sections of out_of_memory.lua: actions, schedules, the loop, and everything else.
local t, sections = ...

local uv, new, check, co, add, wait = t.uv, t.new, t.check, t.co, t.add, t.wait
local run, patient, equal, joined = t.run, t.patient, t.equal, t.joined
local is_memory_error, failed, keep, pcall_yields = t.is_memory_error, t.failed, t.keep,
  t.pcall_yields

-- Another thing that waits (test/latch.h).
function sections.latch()
  local core, log = require "barrier.core", {}
  local function callback(e) add(log, e and tostring(e) or "none") end
  local l = core.latch(2)
  local members = getmetatable(l).__index
  local arrive = members.wait
  if core.resumed and debug.getinfo(arrive, "S").what == "C" then -- Lua 5.1 may lose what is added
    function members.wait(self, ...)
      local token, result = arrive(self, core.isyieldable and core.isyieldable(), ...)
      while token ~= core.passed do token, result = core.resumed(self, token, result) end
      return result
    end
  end
  patient(l, log)
  l:wait(callback)
  patient(l, log, 5)
  l:wait(7, callback)
  l:wait(callback):close(function() add(log, "closed") end)
  local cancelled = pcall_yields and patient(l, log)
  if cancelled then equal(l:cancel(cancelled), true) end
  if coroutine.close then check(coroutine.close(co(wait, l, log))) end
  run()
  local timed_out = "TimeoutError: wait timed out after %d ms, 2 missing"
  equal(joined(log), "closed, " .. (cancelled and "CancelledError: wait cancelled, " or "")
    .. timed_out:format(5) .. ", " .. timed_out:format(7))
  log = {}
  l:count_down()
  l:count_down()
  equal(#log, 0)
  run()
  l:wait(callback)
  patient(l, log, 5)
  run()
  equal(joined(log), "none, none, none")
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

-- The loop that an action runs, in a turn, does not run it again.
function sections.actions_that_run_the_loop()
  local acted, log = 0, {}
  local b = new(2, { action = function()
    acted = acted + 1
    run()
  end })
  local function callback(e, position) add(log, e and tostring(e) or position) end
  for _ = 1, 6 do b:wait(callback) end
  run()
  equal(joined(log), "0, 1, 0, 1, 0, 1")
  equal(acted, 3)
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

-- An action that aborts and then fails: the first reason stays.
function sections.aborting_actions()
  local b, log = nil, {}
  b = new(2, { action = function()
    b:abort "first"
    error("oops", 0)
  end })
  local function callback(e) add(log, tostring(e)) end
  b:wait(callback)
  b:wait(callback)
  run()
  equal(joined(log), "BrokenBarrierError: barrier aborted: first, oops")
  equal(failed(b:arrive()), "BrokenBarrierError: barrier aborted: first")
  b:reset()
  log = {}
  b:wait(callback)
  local c = co(wait, b, {})
  equal(b:cancel(c), true) -- instead of the action's error, which nothing keeps then
  run()
  equal(joined(log), "BrokenBarrierError: barrier aborted: first")
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
  local log = {}
  local meddle
  local b = new(3, { action = function()
    local f = meddle
    meddle = nil -- once: a nested loop may trip the barrier again and again
    if f then f() end
  end })
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
      meddle = nil
      local report = uv.run()
      if is_memory_error(report) then error(report, 0) end
      equal(b.state == "filling" or b.state == "broken", true) -- everybody is told
      b:abort()
      run()
      b:reset()
      if b.parties > 3 then b:deregister(b.parties - 3) end
      if b.parties < 3 then b:register(3 - b.parties) end
    end
  end
end

-- Parties that leave for good while the action runs leave the next phase.
function sections.parties_of_actions()
  local b, log, left = nil, {}, {}
  b = new(2, { action = function() add(left, tostring(b:deregister(2))) end })
  local function callback(e, position) add(log, e and tostring(e) or position) end
  for _ = 1, 2 do
    b:wait(callback)
    b:wait(callback)
    run()
    b:register(2)
  end
  equal(joined(log), "0, 1, 0, 1")
  equal(joined(left), "true, true")
  equal(b.generation, 2)
  log = {}
  b = new(2, { action = function() -- the last arrival leaves, and the other is enough
    b:cancel(b:waiters()[2])
    b:deregister()
  end })
  b:wait(callback)
  local c = co(wait, b, {})
  run()
  equal(joined(log), "0")
  equal(coroutine.status(c), "dead")
  equal(b.generation, 1)
end

-- Actions whose error no party gets: the last arrival has left, and no other party waits.
function sections.lost_errors()
  local leave
  local b = new(2, { action = function(b)
    if leave then
      leave(b:waiters())
      error("oops", 0)
    end
  end })
  local function callback(e) -- which the last arrival gets if its action could not even begin
    if is_memory_error(tostring(e)) then error(tostring(e), 0) end
  end
  for style = 1, 3 do
    check(b:arrive())
    if style == 1 then
      leave = function(waiters) b:cancel(waiters[1]) end
      co(wait, b, {}, 1000)
    elseif style == 2 then
      leave = function(waiters) waiters[1]:close() end
      b:wait(1000, callback)
    else -- two who are blocked: nobody can be handed the error when they are let in
      leave = nil
      b:wait(callback)
      check(b:arrive())
      check(b:arrive())
      leave = function() end
    end
    run "oops"
    equal(b.broken, true)
    b:reset()
  end
  leave = function(waiters) waiters[1]:close() end
  b:await_trip(callback)
  check(b:arrive())
  b:wait(callback)
  run()
  equal(b.broken, true)
end

function sections.nil_errors()
  local b, log = new(2, { action = function() error(nil) end }), {}
  local function callback(e) add(log, tostring(e)) end
  b:wait(callback)
  b:wait(callback)
  run()
  equal(joined(log), "BrokenBarrierError: barrier aborted, BrokenBarrierError: barrier aborted")
end

-- The option `timeout` of a barrier whose blocked come in and run an action.
function sections.phases_with_actions()
  local b, log = new(2, { timeout = 20, action = function() uv.sleep(30) end }), {}
  local function callback(e, position) add(log, e and tostring(e) or position) end
  for _ = 1, 5 do b:wait(callback) end
  run()
  equal(joined(log), "0, 1, 0, 1, BrokenBarrierError: barrier aborted: "
    .. "timed out after 20 ms, 1 of 2 had arrived")
end

function sections.odds_and_ends()
  local b = new(2)
  local w = b:wait(function() end)
  equal(w:is_closing(), false)
  w:close()
  equal(w:is_closing(), true)
  b:abort "why"
  local text
  -- Not `..`: Lua 5.4.4's own assertions fail when the stack moves in any __concat.
  b:wait(function(e) text = getmetatable(e).__concat("wait: ", e) end)
  run()
  equal(text, "wait: BrokenBarrierError: barrier aborted: why")
  b:reset()
  local c = co(wait, b, {})
  equal(b:cancel(c), true)
  equal(t.barrier.stuck():find("a coroutine waits", 1, true) ~= nil, true)
  run()
  b:wait(function() end)
  c = co(wait, b, {})
  equal(b.state, "draining")
  check(b:arrive())
  for _, waiter in ipairs(b:waiters()) do
    if type(waiter) == "userdata" then waiter:close() end
  end
  run()
  equal(b.n_arrived, 1)
  equal(coroutine.status(c), "dead")
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
    t.latest = b
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
    equal(joined(log), "0, 1, 0")
    equal(b.generation, 4)
    b:wait(callback)
    b:abort()
    settle()
    b:reset()
    b:register()
    local w = b:wait(callback)
    b:wait(callback)
    b:wait(callback)
    w:close() -- the others pass
    settle()
    equal(b.generation, 5)
    fails = style == 2
    check(b:arrive())
    check(b:arrive())
    settle "oops"
    equal(b.broken, fails)
  end
  local b = keep(make(1))
  check(b:arrive())
  check(b:arrive())
  run()
  table.remove(queue, 1)()
  equal(b.generation, 1) -- nobody was inside: the other comes in a turn of its own
  settle()
  equal(b.generation, 2)
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
  bad("parties", t.barrier.new, 0)
  bad("unknown option", t.barrier.new, 1, { [{}] = 1 })
  bad("must be callable", t.barrier.new, 1, { action = 1 })
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
  bad("'timeout' must be", t.barrier.new, 1, { timeout = -1 })
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

function sections.stuck()
  local b = new(4)
  co(wait, b, {})
  b:wait(function() end)
  b:await_trip(function() end)
  check(b:arrive())
  local report = check(t.barrier.stuck())
  for _, part in ipairs { "arrived:3]>, 1 missing", "a coroutine waits:\n",
    "a callback waits: ", "a callback awaits the trip: " } do
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
  t.barrier.close()
  equal(uv.count(), 0)
  t.barrier.close()
  co(wait, b, log)
  co(wait, b, log)
  t.barrier.close()
  new(1):wait(function(_, position) add(log, position) end)
  run()
  equal(#log, 5)
  equal(uv.count(), 2)
end

function sections.garbage()
  for _ = 1, 20 do
    local b = t.barrier.new(2)
    co(function() b:wait() end)
    b:wait(function() end)
    b:wait(function() end)
  end
  collectgarbage()
  run()
end
