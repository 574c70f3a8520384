local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local party = support.party
local it_closes = support.it_closes

---Compiles code that may use the syntax of Lua 5.4.
local function chunk(code)
  return assert(load(code))
end

describe("coroutine.close of a waiting coroutine", function()
  it_closes("is noticed at once", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    assert.are.equal(1, b.n_waiting)
    assert.is_true(coroutine.close(x))
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
    assert.are.equal("dead", coroutine.status(x))
    assert.is_false(b:cancel(x))
    assert.is_false(uv.loop_alive())
    run_loop()
    assert.are.same({}, log)
  end)

  it_closes("leaves a barrier that no longer counts it", function()
    local b, log = barrier.new(3), {}
    party(b, "p1", log)
    local x = party(b, "x", log)
    coroutine.close(x)
    party(b, "p2", log)
    assert.are.equal("filling", b.state)
    party(b, "p3", log)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "p3 2", "p1 0", "p2 1" }, log)
  end)

  it_closes("may come from a to-be-closed variable of an outer coroutine", function()
    local b = barrier.new(2)
    local outer = co(chunk [[
      local b = ...
      local inner = coroutine.create(function() b:wait() end)
      local guard <close> = setmetatable({}, { __close = function()
        assert(coroutine.close(inner))
      end })
      coroutine.resume(inner)
      coroutine.yield()
    ]], b)
    assert.are.equal(1, b.n_waiting)
    assert.is_true(coroutine.close(outer))
    assert.are.equal(0, b.n_waiting)
    run_loop()
  end)

  it_closes("may come from a to-be-closed variable whose block ends with an error", function()
    local b = barrier.new(2)
    assert.is_false(pcall(chunk [[
      local b = ...
      local inner = coroutine.create(function() b:wait() end)
      local guard <close> = setmetatable({}, { __close = function()
        assert(coroutine.close(inner))
      end })
      coroutine.resume(inner)
      assert(b.n_waiting == 1)
      error "end of the block"
    ]], b))
    assert.are.equal(0, b.n_waiting)
  end)

  it_closes("takes it out before its own to-be-closed variables are closed", function()
    local b, log = barrier.new(3), {}
    b:wait(listener(log, "w1"))
    local x = co(chunk [[
      local b, log = ...
      local guard <close> = setmetatable({}, { __close = function()
        log[#log + 1] = "closing, " .. b.n_waiting .. " waits"
        b:wait(function(err, position) log[#log + 1] = "again " .. position end)
      end })
      b:wait()
    ]], b, log)
    coroutine.close(x)
    assert.are.same({ "closing, 1 waits" }, log)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "closing, 1 waits", "w1 0", "again 1", "w2 2" }, log)
  end)

  it_closes("is not caught by the coroutine's pcall", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      pcall(b.wait, b)
      add(log, "went on")
    end)
    assert.is_true(coroutine.close(x))
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({}, log)
  end)

  it_closes("works inside `with`", function()
    local b = barrier.new(2)
    local x = co(function()
      b:with(print)
    end)
    coroutine.close(x)
    assert.are.equal(0, b.n_waiting)
  end)

  it_closes("stops its timeout", function()
    local b = barrier.new(2)
    local x = co(function()
      b:wait(1000000)
    end)
    assert.is_true(uv.loop_alive())
    coroutine.close(x)
    assert.is_false(uv.loop_alive())
  end)

  it_closes("works after several trips of the same coroutine", function()
    local b, trips = barrier.new(2), 0
    local x = co(function()
      while true do
        b:wait()
        trips = trips + 1
      end
    end)
    for i = 1, 3 do
      b:wait(function() end)
      run_loop()
      assert.are.equal(i, trips)
    end
    assert.are.equal(1, b.n_waiting)
    coroutine.close(x)
    assert.are.equal(0, b.n_waiting)
  end)

  it_closes("works for any coroutine of many", function()
    local b, log, parties = barrier.new(2000), {}, {}
    for i = 1, 2000 - 1 do
      parties[i] = party(b, "p", log)
    end
    for i = 1, 2000 - 1, 2 do
      coroutine.close(parties[i])
    end
    assert.are.equal(999, b.n_waiting)
    assert.are.equal(999, #b:waiters())
    for i = 2, 2000 - 1, 2 do
      coroutine.close(parties[i])
      assert.are.equal(999 - i / 2, b.n_waiting)
    end
    run_loop()
    assert.are.same({}, log)
  end)
end)

describe("coroutine.close of a coroutine whose wait has ended", function()
  it_closes("leaves the barrier alone", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      b:wait()
      coroutine.yield()
    end)
    b:wait(listener(log, "w1"))
    run_loop()
    b:wait(listener(log, "w2"))
    assert.is_true(coroutine.close(x))
    assert.are.equal(1, b.n_waiting)
    b:wait(listener(log, "w3"))
    run_loop()
    assert.are.same({ "w1 1", "w2 0", "w3 1" }, log)
  end)
end)

describe("coroutine.close of a coroutine in the barrier", function()
  it_closes("takes out a blocked one", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    local x = party(b, "x", log)
    party(b, "p1", log)
    party(b, "p2", log)
    coroutine.close(x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "p1 0", "p2 1" }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it_closes("takes out one that has yet to resume after a trip, with its position", function()
    local b, log = barrier.new(4), {}
    party(b, "p1", log)
    local x = party(b, "x", log)
    party(b, "p2", log)
    party(b, "p3", log)
    coroutine.close(x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "p3 3", "p1 0", "p2 2" }, log)
  end)

  it_closes("leaves the barrier filling if it was last inside; the blocked are let in", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    party(b, "p1", log)
    party(b, "p2", log)
    coroutine.close(x)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.equal(1, b.n_waiting)
    party(b, "p3", log)
    run_loop()
    assert.are.same({ "p1 1", "p3 1", "p2 0" }, log)
  end)

  it_closes("takes out one that was reset, aborted or cancelled, or has timed out", function()
    local b, log = barrier.new(3), {}
    local x = party(b, "x", log)
    b:reset()
    coroutine.close(x)
    assert.are.equal("filling", b.state)
    x = party(b, "x", log)
    b:abort()
    coroutine.close(x)
    assert.are.equal("broken", b.state)
    b:reset()
    assert.are.equal("filling", b.state)
    x = party(b, "x", log)
    b:cancel(x)
    coroutine.close(x)
    assert.are.same({}, b:waiters())
    b:wait(0, function()
      coroutine.close(x)
    end)
    x = party(b, "x", log, 0)
    run_loop()
    assert.are.same({}, log)
    assert.are.same({}, b:waiters())
    assert.are.equal(0, b.n_waiting)
  end)

  it_closes("may be called by a party that leaves before it", function()
    local b, log, x = barrier.new(4), {}, nil
    b:wait(function()
      coroutine.close(x)
      add(log, "closed")
    end)
    b:wait(listener(log, "w1"))
    x = party(b, "x", log)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "closed", "w1 1", "w2 3" }, log)
    assert.are.equal("filling", b.state)
  end)
end)
