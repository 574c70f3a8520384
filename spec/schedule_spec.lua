local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local function teller(log, name)
  return function(err, position)
    support.add(log, name .. " " .. tostring(err or position))
  end
end


describe("the option schedule", function()
  it("says where waiters resume, once for each turn", function()
    local log, drains = {}, {}
    local b = barrier.new(2, { schedule = function(drain)
      support.add(drains, drain)
    end })
    for i = 1, 4 do
      b:wait(teller(log, i .. ""))
    end
    uv.run()
    assert.are.equal(1, #drains)
    assert.are.same({}, log)
    drains[1]()
    assert.are.same({ "1 0", "2 1" }, log)
    uv.run()
    assert.are.equal(2, #drains)
    drains[2]()
    assert.are.same({ "1 0", "2 1", "3 0", "4 1" }, log)
  end)

  it("may call drain twice, which does no harm", function()
    local log, drains = {}, {}
    local b = barrier.new(1, { schedule = function(drain)
      support.add(drains, drain)
    end })
    b:wait(teller(log, "a"))
    uv.run()
    drains[1]()
    b:wait(teller(log, "b"))
    drains[1]()
    assert.are.same({ "a 0" }, log)
    uv.run()
    drains[2]()
    drains[2]()
    assert.are.same({ "a 0", "b 0" }, log)
  end)

  it("may call drain at once", function()
    local log = {}
    local b = barrier.new(1, { schedule = function(drain)
      drain()
      support.add(log, "drained")
    end })
    b:wait(teller(log, "a"))
    uv.run()
    assert.are.same({ "a 0", "drained" }, log)
  end)

  it("that never calls drain leaves the waiters waiting and collectable", function()
    local log = {}
    local seen = setmetatable({}, { __mode = "v" })
    do
      local b = barrier.new(1, { schedule = function() end })
      b:wait(teller(log, "a"))
      seen[1] = b
    end
    uv.run()
    for _ = 1, 4 do
      collectgarbage()
    end
    assert.are.same({}, log)
    assert.is_nil(seen[1])
  end)

  it("that raises is reported, and the waiters resume all the same", function()
    local result = support.chunk [[
      local b = barrier.new(1, { schedule = function() error "in schedule" end })
      b:wait(function(_, position) print("passed", position) end)
      uv.run()
    ]]
    assert.are.equal("passed\t0\n", result.out)
    assert.is_truthy(result.err:find("in schedule", 1, true))
  end)

  it("may be false", function()
    local log = {}
    local b = barrier.new(1, { schedule = false })
    b:wait(teller(log, "a"))
    uv.run()
    assert.are.same({ "a 0" }, log)
  end)

  it("lets a nested loop serve the others", function()
    local log, queue = {}, {}
    local b = barrier.new(3, { schedule = function(drain)
      support.add(queue, drain)
    end })
    local function turn()
      uv.run("nowait")
      local drain = table.remove(queue, 1)
      if drain then
        drain()
      end
    end
    for i = 1, 3 do
      b:wait(function()
        support.add(log, "in " .. i)
        while #log < 3 do
          turn()
        end
        support.add(log, "out " .. i)
      end)
    end
    turn()
    assert.are.same({ "in 1", "in 2", "in 3", "out 3", "out 2", "out 1" }, log)
  end)
end)
