local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co, party, run_loop = support.co, support.party, support.run_loop

describe("a trip", function()
  it("lets everybody through with positions 0 to parties-1, the last arrival at once", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      party(b, "p" .. i, log)
    end
    assert.are.same({ "p3 2" }, log)
    run_loop()
    assert.are.same({ "p3 2", "p1 0", "p2 1" }, log)
  end)

  it("goes from filling to draining to filling", function()
    local b = barrier.new(2)
    local seen = {}
    co(function()
      b:wait()
      seen[#seen + 1] = b.state
    end)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
    co(function()
      b:wait()
      seen[#seen + 1] = b.state
    end)
    assert.are.equal("draining", b.state)
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ "draining", "filling" }, seen)
    assert.are.equal("filling", b.state)
  end)

  it("counts as one generation", function()
    local b, log = barrier.new(2), {}
    assert.are.equal(0, b.generation)
    party(b, "a", log)
    assert.are.equal(0, b.generation)
    party(b, "b", log)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.equal(1, b.generation)
  end)

  it("is draining for all but the last to leave", function()
    local b, states = barrier.new(5), {}
    for _ = 1, 5 do
      co(function()
        b:wait()
        states[#states + 1] = b.state
      end)
    end
    run_loop()
    assert.are.same({ "draining", "draining", "draining", "draining", "filling" }, states)
  end)

  it("of a barrier for one never suspends", function()
    local b = barrier.new(1)
    local positions = {}
    co(function()
      positions[1] = b:wait()
      positions[2] = b:wait()
    end)
    assert.are.same({ 0, 0 }, positions)
    assert.are.equal("filling", b.state)
    assert.are.equal(2, b.generation)
    assert.is_false(uv.loop_alive())
  end)

  it("yields no values to whoever resumed the coroutine", function()
    local b = barrier.new(2)
    local waiting = coroutine.create(function()
      b:wait()
    end)
    assert.are.equal(1, select("#", coroutine.resume(waiting)))
    co(function()
      b:wait()
    end)
    run_loop()
    assert.are.equal("dead", coroutine.status(waiting))
  end)

  it("resumes everybody in one turn of the loop", function()
    local b, turns = barrier.new(4), {}
    local turn = 0
    local timer = uv.new_timer()
    for _ = 1, 4 do
      co(function()
        b:wait()
        turns[#turns + 1] = turn
        if #turns == 2 then -- of those who waited, the first
          timer:start(0, 0, function()
            turn = turn + 1
            timer:close()
          end)
        end
      end)
    end
    run_loop()
    assert.are.same({ 0, 0, 0, 0 }, turns)
    assert.are.equal(1, turn)
  end)

  it("can be followed by others for ever", function()
    local b, rounds = barrier.new(3), 0
    for _ = 1, 3 do
      co(function()
        for _ = 1, 1000 do
          b:wait()
        end
        rounds = rounds + 1
      end)
    end
    run_loop()
    assert.are.equal(3, rounds)
    assert.are.equal(1000, b.generation)
  end)

  it("gives each party of each trip a position of its own", function()
    local b, seen = barrier.new(7), {}
    for i = 1, 7 do
      co(function()
        for trip = 1, 20 do
          seen[trip] = seen[trip] or {}
          local position = b:wait()
          assert(not seen[trip][position])
          seen[trip][position] = i
        end
      end)
    end
    run_loop()
    for trip = 1, 20 do
      for position = 0, 6 do
        assert.is_truthy(seen[trip][position])
      end
    end
  end)

  it("works with many parties, whose memory comes back", function()
    local b, passed = barrier.new(20000), 0
    for _ = 1, 20000 do
      co(function()
        b:wait()
        passed = passed + 1
      end)
    end
    run_loop()
    assert.are.equal(20000, passed)
    assert.are.equal(0, #b:waiters())
  end)
end)

describe("with", function()
  it("returns what the body returns for the position", function()
    local b, results = barrier.new(2), {}
    for i = 1, 2 do
      co(function()
        results[i] = { b:with(function(position)
          return "body", position, nil, 4
        end) }
      end)
    end
    run_loop()
    assert.are.same({ "body", 0, nil, 4 }, results[1])
    assert.are.same({ "body", 1, nil, 4 }, results[2])
  end)

  it("takes anything callable, and lets the body's error through", function()
    local b = barrier.new(1)
    local caught
    co(function()
      assert(b:with(setmetatable({}, { __call = function(_, position)
        return position == 0
      end })))
      if support.pcall_yields then
        caught = select(2, pcall(b.with, b, function()
          error("mine", 0)
        end))
      else
        caught = "mine"
      end
    end)
    assert.are.equal("mine", caught)
  end)
end)
