local uv = require "luv"
local barrier = require "barrier"
local core = require("barrier.environment").core()
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local collected, counted, keeping = support.collected, support.counted, support.keeping
local pass_time, timed_out = support.pass_time, support.timed_out
local it_catches = support.it_catches

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"
local LONG = 1000000

local function nobody() end

---How many handles the loop has, active or not.
local function handles()
  local n = 0
  uv.walk(function()
    n = n + 1
  end)
  return n
end

describe("a timeout", function()
  it("is named in the error, in milliseconds", function()
    local b, log = barrier.new(4), {}
    for _, name in ipairs { "wait", "await_trip" } do
      b[name](b, 3, function(err)
        add(log, err.timeout)
      end)
    end
    run_loop()
    assert.are.same({ 3, 3 }, log)
  end)

  it("never passes early, in whichever part of a millisecond it begins", function()
    local early = {}
    for i = 1, 60 do
      local start = uv.hrtime()
      while uv.hrtime() - start < i * 50000 do end -- luacheck: ignore 542
      start = uv.hrtime()
      local function ended()
        early[#early + 1] = uv.hrtime() - start < 3e6 and uv.hrtime() - start or nil
      end
      if i % 2 == 0 then
        barrier.new(2):wait(3, ended)
      else
        barrier.new(2, { timeout = 3 }):wait(ended)
      end
      run_loop()
    end
    assert.are.same({}, early)
  end)

  it("of 0 ms passes in the next turn, without a sleep", function()
    local b, log = barrier.new(2), {}
    b:wait(0, listener(log, "w"))
    uv.run "nowait"
    uv.run "nowait"
    assert.are.same({ "w" .. timed_out(0, 1, 2) }, log)
  end)
end)

describe("a wait whose timeout passes", function()
  it("ends with TimeoutError, and the others go on waiting", function()
    local b, log = barrier.new(3), {}
    b:wait(listener(log, "patient"))
    b:wait(5, listener(log, "hasty"))
    assert.are.equal(2, b.n_waiting)
    run_loop()
    assert.are.same({ "hasty" .. timed_out(5, 2, 3) }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "patient 0", "w1 1", "w2 2" }, { log[2], log[3], log[4] })
  end)

  it("gives its callback a TimeoutError that knows its barrier", function()
    local b, err = barrier.new(2), nil
    b:wait(1, function(...)
      assert.are.equal(1, select("#", ...))
      err = ...
    end)
    run_loop()
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal("TimeoutError", err.name)
    assert.are.equal("wait timed out after 1 ms, 1 of 2 had arrived", err.message)
    assert.are.equal(b, err.barrier)
    assert.is_nil(err.reason)
  end)

  it_catches("raises in a coroutine, which may wait again", function()
    local b, log = barrier.new(2), {}
    co(function()
      for _ = 1, 3 do
        local ok, err = pcall(b.wait, b, 1)
        add(log, tostring(ok) .. " " .. err.name)
      end
      b:wait(listener(log, "w"))
      add(log, "last " .. b:wait(1))
    end)
    run_loop()
    assert.are.same({
      "false TimeoutError",
      "false TimeoutError",
      "false TimeoutError",
      "last 1",
      "w 0",
    }, log)
  end)

  it("does not end before the loop's clock says so", function()
    for _, timeout in ipairs { 1, 7, 20 } do
      local b, ended = barrier.new(3), nil
      uv.update_time()
      local start = uv.now()
      b:wait(timeout, function(err)
        assert.are.equal("TimeoutError", err.name)
        ended = uv.now()
      end)
      b:wait(timeout * 100, nobody):close()
      run_loop()
      assert.is_true(ended >= start + timeout)
    end
  end)

  it("takes the waiter out before drain is called", function()
    local log, drains = {}, {}
    local b = barrier.new(2, { schedule = function(drain)
      add(drains, drain)
    end })
    local waiter = b:wait(0, listener(log, "x"))
    run_loop()
    assert.are.same({}, log)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({ waiter }, b:waiters())
    b:wait(listener(log, "w1"))
    assert.are.equal("filling", b.state)
    drains[1]()
    assert.are.same({ "x" .. timed_out(0, 1, 2) }, log)
    assert.are.same(1, b.n_waiting)
  end)

  it_catches("can no longer be cancelled", function()
    local log, drains = {}, {}
    local b = barrier.new(2, { schedule = function(drain)
      add(drains, drain)
    end })
    local x = support.party(b, "x", log, 0)
    run_loop()
    assert.is_false(b:cancel(x))
    drains[1]()
    assert.are.same({ "x" .. timed_out(0, 1, 2) }, log)
  end)

  it_catches("counts on a much used barrier too", function()
    local b, log = barrier.new(2), {}
    for _ = 1, 200 do
      b:wait(nobody)
    end
    run_loop()
    co(function()
      add(log, select(2, pcall(b.wait, b, 1)).name)
    end)
    run_loop()
    assert.are.same({ "TimeoutError" }, log)
  end)
end)

describe("a timeout of 0", function()
  it("passes on the next turn of the loop", function()
    local b, turns = counted(2)
    local log = {}
    local function again(err)
      add(log, err.name .. " in turn " .. turns())
      if #log < 4 then
        b:wait(0, again)
      end
    end
    b:wait(0, again)
    assert.are.same({}, log)
    assert.are.equal(1, b.n_waiting)
    run_loop()
    assert.are.same({
      "TimeoutError in turn 1",
      "TimeoutError in turn 2",
      "TimeoutError in turn 3",
      "TimeoutError in turn 4",
    }, log)
  end)

  it("does not count when the barrier trips before", function()
    local b, log = barrier.new(3), {}
    b:wait(0, listener(log, "a"))
    b:wait(0, listener(log, "b"))
    b:wait(0, listener(log, "c"))
    run_loop()
    assert.are.same({ "a 0", "b 1", "c 2" }, log)
  end)

  it("passes even if other timers of the loop come first", function()
    local b, log = barrier.new(3), {}
    b:wait(LONG, nobody)
    b:wait(0, function()
      add(log, "passed")
      b:reset()
    end)
    run_loop()
    assert.are.same({ "passed" }, log)
  end)
end)

describe("a timeout that passes too late", function()
  it("does not count after the trip", function()
    local b, log = barrier.new(2), {}
    b:wait(1, listener(log, "a"))
    b:wait(listener(log, "b"))
    pass_time(3)
    run_loop()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("does not count after a reset or an abort", function()
    for method, expected in pairs { reset = RESET, abort = ABORTED } do
      local b, log = barrier.new(3), {}
      b:wait(1, listener(log, "a"))
      b:wait(0, listener(log, "b"))
      b[method](b)
      pass_time(3)
      run_loop()
      assert.are.same({ "a" .. expected, "b" .. expected }, log)
    end
  end)

  it("does not count for a blocked waiter when the barrier is aborted", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    b:wait(1, listener(log, "blocked"))
    b:abort()
    pass_time(3)
    run_loop()
    assert.are.same({ "a" .. ABORTED, "b" .. ABORTED, "blocked" .. ABORTED }, log)
  end)

  it_catches("does not count for a waiter that was cancelled", function()
    local b, log = barrier.new(2), {}
    local x = support.party(b, "x", log, 1)
    b:cancel(x)
    pass_time(3)
    run_loop()
    assert.are.same({ "x CancelledError: wait cancelled" }, log)
  end)
end)

describe("the timeout of a blocked waiter", function()
  it("passes while it is blocked, by a trip or by a reset", function()
    for _, reset in ipairs { false, true } do
      local b, log = barrier.new(2), {}
      b:wait(listener(log, "a"))
      if reset then
        b:reset()
      else
        b:wait(listener(log, "b"))
      end
      b:wait(0, listener(log, "x"))
      b:wait(listener(log, "y"))
      run_loop()
      assert.are.equal("x TimeoutError: wait timed out after 0 ms while the barrier was "
        .. (reset and "resetting" or "draining"), log[1])
      assert.are.equal(reset and "a" .. RESET or "a 0", log[2])
      assert.are.equal(1, b.n_waiting)
    end
  end)

  it("passes while nobody drains the barrier", function()
    local log, drains = {}, {}
    local b = barrier.new(2, { schedule = function(drain)
      add(drains, drain)
    end })
    b:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    b:wait(3, listener(log, "x"))
    run_loop()
    assert.are.equal("draining", b.state)
    for i = 1, #drains do
      drains[i]()
    end
    assert.are.same({
      "x TimeoutError: wait timed out after 3 ms while the barrier was draining", "a 0", "b 1",
    }, log)
  end)

  -- A turn looks only at waiters that arrived before it.
  it("goes on counting when it is let in", function()
    local b, log = barrier.new(2), {}
    b:wait(function()
      b:wait(0, listener(log, "x"))
      add(log, "a")
    end)
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a", "b 1", "x" .. timed_out(0, 1, 2) }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it("goes on counting when a reset leaves it blocked", function()
    local b, log = barrier.new(2), {}
    b:wait(function()
      b:wait(0, listener(log, "x"))
      b:reset()
      add(log, "a")
    end)
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a", "b" .. RESET, "x" .. timed_out(0, 1, 2) }, log)
    assert.are.equal(0, b.n_waiting)
  end)
end)

describe("many timeouts", function()
  local now -- when the last timeout began

  -- As if each timeout began with a millisecond of luv's clock.
  before_each(function()
    core.bind(setmetatable({ hrtime = function()
      now = uv.now()
      return now * 1000000
    end }, { __index = uv }))
  end)

  after_each(function()
    core.bind(uv)
  end)

  ---Sorts what was begun, by the time when it ends, then by order of arrival.
  local function in_order(begun)
    table.sort(begun, function(x, y)
      return x.time < y.time or (x.time == y.time and x.order < y.order)
    end)
    return begun
  end

  local function begin(b, begun, log, timeout)
    local name = #begun + 1
    b:wait(timeout, listener(log, name))
    add(begun, { name = name, timeout = timeout, order = name, time = now + timeout })
  end

  it("pass in order of time, equal ones in order of arrival", function()
    local b, log, begun = barrier.new(20), {}, {}
    for _, timeout in ipairs { 9, 3, 6, 3, 0, 9, 0, 6, 3 } do
      begin(b, begun, log, timeout)
    end
    pass_time(20)
    run_loop()
    assert.are.equal(9, #log)
    for i, wait in ipairs(in_order(begun)) do
      assert.are.equal(wait.name .. timed_out(wait.timeout, 10 - i, 20), log[i])
    end
  end)

  it("pass in order of time, whatever the loop's clock said when they began", function()
    local b, log, begun = barrier.new(20), {}, {}
    begin(b, begun, log, 20)
    pass_time(5)
    begin(b, begun, log, 1)
    begin(b, begun, log, 18)
    pass_time(30)
    run_loop()
    for i, wait in ipairs(in_order(begun)) do
      assert.are.equal(wait.name .. timed_out(wait.timeout, 4 - i, 20), log[i])
    end
  end)

  it("pass in order even as others come and go", function()
    local b, last, expired = barrier.new(2000), -1, 0
    local waiters = {}
    for i = 1, 1000 do
      local timeout, ends = (i * 7919) % 20, nil
      waiters[i] = b:wait(timeout, function(err)
        assert.are.equal("TimeoutError", err.name)
        assert.is_true(ends >= last)
        last = ends
        expired = expired + 1
      end)
      ends = now + timeout
    end
    for i = 1, 1000, 3 do
      waiters[i]:close()
    end
    pass_time(25)
    run_loop()
    assert.are.equal(666, expired)
    assert.are.equal(0, b.n_waiting)
  end)

  it("of several barriers do not get mixed up", function()
    local log, barriers = {}, {}
    for i = 1, 30 do
      local b = barrier.new(2)
      barriers[i] = b
      b:wait((i * 7) % 5, function(err)
        assert.are.equal(b, err.barrier)
        add(log, i)
      end)
    end
    run_loop()
    assert.are.equal(30, #log)
    for i = 1, 30 do
      assert.are.equal(0, barriers[i].n_waiting)
    end
  end)
end)

describe("a very long timeout", function()
  it("is as good as none", function()
    local values = { 2 ^ 31, 2 ^ 32 + 1, 2 ^ 53 }
    add(values, math.maxinteger)
    for _, timeout in ipairs(values) do
      local b, log = barrier.new(2), {}
      b:wait(timeout, listener(log, "a"))
      uv.run "nowait"
      assert.are.equal(1, b.n_waiting)
      b:wait(timeout, listener(log, "b"))
      run_loop()
      assert.are.same({ "a 0", "b 1" }, log)
    end
  end)

  it("does not delay a short one", function()
    local b, log = barrier.new(3), {}
    b:wait(2 ^ 53, listener(log, "long"))
    b:wait(1, function(err)
      add(log, err.name)
      b:reset()
    end)
    run_loop()
    assert.are.same({ "TimeoutError", "long" .. RESET }, log)
  end)
end)

describe("a timed wait that ends early", function()
  local ways = {
    ["with a trip"] = function(b)
      b:wait(nobody)
    end,
    ["with a reset"] = function(b)
      b:reset()
    end,
    ["with an abort"] = function(b)
      b:abort()
    end,
    ["by closing its Waiter"] = function(_, waiter)
      waiter:close()
    end,
    ["by closing its Waiter, with on_close"] = function(_, waiter)
      waiter:close(nobody)
    end,
  }
  for how, finish in pairs(ways) do
    it("leaves the loop nothing to wait for: " .. how, function()
      local b = barrier.new(2)
      local waiter = b:wait(LONG, nobody)
      assert.is_true(uv.loop_alive())
      finish(b, waiter)
      run_loop()
      assert.is_false(uv.loop_alive())
    end)
  end

  it_catches("leaves the loop nothing to wait for: cancelled", function()
    local b = barrier.new(2)
    b:cancel(support.party(b, "x", {}, LONG))
    run_loop()
    assert.is_false(uv.loop_alive())
  end)

  it("lets another's shorter or longer timeout run on", function()
    for _, first in ipairs { 1, LONG } do
      local b, log = barrier.new(3), {}
      local waiter = b:wait(first, listener(log, "closed"))
      b:wait(4, listener(log, "x"))
      waiter:close()
      run_loop()
      assert.are.same({ "x" .. timed_out(4, 1, 3) }, log)
      assert.is_false(uv.loop_alive())
    end
  end)

  it("starts nothing if it does not have to wait", function()
    local b, log = barrier.new(1), {}
    co(function()
      b:wait(LONG)
    end)
    assert.is_false(uv.loop_alive())
    b:abort()
    b:wait(LONG, listener(log, "w"))
    run_loop()
    assert.are.same({ "w" .. ABORTED }, log)
    assert.is_false(uv.loop_alive())
    assert.is_false(pcall(b.wait, b, LONG))
    assert.is_false(uv.loop_alive())
  end)
end)

describe("no handle", function()
  it("is made for a timed wait, or outlives it", function()
    local b = barrier.new(200)
    b:wait(0, nobody)
    run_loop()
    local before = handles()
    local waiters = {}
    for i = 1, 199 do
      waiters[i] = b:wait(i % 2 == 0 and 2 or LONG, nobody)
    end
    assert.are.equal(before, handles())
    for i = 1, 199, 2 do
      waiters[i]:close()
    end
    run_loop()
    assert.are.equal(before, handles())
    b:wait(LONG, nobody)
    b:reset()
    run_loop()
    b:wait(LONG, nobody)
    b:abort()
    run_loop()
    assert.are.equal(before, handles())
    assert.is_false(uv.loop_alive())
  end)
end)

describe("until it passes, a wait with a timeout", function()
  it("keeps its barrier alive", function()
    local log = {}
    assert.is_false(collected(function()
      local b = barrier.new(2)
      b:wait(2, listener(log, "x"))
      return b
    end))
    run_loop()
    assert.are.same({ "x" .. timed_out(2, 1, 2) }, log)
  end)

  it("keeps its coroutine alive, too", function()
    local seen, ended = setmetatable({}, { __mode = "v" }), 0
    do
      local b = barrier.new(3)
      seen[1] = co(function()
        local guard = setmetatable({}, { __index = function()
          ended = ended + 1
        end })
        b:wait(LONG)
        return guard.passed
      end)
      b:wait(3, function()
        b:wait(nobody)
        b:wait(nobody)
      end)
    end
    support.collect_garbage()
    assert.is_truthy(seen[1])
    run_loop()
    assert.are.equal(1, ended)
  end)

  it("keeps it no longer than that", function()
    local ways = {
      function(b)
        b:wait(0, nobody)
      end,
      function(b)
        b:wait(LONG, nobody):close()
      end,
      function(b)
        b:wait(LONG, nobody)
        b:reset()
      end,
      function(b)
        b:wait(LONG, nobody)
        b:wait(LONG, nobody)
      end,
      function() -- it trips, though a party is blocked by then
        local late = {}
        local b = barrier.new(1, {
          action = function(self)
            late[1] = late[1] or self:wait(nobody)
          end,
          schedule = function() end,
        })
        b:wait(LONG, nobody)
        return b
      end,
      function(b) -- a waiter without a timeout does not keep it
        b:wait(LONG, nobody):close(nobody)
        b:wait(nobody)
      end,
    }
    for _, way in ipairs(ways) do
      assert.is_true(collected(function()
        local b = barrier.new(2)
        b = way(b) or b
        uv.run "nowait"
        uv.run "nowait"
        assert.is_false(uv.loop_alive())
        return b
      end))
    end
  end)

  it("keeps it as long as one of several is left", function()
    local log, seen = {}, setmetatable({}, { __mode = "v" })
    assert.is_false(collected(function()
      local b = barrier.new(4)
      seen[1] = b
      local first = b:wait(LONG, nobody)
      b:wait(0, listener(log, "x"))
      b:wait(LONG, listener(log, "y"))
      first:close()
      uv.run "nowait"
      return b
    end))
    seen[1]:reset()
    run_loop()
    assert.are.same({ "x" .. timed_out(0, 2, 4), "y" .. RESET }, log)
  end)
end)

describe("the message of a TimeoutError", function()
  it("counts arrivals, waiting or not, but no watchers", function()
    local b, log = barrier.new(7), {}
    b:wait(nobody)
    b:arrive()
    b:arrive()
    b:await_trip(nobody)
    b:wait(2, listener(log, "x"))
    run_loop()
    assert.are.same({ "x" .. timed_out(2, 4, 7) }, log)
  end)

  it("no longer counts those that timed out before", function()
    local b, log = barrier.new(4), {}
    for i = 1, 3 do
      b:wait(0, listener(log, i))
    end
    pass_time(2)
    run_loop()
    assert.are.same({ "1" .. timed_out(0, 3, 4), "2" .. timed_out(0, 2, 4),
      "3" .. timed_out(0, 1, 4) }, log)
  end)

  it("says how it was at the timeout, not when it resumes", function()
    local b, drains = keeping(3)
    local log = {}
    b:wait(1, listener(log, "x"))
    run_loop()
    b:register(5)
    b:arrive()
    b:abort()
    drains[1]()
    assert.are.same({ "x" .. timed_out(1, 1, 3) }, log)
  end)

  it("counts for a blocked waiter too if the barrier is filling", function()
    local b, drains = keeping(1)
    local log = {}
    local inside = b:wait(nobody)
    b:wait(2, listener(log, "blocked"))
    inside:close()
    assert.are.equal("filling", b.state)
    run_loop()
    for i = 1, #drains do
      drains[i]()
    end
    assert.are.same({ "blocked" .. timed_out(2, 0, 1) }, log)
  end)

  it("names the number of parties at the timeout", function()
    local b, log = barrier.new(3), {}
    b:wait(1, listener(log, "x"))
    b:register(6)
    b:deregister()
    run_loop()
    assert.are.same({ "x" .. timed_out(1, 1, 8) }, log)
  end)
end)
