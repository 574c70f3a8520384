local barrier = require "barrier"
local support = require "spec.support"

local co, run_loop = support.co, support.run_loop

describe("who arrives while the barrier drains", function()
  it("is blocked, not counted, and let in after the last has left", function()
    local b, log = barrier.new(2), {}
    local function body(name)
      co(function()
        support.add(log, name .. " " .. b:wait())
      end)
    end
    body "a"
    body "b"
    body "c"
    assert.are.equal("draining", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(2, #b:waiters())
    run_loop()
    assert.are.same({ "b 1", "a 0" }, log)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
    body "d"
    run_loop()
    assert.are.same({ "b 1", "a 0", "d 1", "c 0" }, log)
  end)

  it("comes in first come first served, a trip a turn", function()
    local b, log = barrier.new(2), {}
    for i = 1, 9 do
      co(function()
        local position = b:wait()
        log[#log + 1] = i .. ":" .. position .. ":" .. b.generation
      end)
    end
    run_loop()
    assert.are.same({ "2:1:1", "1:0:1", "3:0:2", "4:1:2", "5:0:3", "6:1:3", "7:0:4", "8:1:4" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("comes before the last leaver's own next wait", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      log[#log + 1] = b.state .. " " .. b.n_waiting
      support.add(log, "a again " .. b:wait())
    end)
    co(function()
      b:wait()
      support.add(log, "b again " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "filling 0", "b again 0", "a again 1" }, log)
  end)

  it("is spared by a reset of the last leaver", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      b:reset()
      support.add(log, "a again " .. b:wait())
    end)
    co(function()
      b:wait()
      support.add(log, "b again " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "b again 0", "a again 1" }, log)
  end)

  it("is let in on the next turn if the last one inside goes by cancel", function()
    local b, log = barrier.new(2), {}
    local first = b:wait(function() end)
    co(function()
      b:wait()
    end)
    co(function()
      support.add(log, "c " .. b:wait())
    end)
    assert.are.equal("draining", b.state)
    first:close()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.equal(1, b.n_waiting)
    b:wait(function() end)
    run_loop()
    assert.are.same({ "c 0" }, log)
  end)
end)
