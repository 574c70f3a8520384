local barrier = require "barrier"
local support = require "spec.support"

local co, patient, run_loop = support.co, support.patient, support.run_loop
local listener = support.listener
local it_catches = support.it_catches

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

describe("reset", function()
  it("fails the waiters on the next turn, and leaves the barrier empty", function()
    local b, log = barrier.new(3), {}
    patient(b, "a", log)
    patient(b, "b", log)
    assert.are.equal(0, select("#", b:reset()))
    assert.are.equal("resetting", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(2, #b:waiters())
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "a" .. RESET, "b" .. RESET }, log)
    assert.are.equal("filling", b.state)
    assert.is_false(b.broken)
    assert.are.same({}, b:waiters())
    assert.are.equal(0, b.generation)
  end)

  it("of an empty barrier changes nothing", function()
    local b = barrier.new(2)
    b:reset()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.equal("filling", b.state)
  end)

  it("leaves the barrier resetting until the last one has left", function()
    local b, states = barrier.new(4), {}
    for _ = 1, 3 do
      b:wait(function()
        table.insert(states, b.state)
      end)
    end
    b:reset()
    run_loop()
    assert.are.same({ "resetting", "resetting", "filling" }, states)
  end)

  it("while draining fails those still inside, not the blocked", function()
    local b, log = barrier.new(4), {}
    for i = 1, 4 do
      b:wait(function(err, position)
        listener(log, i)(err, position)
        if i == 2 then
          b:reset()
          table.insert(log, b.state)
        end
      end)
    end
    b:wait(listener(log, "blocked"))
    run_loop()
    assert.are.same({ "1 0", "2 1", "resetting", "3" .. RESET, "4" .. RESET }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.generation)
  end)

  it("before the loop runs fails all of a trip but the last arrival, which has passed", function()
    local b, log = barrier.new(3), {}
    patient(b, "a", log)
    patient(b, "b", log)
    support.party(b, "c", log)
    b:reset()
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "c 2", "a" .. RESET, "b" .. RESET }, log)
  end)

  it("twice fails each party once", function()
    local b, log = barrier.new(3), {}
    b:wait(listener(log, "a"))
    b:reset()
    b:wait(listener(log, "blocked"))
    b:reset()
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "a" .. RESET }, log)
    assert.are.equal(1, b.n_waiting)
    b:reset()
    run_loop()
    assert.are.same({ "a" .. RESET, "blocked" .. RESET }, log)
  end)

  it("mends a broken barrier", function()
    local b, log = barrier.new(2), {}
    b:abort("why")
    run_loop()
    assert.is_true(b.broken)
    b:reset()
    assert.is_false(b.broken)
    assert.are.equal("filling", b.state)
    support.party(b, "a", log)
    support.party(b, "b", log)
    run_loop()
    assert.are.same({ "b 1", "a 0" }, log)
  end)

  it("after an abort in the same turn spares the blocked, not those inside", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    b:wait(listener(log, "blocked"))
    b:abort("why")
    b:reset()
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "a" .. RESET, "b" .. RESET }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("after an abort in the same turn decides what those inside get", function()
    local b, log = barrier.new(3), {}
    patient(b, "a", log)
    b:wait(function(err)
      table.insert(log, tostring(err.reason))
    end)
    b:abort("why")
    b:reset()
    assert.is_false(b.broken)
    run_loop()
    assert.are.same({ "a" .. RESET, "nil" }, log)
  end)
end)

describe("abort", function()
  it("fails present and later waiters with the reason", function()
    local b, log = barrier.new(3), {}
    patient(b, "a", log)
    assert.are.equal(0, select("#", b:abort("disk full")))
    assert.are.equal("broken", b.state)
    assert.is_true(b.broken)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, log)
    run_loop()
    b:wait(listener(log, "late"))
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ "a" .. ABORTED .. ": disk full", "late" .. ABORTED .. ": disk full" }, log)
    assert.are.equal("broken", b.state)
    assert.are.equal(0, b.generation)
  end)

  it("fails a coroutine that arrives later on the next turn", function()
    local b, log = barrier.new(3), {}
    b:abort("why")
    for i = 1, 2 do
      patient(b, i, log)
      assert.are.same({}, b:waiters())
      assert.are.equal(i - 1, #log)
      run_loop()
      assert.are.equal(i .. ABORTED .. ": why", log[i])
    end
  end)

  it("of an empty barrier leaves the loop nothing to do", function()
    local b = barrier.new(2)
    run_loop()
    b:abort()
    assert.is_false(require("luv").loop_alive())
    assert.is_true(b.broken)
  end)

  it("while draining fails those still inside, then the blocked", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      b:wait(function(err, position)
        listener(log, i)(err, position)
        if i == 1 then
          b:abort()
        end
      end)
    end
    b:wait(listener(log, "blocked 1"))
    b:wait(listener(log, "blocked 2"))
    run_loop()
    assert.are.same({
      "1 0", "2" .. ABORTED, "3" .. ABORTED, "blocked 1" .. ABORTED, "blocked 2" .. ABORTED,
    }, log)
    assert.are.equal("broken", b.state)
    assert.are.same({}, b:waiters())
  end)

  it("while resetting decides what those inside get, and fails the blocked too", function()
    local b, log = barrier.new(3), {}
    patient(b, "a", log)
    b:reset()
    patient(b, "blocked", log)
    b:abort("why")
    assert.are.equal("broken", b.state)
    run_loop()
    assert.are.same({ "a" .. ABORTED .. ": why", "blocked" .. ABORTED .. ": why" }, log)
  end)

  it("keeps the first reason until reset, which forgets it", function()
    local b, reasons = barrier.new(2), {}
    local function keep(err)
      table.insert(reasons, err.reason == nil and "none" or tostring(err.reason))
    end
    b:wait(keep)
    b:abort("one")
    b:abort("two")
    run_loop()
    b:abort("three")
    b:wait(keep)
    run_loop()
    b:reset()
    b:abort()
    b:abort("four")
    b:wait(keep)
    b:reset()
    b:abort(false)
    b:wait(keep)
    run_loop()
    b:abort("five")
    b:wait(keep)
    run_loop()
    assert.are.same({ "one", "one", "none", "false", "false" }, reasons)
  end)

  it("keeps the first reason even if each waiter aborts with its own error", function()
    local b, errors = barrier.new(4), {}
    for i = 1, 3 do
      b:wait(function(err)
        errors[i] = tostring(err)
        b:abort(err)
      end)
    end
    b:abort("ENOENT")
    run_loop()
    b:wait(function(err)
      errors[4] = tostring(err)
    end)
    run_loop()
    for i = 1, 4 do
      assert.are.equal("BrokenBarrierError: barrier aborted: ENOENT", errors[i])
    end
  end)

  it("of a broken barrier changes nothing, even after a reset", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "a"))
    b:abort("why")
    b:reset()
    b:abort("later")
    b:abort("too late")
    run_loop()
    assert.are.same({ "a" .. ABORTED .. ": later" }, log)
  end)

  it("of a broken barrier leaves the loop nothing to do", function()
    local b = barrier.new(2)
    b:abort()
    b:abort("again")
    assert.is_false(require("luv").loop_alive())
  end)

  it("is undone only by reset", function()
    local b = barrier.new(2)
    b:wait(nobody)
    b:abort("why")
    run_loop()
    assert.is_true(b.broken)
    b:wait(nobody)
    b:wait(nobody)
    run_loop()
    assert.is_true(b.broken)
    assert.are.equal(0, b.generation)
  end)
end)

describe("a callback on a broken barrier", function()
  it("has failed for good: a reset before it is called changes nothing", function()
    local b, log = barrier.new(2), {}
    b:abort("why")
    b:wait(listener(log, "a"))
    assert.are.same({}, b:waiters())
    b:reset()
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "a" .. ABORTED .. ": why" }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it("keeps the reason it met", function()
    local b, log = barrier.new(2), {}
    b:abort("one")
    b:wait(listener(log, "a"))
    b:reset()
    b:abort("two")
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a" .. ABORTED .. ": one", "b" .. ABORTED .. ": two" }, log)
  end)
end)

describe("a half-drained barrier", function()
  local function half_drained(parties, throw_out)
    local b, log = barrier.new(parties), {}
    for i = 1, parties do
      b:wait(function(err, position)
        listener(log, i)(err, position)
        if i == math.floor(parties / 2) then
          throw_out(b)
        end
      end)
    end
    return b, log
  end

  it("gives no position to those that it throws out", function()
    for _, how in ipairs { "reset", "abort" } do
      local b, log = half_drained(6, function(b)
        b[how](b)
      end)
      run_loop()
      for i = 1, 6 do
        local failed = how == "reset" and RESET or ABORTED
        assert.are.equal(i <= 3 and i .. " " .. i - 1 or i .. failed, log[i])
      end
      assert.are.equal(1, b.generation)
    end
  end)

  it("that is aborted and reset fails the rest with a reset, once", function()
    local b, log = half_drained(4, function(b)
      b:abort("why")
      b:reset()
    end)
    run_loop()
    assert.are.same({ "1 0", "2 1", "3" .. RESET, "4" .. RESET }, log)
    assert.are.equal("filling", b.state)
  end)

  it_catches("forgets who left between the trip and its turn", function()
    local b, log = barrier.new(3), {}
    local left = co(function()
      b:wait()
    end)
    co(function()
      pcall(b.wait, b)
      table.insert(log, b:wait())
    end)
    b:arrive()
    b:cancel(left)
    b:reset()
    run_loop()
    b:arrive(2)
    run_loop()
    assert.are.same({ 0 }, log)
  end)

  it_catches("lets in a party that passed and came again, once the rest has failed", function()
    local b, log = barrier.new(4), {}
    for i = 1, 4 do
      co(function()
        local passed = pcall(b.wait, b)
        if i == 1 then
          b:reset()
        end
        table.insert(log, i .. (passed and " passed" or " failed"))
        table.insert(log, i .. " again " .. b:wait())
      end)
    end
    run_loop()
    assert.are.same({
      "4 passed", "1 passed", "2 failed", "3 failed",
      "4 again 0", "1 again 1", "2 again 2", "3 again 3",
    }, log)
  end)
end)
