local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co, party, run_loop = support.co, support.party, support.run_loop
local listener = support.listener

local function nobody() end

---Calls f from the loop, after the current turn.
local function after_this_turn(f)
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    f()
  end)
end

describe("a party that arrives while the barrier drains", function()
  it("is blocked and not counted, and is let in when all have left", function()
    local b, log = barrier.new(2), {}
    party(b, "a", log)
    party(b, "b", log)
    party(b, "c", log)
    assert.are.equal("draining", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(2, #b:waiters())
    run_loop()
    assert.are.same({ "b 1", "a 0" }, log)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
    party(b, "d", log)
    run_loop()
    assert.are.same({ "b 1", "a 0", "d 1", "c 0" }, log)
  end)

  it("is let in first come, first served; enough of them trip the barrier repeatedly", function()
    local b, log = barrier.new(2), {}
    for i = 1, 9 do
      co(function()
        local position = b:wait()
        table.insert(log, i .. ":" .. position .. ":" .. b.generation)
      end)
    end
    run_loop()
    assert.are.same({ "2:1:1", "1:0:1", "3:0:2", "4:1:2", "5:0:3", "6:1:3", "7:0:4", "8:1:4" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("trips it at most once a turn", function()
    local turns, log = 0, {}
    local b = barrier.new(2, {
      schedule = function(drain)
        turns = turns + 1
        drain()
      end,
    })
    for i = 1, 6 do
      b:wait(function()
        table.insert(log, i .. " in turn " .. turns)
      end)
    end
    run_loop()
    assert.are.same({
      "1 in turn 1", "2 in turn 1", "3 in turn 2", "4 in turn 2", "5 in turn 3", "6 in turn 3",
    }, log)
  end)

  it("comes before a party that arrives when the others have left", function()
    local b, log = barrier.new(3), {}
    b:wait(nobody)
    b:wait(nobody)
    b:wait(nobody)
    b:wait(listener(log, "blocked 1"))
    party(b, "blocked 2", log)
    run_loop()
    assert.are.equal(2, b.n_waiting)
    b:wait(listener(log, "late"))
    run_loop()
    assert.are.same({ "blocked 1 0", "blocked 2 1", "late 2" }, log)
  end)
end)

describe("the blocked are let in", function()
  it("after the last leaver has run", function()
    local b, seen = barrier.new(2), {}
    for _ = 1, 2 do
      b:wait(function()
        table.insert(seen, b.state .. " " .. b.n_waiting .. " " .. #b:waiters())
      end)
    end
    b:wait(nobody)
    assert.are.equal(3, #b:waiters())
    run_loop()
    assert.are.same({ "draining 0 2", "filling 0 1" }, seen)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
  end)

  it("in the turn in which the last one leaves", function()
    local b, waiting = barrier.new(2), nil
    co(function()
      b:wait()
      after_this_turn(function()
        waiting = b.n_waiting
      end)
    end)
    for _ = 1, 2 do
      co(function()
        b:wait()
      end)
    end
    run_loop()
    assert.are.equal(1, waiting)
  end)

  it("before the last leaver's own next wait", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      table.insert(log, b.state .. " " .. b.n_waiting)
      table.insert(log, "a again " .. b:wait())
    end)
    co(function()
      b:wait()
      table.insert(log, "b again " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "filling 0", "b again 0", "a again 1" }, log)
  end)

  it("before coroutines that the last leaver starts, even if all could pass at once", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      party(b, "new 1", log)
      party(b, "new 2", log)
      assert(#log == 0)
    end)
    co(function()
      b:wait()
      table.insert(log, "b again " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "b again 0", "new 1 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("even if the last leaver resets the barrier", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      b:reset()
      table.insert(log, b.state)
      table.insert(log, "a again " .. b:wait())
    end)
    co(function()
      b:wait()
      table.insert(log, "b again " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "filling", "b again 0", "a again 1" }, log)
  end)

  local leave = {
    ["is cancelled"] = function(b, inside)
      assert.is_true(b:cancel(inside))
    end,
    ["is closed"] = function(_, inside)
      inside:close()
    end,
    ["is resumed by a stranger"] = function(_, inside)
      coroutine.resume(inside)
    end,
  }
  for how, f in pairs(leave) do
    it("on the next turn if the last one inside " .. how, function()
      local b, log = barrier.new(2), {}
      local inside
      if how == "is closed" then
        inside = b:wait(nobody)
      else
        if not support.pcall_yields then
          pending "in PUC Lua 5.1 a cancelled coroutine has to die"
          return
        end
        inside = party(b, "inside", {})
      end
      party(b, "last", log)
      party(b, "blocked", log)
      assert.are.equal("draining", b.state)
      f(b, inside)
      assert.are.equal("filling", b.state)
      assert.are.equal(0, b.n_waiting)
      party(b, "later", log)
      assert.are.equal(0, b.n_waiting)
      assert.are.same({ "last 1" }, log)
      run_loop()
      assert.are.same({ "last 1", "blocked 0", "later 1" }, log)
    end)
  end
end)

describe("the blocked, when the first to leave closes all others inside,", function()
  it("are let in on the next turn", function()
    local turns, log, waiters = 0, {}, {}
    local b = barrier.new(3, {
      schedule = function(drain)
        turns = turns + 1
        drain()
      end,
    })
    for i = 1, 3 do
      waiters[i] = b:wait(function()
        waiters[2]:close()
        waiters[3]:close()
        table.insert(log, i .. " in turn " .. turns .. " " .. b.state)
      end)
    end
    for i = 4, 6 do
      b:wait(function()
        table.insert(log, i .. " in turn " .. turns)
      end)
    end
    run_loop()
    -- Turn 2 lets them in, turn 3 lets them out.
    assert.are.same({
      "1 in turn 1 filling", "4 in turn 3", "5 in turn 3", "6 in turn 3",
    }, log)
  end)

  it("pass before a later arrival that could have passed at once", function()
    local b, log = barrier.new(1), {}
    local first = b:wait(nobody)
    b:wait(listener(log, "blocked"))
    first:close()
    assert.are.equal("filling", b.state)
    party(b, "later", log)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "blocked 0", "later 0" }, log)
    assert.are.equal(3, b.generation)
  end)
end)

describe("a party that arrives while the barrier is resetting", function()
  it("is blocked, and let in when those that failed have left", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "a"))
    b:reset()
    b:wait(listener(log, "b"))
    b:wait(listener(log, "c"))
    b:wait(listener(log, "d"))
    assert.are.equal("resetting", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(4, #b:waiters())
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier reset", "b 0", "c 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("comes after those that were blocked before the reset", function()
    local b, log = barrier.new(2), {}
    b:wait(nobody)
    b:wait(nobody)
    b:wait(listener(log, "before"))
    b:reset()
    b:wait(listener(log, "after"))
    run_loop()
    assert.are.same({ "before 0", "after 1" }, log)
  end)
end)

describe("waiters that are let in", function()
  it("may be fewer than the parties, as many, or more", function()
    for blocked = 0, 7 do
      local b, log = barrier.new(3), {}
      for i = 1, 3 + blocked do
        b:wait(listener(log, tostring(i)))
      end
      run_loop()
      local trips = 1 + math.floor(blocked / 3)
      assert.are.equal(trips, b.generation)
      assert.are.equal(blocked % 3, b.n_waiting)
      assert.are.equal(3 * trips, #log)
      for i = 1, #log do
        assert.are.equal(i .. " " .. (i - 1) % 3, log[i])
      end
    end
  end)

  it("join those that are already inside", function()
    local b, log = barrier.new(4), {}
    for _ = 1, 4 do
      b:wait(function()
        if b.state == "filling" then -- the last leaver
          b:wait(listener(log, "own"))
        end
      end)
    end
    b:wait(listener(log, "one"))
    b:wait(listener(log, "two"))
    run_loop()
    assert.are.equal(3, b.n_waiting)
    b:wait(listener(log, "four"))
    run_loop()
    assert.are.same({ "one 0", "two 1", "own 2", "four 3" }, log)
  end)
end)
