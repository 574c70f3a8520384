local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local it_catches = support.it_catches

---A coroutine that waits without catching anything.
local function waiting(b, log, name, timeout)
  return co(function()
    add(log, name .. " " .. b:wait(timeout))
  end)
end

---Resumes x, which must die of a CancelledError of b.
local function assert_cancelled(b, x, ...)
  local ok, err = coroutine.resume(x, ...)
  assert.is_false(ok)
  assert.are.equal(barrier.CancelledError, getmetatable(err))
  assert.are.equal("CancelledError: wait cancelled", tostring(err))
  assert.are.equal(b, err.barrier)
end

describe("a waiting coroutine that somebody else resumes", function()
  it("leaves the barrier at once with CancelledError", function()
    local b, log = barrier.new(2), {}
    local x = waiting(b, log, "x")
    assert_cancelled(b, x)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
    assert.is_false(b:cancel(x))
    assert.is_false(uv.loop_alive())
    b:wait(listener(log, "w1"))
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("does so whatever it is resumed with", function()
    local b = barrier.new(2)
    local core = require "barrier.core"
    for _, value in ipairs { 0, 1, "passed", true, {}, b, print, core } do
      assert_cancelled(b, waiting(b, {}, "x"), value, 0)
      assert_cancelled(b, waiting(b, {}, "x"), nil, value)
    end
    assert.are.equal(0, b.n_waiting)
  end)

  it("raises the error in the caller of a function made by coroutine.wrap", function()
    local b = barrier.new(2)
    local f = coroutine.wrap(function()
      b:wait()
    end)
    f()
    local ok, err = pcall(f)
    assert.is_false(ok)
    assert.are.equal(barrier.CancelledError, getmetatable(err))
    assert.are.equal(0, b.n_waiting)
  end)

  it_catches("may catch the error and wait again, behind parties that arrived meanwhile", function()
    local b, log = barrier.new(3), {}
    local x = co(function()
      add(log, tostring(select(2, pcall(b.wait, b))))
      add(log, "x " .. b:wait())
    end)
    b:wait(listener(log, "w1"))
    coroutine.resume(x)
    assert.are.equal(2, b.n_waiting)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "CancelledError: wait cancelled", "w1 0", "x 1", "w2 2" }, log)
  end)

  it_catches("may go on to another barrier, which alone then counts it", function()
    local b, other, log = barrier.new(2), barrier.new(2), {}
    local x = co(function()
      pcall(b.wait, b)
      add(log, "x " .. other:wait())
    end)
    coroutine.resume(x)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(1, other.n_waiting)
    assert.is_false(b:cancel(x))
    b:wait(listener(log, "w1"))
    other:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "x 0", "w2 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("stops its timeout", function()
    local b = barrier.new(2)
    local x = waiting(b, {}, "x", 1000000)
    assert.is_true(uv.loop_alive())
    assert_cancelled(b, x)
    assert.is_false(uv.loop_alive())
  end)

  it("leaves no gaps in the positions or the order, whoever it was", function()
    for which = 1, 4 do
      local b, log, parties = barrier.new(4), {}, {}
      for i = 1, 3 do
        parties[i] = waiting(b, log, "p")
      end
      if which < 4 then
        assert_cancelled(b, parties[which])
      end
      for _ = 1, which < 4 and 2 or 1 do
        b:wait(listener(log, "p"))
      end
      run_loop()
      assert.are.same({ "p 0", "p 1", "p 2", "p 3" }, log)
    end
  end)
end)

describe("somebody else may also resume a coroutine that is", function()
  it("blocked", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    local x = waiting(b, log, "x")
    waiting(b, log, "p1")
    waiting(b, log, "p2")
    assert_cancelled(b, x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "p1 0", "p2 1" }, log)
  end)

  it("about to resume after a trip: its position goes with it", function()
    local b, log = barrier.new(4), {}
    waiting(b, log, "p1")
    local x = waiting(b, log, "x")
    waiting(b, log, "p2")
    waiting(b, log, "p3")
    assert_cancelled(b, x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "p3 3", "p1 0", "p2 2" }, log)
  end)

  it("the last one to resume after a trip: the barrier is filling at once", function()
    local b, log = barrier.new(2), {}
    local x = waiting(b, log, "x")
    waiting(b, log, "p")
    local blocked = waiting(b, log, "blocked")
    assert_cancelled(b, x)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({ blocked }, b:waiters())
    run_loop()
    assert.are.equal(1, b.n_waiting)
    waiting(b, log, "q")
    run_loop()
    assert.are.same({ "p 1", "q 1", "blocked 0" }, log)
  end)

  it("reset or aborted", function()
    for method, after in pairs { reset = "filling", abort = "broken" } do
      local b, log = barrier.new(3), {}
      local x = waiting(b, log, "x")
      b:wait(listener(log, "w"))
      b[method](b)
      assert_cancelled(b, x)
      run_loop()
      assert.are.equal(1, #log)
      assert.is_truthy(log[1]:find("^w BrokenBarrierError"))
      assert.are.equal(after, b.state)
    end
  end)

  it("cancelled: it gets only one error", function()
    local b, log = barrier.new(2), {}
    local x = waiting(b, log, "x")
    assert.is_true(b:cancel(x))
    assert_cancelled(b, x)
    assert.are.same({}, b:waiters())
    run_loop()
    assert.are.same({}, log)
  end)
end)

describe("a party that leaves the barrier", function()
  it("may resume one that leaves after it; nobody resumes twice", function()
    local b, log, x = barrier.new(4), {}, nil
    b:wait(function(_, position)
      add(log, "w1 " .. position)
      assert_cancelled(b, x)
    end)
    waiting(b, log, "p1")
    x = waiting(b, log, "x")
    waiting(b, log, "p2")
    run_loop()
    assert.are.same({ "p2 3", "w1 0", "p1 1" }, log)
    assert.are.equal("filling", b.state)
  end)

  it("may resume one that is already waiting again", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      add(log, "x " .. b:wait())
      b:wait()
    end)
    b:wait(function(_, position)
      add(log, "w " .. position)
      assert_cancelled(b, x)
    end)
    run_loop()
    assert.are.same({ "x 0", "w 1" }, log)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
  end)
end)
