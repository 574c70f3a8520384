local barrier = require "barrier"
local support = require "spec.support"

local co, run_loop = support.co, support.run_loop

---A callback that logs how its wait ended.
local function teller(log, name)
  return function(err, position)
    log[#log + 1] = name .. " " .. tostring(err or position)
  end
end

describe("reset", function()
  it("fails those who wait, on the next turn, and leaves the barrier empty", function()
    local b, log = barrier.new(3), {}
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    assert.are.equal(0, select("#", b:reset()))
    assert.are.equal("resetting", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({
      "a BrokenBarrierError: barrier reset",
      "b BrokenBarrierError: barrier reset",
    }, log)
    assert.are.equal("filling", b.state)
    assert.is_false(b.broken)
  end)

  it("of an empty barrier changes nothing", function()
    local b = barrier.new(2)
    b:reset()
    assert.are.equal("filling", b.state)
  end)

  it("blocks who arrives before those who fail have left", function()
    local b, log = barrier.new(2), {}
    b:wait(teller(log, "a"))
    b:reset()
    b:wait(teller(log, "b"))
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier reset" }, log)
    assert.are.equal(1, b.n_waiting)
    b:wait(teller(log, "c"))
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier reset", "b 0", "c 1" }, log)
  end)

  it("while draining fails those who are still inside, not the blocked", function()
    local b, log = barrier.new(4), {}
    for i = 1, 4 do
      b:wait(function(err, position)
        log[#log + 1] = i .. " " .. tostring(err or position)
        if i == 2 then
          b:reset()
        end
      end)
    end
    b:wait(teller(log, "blocked"))
    run_loop()
    assert.are.same({
      "1 0",
      "2 1",
      "3 BrokenBarrierError: barrier reset",
      "4 BrokenBarrierError: barrier reset",
    }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
  end)

  it("mends a broken barrier", function()
    local b, log = barrier.new(1), {}
    b:abort("why")
    assert.is_true(b.broken)
    b:reset()
    assert.is_false(b.broken)
    co(function()
      log[1] = b:wait()
    end)
    assert.are.same({ 0 }, log)
  end)

  it("after an abort in the same turn spares the blocked, not those inside", function()
    local b, log = barrier.new(2), {}
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    b:wait(teller(log, "blocked"))
    b:abort("why")
    b:reset()
    run_loop()
    assert.are.same({
      "a BrokenBarrierError: barrier reset",
      "b BrokenBarrierError: barrier reset",
    }, log)
    assert.are.equal(1, b.n_waiting)
  end)
end)

describe("abort", function()
  it("fails those who wait and who come later, with the reason", function()
    local b, log = barrier.new(3), {}
    b:wait(teller(log, "a"))
    assert.are.equal(0, select("#", b:abort("disk full")))
    assert.are.equal("broken", b.state)
    assert.is_true(b.broken)
    b:wait(teller(log, "late"))
    run_loop()
    table.sort(log)
    assert.are.same({
      "a BrokenBarrierError: barrier aborted: disk full",
      "late BrokenBarrierError: barrier aborted: disk full",
    }, log)
    assert.are.equal("broken", b.state)
  end)

  it("fails a coroutine that comes later at once", function()
    local b = barrier.new(3)
    b:abort("why")
    local ok, err
    co(function()
      ok, err = pcall(b.wait, b)
    end)
    if support.pcall_yields then
      assert.is_false(ok)
      assert.are.equal("why", err.reason)
    end
  end)

  it("while draining fails those still inside, then the blocked", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      b:wait(function(err, position)
        log[#log + 1] = i .. " " .. tostring(err or position)
        if i == 1 then
          b:abort()
        end
      end)
    end
    b:wait(teller(log, "blocked"))
    run_loop()
    assert.are.same({
      "1 0",
      "2 BrokenBarrierError: barrier aborted",
      "3 BrokenBarrierError: barrier aborted",
      "blocked BrokenBarrierError: barrier aborted",
    }, log)
  end)

  it("keeps the newest reason, and reset forgets it", function()
    local b, reasons = barrier.new(2), {}
    local function keep(err)
      reasons[#reasons + 1] = err.reason == nil and "none" or err.reason
    end
    b:wait(keep)
    b:abort("one")
    b:abort("two")
    run_loop()
    b:reset()
    b:abort()
    b:wait(keep)
    b:reset()
    b:abort(false)
    b:wait(keep)
    run_loop()
    assert.are.same({ "two", "none", false }, reasons)
  end)
end)

describe("a callback on a broken barrier", function()
  it("has failed for good: a reset before it is called changes nothing", function()
    local b, log = barrier.new(2), {}
    b:abort("why")
    b:wait(teller(log, "a"))
    assert.are.equal(0, #b:waiters())
    b:reset()
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier aborted: why" }, log)
    assert.are.equal(0, b.n_waiting)
  end)
end)
