local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, listener, run_loop = support.add, support.listener, support.run_loop
local keeping, party, patient = support.keeping, support.party, support.patient
local pass_time, timed_out = support.pass_time, support.timed_out

local RESET = " BrokenBarrierError: barrier reset"
local LONG = 1000000

local function nobody() end

local function reason(ms, arrived, parties)
  return ("timed out after %d ms, %d of %d had arrived"):format(ms, arrived, parties)
end

---How a wait reads in a log whose phase has taken too long.
local function failed(...)
  return " BrokenBarrierError: barrier aborted: " .. reason(...)
end

local function timed(parties, timeout, action)
  return barrier.new(parties, { timeout = timeout, action = action })
end

describe("the option timeout", function()
  it("aborts a barrier that has not tripped when it has passed", function()
    local b, log = timed(3, 5), {}
    b:wait(listener(log, "w1"))
    patient(b, "w2", log)
    assert.are.equal(2, b.n_waiting)
    run_loop()
    assert.are.same({ "w1" .. failed(5, 2, 3), "w2" .. failed(5, 2, 3) }, log)
    assert.are.equal("broken", b.state)
    assert.are.equal(0, b.generation)
  end)

  it("gives them a BrokenBarrierError whose reason is a string", function()
    local b, err = timed(2, 1), nil
    b:wait(function(...)
      err = ...
    end)
    run_loop()
    assert.is_true(getmetatable(err) == barrier.BrokenBarrierError)
    assert.are.equal("barrier aborted", err.message)
    assert.are.equal(reason(1, 1, 2), err.reason)
    assert.are.equal(b, err.barrier)
  end)

  it("fails watchers and later waits too, as abort does", function()
    local b, log = timed(4, 2), {}
    b:await_trip(listener(log, "t"))
    b:wait(listener(log, "w"))
    run_loop()
    b:wait(listener(log, "late"))
    b:abort "another reason"
    b:await_trip(listener(log, "late t"))
    assert.are.equal(reason(2, 1, 4), select(2, b:arrive()).reason)
    run_loop()
    local expected = failed(2, 1, 4)
    assert.are.same({
      "w" .. expected, "t" .. expected, "late" .. expected, "late t" .. expected,
    }, log)
    b:reset()
    for _ = 1, 4 do
      b:arrive()
    end
    assert.are.equal(1, b.generation)
  end)

  it("counts arrivals without waiting, and starts with them", function()
    local b, log = timed(4, 2), {}
    b:arrive()
    b:arrive()
    assert.is_true(uv.loop_alive())
    run_loop()
    assert.is_true(b.broken)
    assert.are.equal(reason(2, 2, 4), select(2, b:arrive()).reason)
    b:reset()
    b:arrive()
    b:wait(listener(log, "w"))
    b:wait(nobody)
    run_loop()
    assert.are.same({ "w" .. failed(2, 3, 4) }, log)
  end)

  it("names the number of parties at the time when it passes", function()
    local b, log = timed(3, 2), {}
    b:wait(listener(log, "w"))
    b:register(4)
    run_loop()
    assert.are.same({ "w" .. failed(2, 1, 7) }, log)
  end)

  it("may be 0: a trip before the loop's next turn is in time", function()
    local b, log = timed(2, 0), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    b:wait(listener(log, "w3"))
    run_loop()
    assert.are.equal("w3" .. failed(0, 1, 2), log[3])
  end)

  it("may be so long that it never passes", function()
    for _, timeout in ipairs { 2 ^ 31, 2 ^ 32 + 1, 2 ^ 53 } do
      local b, log = timed(2, timeout), {}
      b:wait(listener(log, "w1"))
      uv.run "nowait"
      assert.are.equal(1, b.n_waiting)
      b:wait(listener(log, "w2"))
      run_loop()
      assert.are.same({ "w1 0", "w2 1" }, log)
      assert.is_false(uv.loop_alive())
    end
  end)

  it("must be an integer >= 0", function()
    for _, bad in ipairs { -1, 0.5, 1 / 0, 0 / 0, "5", true, false, {}, print } do
      local ok, message = pcall(barrier.new, 2, { timeout = bad })
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #2 to 'new' (option 'timeout' must be "
        .. "an integer >= 0", 1, true), message)
    end
    assert.are.equal(2, barrier.new(2, { timeout = 5.0 }).parties)
  end)
end)

describe("the time of a phase", function()
  it("does not run before the first arrival", function()
    local b = timed(2, 1)
    b:await_trip(nobody)
    assert.is_false(uv.loop_alive())
    pass_time(3)
    run_loop()
    assert.is_false(b.broken)
  end)

  it("runs from the first arrival, whichever parties come and go", function()
    local b, log = timed(4, 20), {}
    local first = b:wait(nobody)
    pass_time(10)
    b:wait(15, listener(log, "w"))
    first:close()
    run_loop()
    assert.are.same({ "w" .. failed(20, 1, 4) }, log)
  end)

  it("starts anew with the next arrival if nobody was left", function()
    local b, log = timed(4, 20), {}
    local first = b:wait(nobody)
    pass_time(10)
    first:close()
    b:wait(15, listener(log, "w"))
    run_loop()
    assert.are.same({ "w" .. timed_out(15, 1, 4) }, log)
    assert.is_false(b.broken)
  end)

  it("goes on while an arrival without waiting is counted", function()
    local b, log = timed(4, 20), {}
    b:arrive()
    local first = b:wait(nobody)
    pass_time(10)
    first:close()
    b:wait(15, listener(log, "w"))
    run_loop()
    assert.are.same({ "w" .. failed(20, 2, 4) }, log)
  end)

  it("ends when nobody is counted any more, in whichever way", function()
    local ways = {
      function(b)
        b:wait(nobody):close()
      end,
      function(b)
        b:wait(0, nobody)
        uv.run "nowait"
        uv.run "nowait"
      end,
      function(b)
        b:arrive()
        b:reset()
      end,
      function(b)
        b:wait(nobody)
        b:abort()
      end,
      function(b)
        b:arrive()
        b:deregister()
      end,
      function(b)
        b:arrive()
        b:arrive()
      end,
      function(b)
        b:arrive()
        party(b, "last", {})
      end,
    }
    for _, way in ipairs(ways) do
      local b = timed(2, LONG)
      way(b)
      uv.run "nowait"
      uv.run "nowait"
      assert.is_false(uv.loop_alive())
    end
  end)

  it("ends with the trip, and begins anew in the next phase", function()
    local b, log = timed(2, 20), {}
    b:wait(listener(log, "w1"))
    pass_time(10)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.is_false(uv.loop_alive())
    b:wait(15, listener(log, "w3"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3" .. timed_out(15, 1, 2) }, log)
    b:wait(listener(log, "w4"))
    run_loop()
    assert.are.equal("w4" .. failed(20, 1, 2), log[4])
  end)

  it("leaves the loop nothing to wait for if each arrival passes alone", function()
    local b, log = timed(1, LONG), {}
    party(b, "w", log)
    b:arrive()
    assert.are.same({ "w 0" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it("does not run for the blocked until they are let in", function()
    local log = {}
    local b, drains = keeping(2, { timeout = 2 })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    b:wait(listener(log, "blocked"))
    pass_time(5)
    run_loop()
    assert.is_false(uv.loop_alive())
    assert.are.equal("draining", b.state)
    drains[1]()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(1, b.n_waiting)
    run_loop()
    drains[2]()
    assert.are.equal("blocked" .. failed(2, 1, 2), log[3])
  end)

  it("does not keep the loop alive while others are blocked", function()
    local b, drains = keeping(2, { timeout = LONG })
    b:wait(nobody)
    b:wait(nobody)
    run_loop()
    b:wait(nobody)
    b:arrive()
    b:arrive()
    assert.is_false(uv.loop_alive())
    drains[1]()
    run_loop()
    drains[2]()
    assert.is_true(uv.loop_alive())
    b:reset()
    run_loop()
    assert.is_false(uv.loop_alive())
  end)

  it("does not stop a trip before the loop's next turn", function()
    local b, log = timed(2, 1), {}
    b:wait(listener(log, "w1"))
    pass_time(5)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("does not pass in a loop that the action runs", function()
    local log, calls = {}, 0
    local b = timed(2, 2, function()
      calls = calls + 1
      pass_time(10)
      uv.run "nowait"
      uv.run "nowait"
    end)
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    assert.is_false(b.broken)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(1, calls)
    assert.is_false(uv.loop_alive())
  end)

  it("does not pass in the action of a trip of blocked parties", function()
    local log = {}
    local b = timed(2, 2, function()
      pass_time(10)
      uv.run "nowait"
    end)
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 0", "w4 1" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it("goes on after the timeout of a single wait", function()
    local b, log = timed(4, 20), {}
    b:wait(5, listener(log, "hasty"))
    b:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "hasty" .. timed_out(5, 2, 4), "w" .. failed(20, 1, 4) }, log)
  end)

  it("is counted for each barrier separately", function()
    local log = {}
    for i, timeout in ipairs { 30, 1, LONG, 15 } do
      local b = timed(2, timeout)
      b:wait(listener(log, i .. ""))
      if timeout == LONG then
        b:await_trip(listener(log, "t"))
        b:wait(nobody)
      end
    end
    run_loop()
    assert.are.same({
      "3 0", "t 1", "2" .. failed(1, 1, 2), "4" .. failed(15, 1, 2), "1" .. failed(30, 1, 2),
    }, log)
  end)

  it("starts anew after a reset", function()
    local b, log = timed(3, 20), {}
    b:wait(listener(log, "w1"))
    pass_time(10)
    b:reset()
    run_loop()
    b:wait(15, listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1" .. RESET, "w2" .. timed_out(15, 1, 3) }, log)
  end)

  it("needs no handle of its own", function()
    local before, after = 0, 0
    local first = timed(2, LONG)
    first:wait(nobody)
    first:reset()
    run_loop()
    uv.walk(function()
      before = before + 1
    end)
    local barriers = {}
    for i = 1, 50 do
      barriers[i] = timed(2, LONG)
      barriers[i]:wait(nobody)
    end
    uv.walk(function()
      after = after + 1
    end)
    assert.are.equal(before, after)
    for i = 1, 50 do
      barriers[i]:reset()
    end
    run_loop()
    assert.is_false(uv.loop_alive())
  end)

  it("keeps its barrier alive until it passes or ends", function()
    local log = {}
    assert.is_false(support.collected(function()
      local b = timed(2, 5)
      b:wait(listener(log, "w"))
      return b
    end))
    run_loop()
    assert.are.same({ "w" .. failed(5, 1, 2) }, log)
    assert.is_true(support.collected(function()
      local b = timed(2, 5)
      b:wait(nobody):close()
      return b
    end))
    add(log, "end")
  end)
end)
