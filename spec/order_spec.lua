local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, listener, run_loop = support.add, support.listener, support.run_loop
local counted, party = support.counted, support.party
local it_catches = support.it_catches

local CANCELLED = " CancelledError: wait cancelled"
local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

---Callbacks `first` to `last` wait and log how their wait ended. Returns their Waiters.
local function enter(b, log, first, last)
  local waiters = {}
  for i = first, last do
    waiters[i] = b:wait(listener(log, "w" .. i))
  end
  return waiters
end

describe("in one turn", function()
  it("those that left early go first, then those inside, then the blocked that fail", function()
    local expected = {
      trip = { "early nil", "w1 0", "w3 2" },
      reset = { "early nil", "w1" .. RESET, "w3" .. RESET },
      abort = { "early nil", "w1" .. ABORTED, "w3" .. ABORTED, "w4" .. ABORTED },
    }
    for how, order in pairs(expected) do
      local b, turns = counted(3)
      local log = {}
      local waiters = enter(b, log, 1, 4)
      if how ~= "trip" then
        b[how](b)
      end
      waiters[2]:close(listener(log, "early"))
      run_loop()
      assert.are.same(order, log)
      assert.are.equal(1, turns())
    end
  end)

  it("those that left early go in order of leaving, wherever they were", function()
    local b, log = barrier.new(3), {}
    local waiters = enter(b, log, 1, 5)
    for _, i in ipairs { 4, 2, 5, 1 } do
      waiters[i]:close(listener(log, "closed " .. i))
    end
    run_loop()
    assert.are.same({ "closed 4 nil", "closed 2 nil", "closed 5 nil", "closed 1 nil", "w3 2" }, log)
  end)

  it_catches("those that left early go in order of leaving, however they left", function()
    local b, log = barrier.new(9), {}
    b:wait(0, listener(log, "timed"))
    local first = party(b, "first", log)
    local waiter = b:wait(nobody)
    local second = party(b, "second", log)
    b:cancel(second)
    waiter:close(listener(log, "closed"))
    b:cancel(first)
    run_loop() -- a timeout takes its waiter out when the turn begins
    assert.are.same({
      "second" .. CANCELLED, "closed nil", "first" .. CANCELLED,
      "timed" .. support.timed_out(0, 1, 9),
    }, log)
  end)

  it("those inside and the blocked go in order of arrival, whichever party has left", function()
    for how, expected in pairs { reset = RESET, abort = ABORTED } do
      local b, turns = counted(6)
      local log, order = {}, {}
      local waiters = enter(b, log, 1, 10)
      for _, i in ipairs { 9, 4, 1, 7 } do
        waiters[i]:close()
      end
      waiters = enter(b, log, 11, 12)
      waiters[11]:close()
      b[how](b)
      run_loop()
      for _, i in ipairs(how == "reset" and { 2, 3, 5, 6 } or { 2, 3, 5, 6, 8, 10, 12 }) do
        add(order, "w" .. i .. expected)
      end
      assert.are.same(order, log)
      assert.are.equal(1, turns())
    end
  end)

  it("the blocked fail if the abort came at any time before the turn", function()
    local b, turns = counted(2)
    local log = {}
    enter(b, log, 1, 3)
    b:abort()
    b:reset()
    enter(b, log, 4, 4)
    b:abort()
    b:abort()
    run_loop()
    assert.are.same({ "w1" .. ABORTED, "w2" .. ABORTED, "w3" .. ABORTED, "w4" .. ABORTED }, log)
    assert.are.equal(1, turns())
  end)

  it("barriers are served one after the other", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    local early_b = b:wait(nobody)
    local early_a = a:wait(nobody)
    a:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    early_b:close(listener(log, "early b"))
    early_a:close(listener(log, "early a"))
    run_loop()
    assert.are.same({ "early a nil", "a 1", "early b nil", "b 1" }, log)
  end)
end)

describe("a turn serves those that were ready when it began:", function()
  for _, how in ipairs { "reset", "abort" } do
    it("those inside leave in it, the blocked in the next: " .. how, function()
      local b, turns = counted(3)
      local log = {}
      for i = 1, 3 do
        b:wait(function(err)
          add(log, i .. (err and " failed" or " passed") .. " in turn " .. turns())
          if i == 1 then
            b[how](b)
          end
        end)
      end
      for i = 4, 6 do
        b:wait(function(err)
          add(log, i .. (err and " failed" or " passed") .. " in turn " .. turns())
        end)
      end
      run_loop()
      local blocked = how == "reset" and "passed" or "failed"
      assert.are.same({
        "1 passed in turn 1", "2 failed in turn 1", "3 failed in turn 1",
        "4 " .. blocked .. " in turn 2", "5 " .. blocked .. " in turn 2",
        "6 " .. blocked .. " in turn 2",
      }, log)
    end)

    it("a party that a leaver throws out fails in the next: " .. how, function()
      local b, turns = counted(2)
      local log = {}
      b:wait(nobody)
      b:wait(function() -- the last to leave: the barrier is filling
        b:wait(function(err)
          add(log, err.name .. " in turn " .. turns())
        end)
        b[how](b)
        add(log, b.state .. " in turn " .. turns())
      end)
      run_loop()
      local state = how == "reset" and "resetting" or "broken"
      assert.are.same({ state .. " in turn 1", "BrokenBarrierError in turn 2" }, log)
    end)
  end

  it("a late arrival at a broken barrier fails in the next", function()
    local b, turns = counted(2)
    local log = {}
    b:wait(function()
      b:wait(function()
        add(log, "late in turn " .. turns())
      end)
      add(log, "first in turn " .. turns())
    end)
    b:abort()
    run_loop()
    assert.are.same({ "first in turn 1", "late in turn 2" }, log)
  end)

  it("another barrier that is aborted waits for the next", function()
    local a, b, log = barrier.new(2), barrier.new(3), {}
    b:wait(listener(log, "b 1"))
    a:wait(function()
      b:abort()
      a:wait(nobody)
    end)
    a:wait(listener(log, "a 2"))
    run_loop()
    assert.are.same({ "a 2 1", "b 1" .. ABORTED }, log)
  end)

  it("a Waiter closed meanwhile gets its on_close called in the next", function()
    local b, turns = counted(3)
    local log, waiters = {}, {}
    for i = 1, 3 do
      waiters[i] = b:wait(function()
        add(log, i .. " in turn " .. turns())
        if i == 1 then
          waiters[2]:close(function()
            add(log, "closed in turn " .. turns())
          end)
        end
      end)
    end
    run_loop()
    assert.are.same({ "1 in turn 1", "3 in turn 1", "closed in turn 2" }, log)
  end)

  it("those inside fail in the next if an on_close throws them out", function()
    for _, how in ipairs { "reset", "abort" } do
      local b, turns = counted(3)
      local log = {}
      b:wait(function(err)
        add(log, err.message .. " in turn " .. turns())
      end)
      b:wait(nobody):close(function()
        add(log, "closed in turn " .. turns())
        b[how](b)
      end)
      run_loop()
      assert.are.equal("closed in turn 1", log[1])
      assert.is_truthy(log[2]:find "^barrier %a+ in turn 2$", log[2])
    end
  end)

  it("those inside fail in this one if an on_close aborts a draining barrier", function()
    local b, turns = counted(2)
    local log, waiters = {}, {}
    for i = 1, 3 do
      waiters[i] = b:wait(function(err)
        add(log, i .. " " .. err.message .. " in turn " .. turns())
      end)
    end
    waiters[1]:close(function()
      b:abort()
    end)
    run_loop()
    assert.are.same({ "2 barrier aborted in turn 1", "3 barrier aborted in turn 2" }, log)
  end)

  it("the parties of a trip that the last leaver makes go in the next", function()
    local b, turns = counted(2)
    local log = {}
    local function tell(err, position)
      add(log, tostring(err or position) .. " in turn " .. turns())
    end
    b:wait(nobody)
    b:wait(function()
      b:wait(tell)
      b:wait(tell)
      assert.are.equal("draining", b.state)
    end)
    run_loop()
    assert.are.same({ "0 in turn 2", "1 in turn 2" }, log)
  end)

  it("the blocked of a broken barrier fail in this one, even if it is aborted again", function()
    local b, turns = counted(2)
    local log = {}
    enter(b, log, 1, 1)
    b:wait(function()
      b:abort "again"
    end)
    enter(b, log, 3, 3)
    b:abort "first"
    run_loop()
    assert.are.same({ "w1" .. ABORTED .. ": first", "w3" .. ABORTED .. ": first" }, log)
    assert.are.equal(1, turns())
  end)

  it("a reset that comes before them spares the blocked", function()
    local b, log = barrier.new(2), {}
    b:wait(function()
      b:abort()
    end)
    b:wait(function(err)
      add(log, err.message)
      b:reset()
    end)
    enter(b, log, 3, 3)
    run_loop()
    assert.are.same({ "barrier aborted" }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.is_false(uv.loop_alive())
  end)
end)
