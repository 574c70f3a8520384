local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local party = support.party
local it_catches = support.it_catches

local CANCELLED = " CancelledError: wait cancelled"
local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

---Parties that wait with callbacks and are named by their numbers.
local function waiters(b, log, n)
  for i = 1, n do
    b:wait(listener(log, "w" .. i))
  end
end

describe("cancel of a waiting coroutine", function()
  it_catches("takes it out at once, and raises in it on the next turn of the loop", function()
    local b, log = barrier.new(3), {}
    local x = party(b, "x", log)
    waiters(b, log, 1)
    assert.is_true(b:cancel(x))
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.are.same({}, log)
    assert.are.equal("suspended", coroutine.status(x))
    run_loop()
    assert.are.same({ "x" .. CANCELLED }, log)
    assert.are.equal("dead", coroutine.status(x))
    assert.are.equal(1, b.n_waiting)
  end)

  it_catches("raises a CancelledError that knows its barrier", function()
    local b = barrier.new(2)
    b:cancel(party(b, "x", {}))
    run_loop()
    local err = support.last_error
    assert.are.equal(barrier.CancelledError, getmetatable(err))
    assert.are.equal("CancelledError", err.name)
    assert.are.equal("wait cancelled", err.message)
    assert.are.equal(b, err.barrier)
    assert.is_nil(err.reason)
  end)

  it_catches("returns true once", function()
    local b = barrier.new(2)
    local x = party(b, "x", {})
    assert.is_true(b:cancel(x))
    assert.is_false(b:cancel(x))
    run_loop()
    assert.is_false(b:cancel(x))
  end)

  it_catches("lets the barrier go on as if it had never come", function()
    local b, log = barrier.new(3), {}
    waiters(b, log, 1)
    local x = party(b, "x", log)
    b:cancel(x)
    b:wait(listener(log, "w2"))
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w3"))
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "x" .. CANCELLED, "w1 0", "w2 1", "w3 2" }, log)
    assert.are.equal(1, b.generation)
  end)

  it_catches("works for the only one, the first, one in the middle and the last", function()
    for which = 1, 4 do
      local b, log, parties = barrier.new(5), {}, {}
      for i = 1, which == 4 and 1 or 3 do
        parties[i] = party(b, "p" .. i, log)
      end
      assert.is_true(b:cancel(parties[which == 4 and 1 or which]))
      local missing = b.parties - b.n_waiting
      waiters(b, log, missing)
      run_loop()
      local positions = {}
      for _, line in ipairs(log) do
        add(positions, tonumber(line:match "(%d+)$"))
      end
      assert.are.same({ 0, 1, 2, 3, 4 }, positions)
      assert.are.equal(1, b.generation)
    end
  end)

  it_catches("leaves no gaps in the positions, whichever party goes", function()
    local b, log, parties = barrier.new(200), {}, {}
    for i = 1, 300 do
      parties[i] = party(b, "x", log)
      if i % 3 == 1 or i % 7 == 2 then
        assert.is_true(b:cancel(parties[i]))
      end
    end
    waiters(b, log, b.parties - b.n_waiting)
    run_loop()
    local seen, cancelled = {}, 0
    for _, line in ipairs(log) do
      local position = tonumber(line:match "(%d+)$")
      if position then
        assert.is_nil(seen[position])
        seen[position] = true
      else
        assert.are.equal("x" .. CANCELLED, line)
        cancelled = cancelled + 1
      end
    end
    for position = 0, 199 do
      assert.is_true(seen[position])
    end
    assert.are.equal(129, cancelled)
  end)

  it_catches("lets it wait again, behind parties that arrived meanwhile", function()
    local b, log = barrier.new(3), {}
    local x = co(function()
      local _, err = pcall(b.wait, b)
      add(log, tostring(err))
      add(log, "x " .. b:wait())
    end)
    b:wait(listener(log, "w1"))
    b:cancel(x)
    run_loop()
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "CancelledError: wait cancelled", "w1 0", "x 1", "w2 2" }, log)
  end)
end)

describe("cancel of a blocked coroutine", function()
  it_catches("takes it out of the queue, and the barrier goes on draining", function()
    local b, log = barrier.new(2), {}
    waiters(b, log, 2)
    party(b, "p1", log)
    local x = party(b, "x", log)
    party(b, "p2", log)
    party(b, "p3", log)
    assert.is_true(b:cancel(x))
    assert.is_false(b:cancel(x))
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "x" .. CANCELLED, "w1 0", "w2 1", "p1 0", "p2 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it_catches("leaves nobody to let in if it was the only one", function()
    local b, log = barrier.new(2), {}
    waiters(b, log, 2)
    b:cancel(party(b, "x", log))
    run_loop()
    assert.are.same({ "x" .. CANCELLED, "w1 0", "w2 1" }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it_catches("spares it the failure if the barrier has been aborted", function()
    local b, log = barrier.new(2), {}
    waiters(b, log, 2)
    local x = party(b, "x", log)
    party(b, "p", log)
    b:abort()
    assert.is_true(b:cancel(x))
    run_loop()
    assert.are.same({ "x" .. CANCELLED, "w1" .. ABORTED, "w2" .. ABORTED, "p" .. ABORTED }, log)
  end)
end)

describe("cancel of a coroutine after the trip, before it resumes,", function()
  it_catches("takes its position along; the others keep theirs", function()
    local b, log, parties = barrier.new(5), {}, {}
    for i = 1, 5 do
      parties[i] = party(b, "p" .. i, log)
    end
    assert.is_true(b:cancel(parties[2]))
    assert.is_true(b:cancel(parties[3]))
    assert.is_false(b:cancel(parties[3]))
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "p5 4", "p2" .. CANCELLED, "p3" .. CANCELLED, "p1 0", "p4 3" }, log)
    assert.are.equal(1, b.generation)
  end)

  it_catches("leaves the barrier filling at once if it was the last one inside", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    party(b, "p", log)
    assert.are.equal("draining", b.state)
    assert.is_true(b:cancel(x))
    assert.are.equal("filling", b.state)
    party(b, "q", log)
    assert.are.equal(1, b.n_waiting)
    run_loop()
    assert.are.same({ "p 1", "x" .. CANCELLED }, log)
  end)

  it_catches("raises in it on the following turn if the call comes during this one", function()
    local log, turns, x = {}, 0, nil
    local b = barrier.new(3, { schedule = function(drain)
      turns = turns + 1
      drain()
    end })
    b:wait(function()
      assert.is_true(b:cancel(x))
      assert.is_false(b:cancel(x))
    end)
    x = co(function()
      add(log, select(2, pcall(b.wait, b)).name .. " in turn " .. turns)
    end)
    b:wait(function(_, position)
      add(log, position .. " in turn " .. turns)
    end)
    run_loop()
    assert.are.same({ "2 in turn 1", "CancelledError in turn 2" }, log)
  end)

  it_catches("decides its error, even after a reset or an abort", function()
    for method, state in pairs { reset = "resetting", abort = "broken" } do
      local b, log = barrier.new(3), {}
      local x = party(b, "x", log)
      local p = party(b, "p", log)
      b[method](b)
      assert.is_true(b:cancel(x))
      assert.is_false(b:cancel(x))
      assert.are.equal(state, b.state)
      run_loop()
      assert.are.same({ "x" .. CANCELLED, "p" .. (method == "reset" and RESET or ABORTED) }, log)
      assert.are.equal(method == "reset" and "filling" or "broken", b.state)
      assert.is_false(b:cancel(p))
    end
  end)

  it_catches("ends a reset at once if it was the last one inside", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    b:reset()
    b:cancel(x)
    assert.are.equal("filling", b.state)
    run_loop()
    assert.are.same({ "x" .. CANCELLED }, log)
  end)
end)

describe("cancel returns false and changes nothing for a coroutine", function()
  it("that waits at another barrier", function()
    local b, other, log = barrier.new(2), barrier.new(2), {}
    local x = party(other, "x", log)
    party(b, "p", log)
    assert.is_false(b:cancel(x))
    assert.are.equal(1, b.n_waiting)
    assert.are.equal(1, other.n_waiting)
    other:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "x 0", "w 1" }, log)
  end)

  it("that has not started, has ended, or has yielded elsewhere", function()
    local b = barrier.new(2)
    assert.is_false(b:cancel(coroutine.create(function() end)))
    assert.is_false(b:cancel(co(function() end)))
    assert.is_false(b:cancel(co(function()
      coroutine.yield()
    end)))
    assert.are.equal(0, b.n_waiting)
    run_loop()
  end)

  it("that is running, before its wait and after it", function()
    local b, log = barrier.new(2), {}
    local x
    x = coroutine.create(function()
      add(log, b:cancel(x))
      b:wait()
      add(log, b:cancel(x))
    end)
    coroutine.resume(x)
    b:wait(function() end)
    run_loop()
    assert.are.same({ false, false }, log)
  end)

  it("that has passed as the last arrival and waits elsewhere", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w"))
    local x = co(function()
      b:wait()
      coroutine.yield()
    end)
    assert.are.equal("draining", b.state)
    assert.is_false(b:cancel(x))
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)

  it("that waits with a callback, since that wait belongs to its Waiter", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      b:wait(listener(log, "x"))
      coroutine.yield()
    end)
    assert.is_false(b:cancel(x))
    assert.are.equal(1, b.n_waiting)
    b:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "x 0", "w 1" }, log)
  end)
end)

describe("the cancelled coroutines of one barrier", function()
  it_catches("get their errors in the order in which they were cancelled", function()
    local b, log, parties = barrier.new(9), {}, {}
    for i = 1, 5 do
      parties[i] = party(b, "p" .. i, log)
    end
    for _, i in ipairs { 4, 1, 5, 2 } do
      b:cancel(parties[i])
    end
    run_loop()
    assert.are.same({
      "p4" .. CANCELLED,
      "p1" .. CANCELLED,
      "p5" .. CANCELLED,
      "p2" .. CANCELLED,
    }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it_catches("each get an error of their own", function()
    local b, errors = barrier.new(3), {}
    for i = 1, 2 do
      b:cancel(co(function()
        errors[i] = select(2, pcall(b.wait, b))
      end))
    end
    run_loop()
    assert.are_not.equal(errors[1], errors[2])
    assert.are.equal(errors[1].name, errors[2].name)
  end)
end)
