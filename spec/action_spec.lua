local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local function teller(log, name)
  return function(err, position)
    support.add(log, name .. " " .. tostring(err or position))
  end
end

describe("the action", function()
  it("runs once for each trip, with the barrier, before anyone is let through", function()
    local log = {}
    local b
    b = barrier.new(2, { action = function(self)
      assert(self == b)
      support.add(log, "action " .. self.state .. " " .. self.n_waiting .. " " .. self.generation)
      assert(#self:waiters() == 2)
    end })
    for i = 1, 2 do
      support.co(function()
        for _ = 1, 2 do
          support.add(log, i .. " " .. b:wait())
        end
      end)
    end
    uv.run()
    assert.are.same({ "action filling 2 0", "2 1", "1 0", "action filling 2 1", "2 0", "1 1" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("runs in the last arrival: a coroutine, a callback, a blocked one", function()
    local runners = {}
    local b = barrier.new(2, { action = function()
      support.add(runners, coroutine.running() or "main")
    end })
    b:wait(function() end)
    local co = support.co(function()
      b:wait()
    end)
    assert.are.equal(co, runners[1])
    b:wait(function() end)
    b:wait(function() end)
    assert.are.equal(1, #runners)
    uv.run()
    assert.are.equal(2, #runners)
    assert.are.equal(2, b.generation)
  end)

  it("that raises breaks the barrier: its own error for the last arrival", function()
    local log, errors = {}, {}
    local thrown = { "thrown" }
    local b = barrier.new(3, { action = function()
      error(thrown)
    end })
    for i = 1, 3 do
      b:wait(function(err)
        errors[i] = err
        support.add(log, i)
      end)
    end
    assert.is_true(b.broken)
    uv.run()
    assert.are.equal(thrown, errors[3])
    for i = 1, 2 do
      assert.are.equal("BrokenBarrierError", errors[i].name)
      assert.are.equal(thrown, errors[i].reason)
    end
    assert.are.equal(0, b.generation)
  end)

  it("that raises in a coroutine raises there at once", function()
    local b = barrier.new(1, { action = function()
      error("mine", 0)
    end })
    local ok, err = coroutine.resume(coroutine.create(function()
      b:wait()
    end))
    assert.is_false(ok)
    assert.are.equal("mine", err)
    assert.is_true(b.broken)
  end)

  it("that raises for a blocked last arrival that is let in", function()
    local calls, log = 0, {}
    local b = barrier.new(2, { action = function()
      calls = calls + 1
      if calls == 2 then
        error("second", 0)
      end
    end })
    for i = 1, 4 do
      b:wait(teller(log, i .. ""))
    end
    uv.run()
    assert.are.same({
      "1 0",
      "2 1",
      "3 BrokenBarrierError: barrier aborted: second",
      "4 second",
    }, log)
    assert.are.equal(1, b.generation)
  end)

  it("that raises for a blocked coroutine", function()
    if not support.pcall_yields then
      pending("PUC Lua 5.1 cannot yield inside pcall")
      return
    end
    local calls, log = 0, {}
    local b = barrier.new(2, { action = function()
      calls = calls + 1
      if calls == 2 then
        error("second", 0)
      end
    end })
    for i = 1, 4 do
      support.party(b, i .. "", log)
    end
    uv.run()
    assert.are.same({
      "2 1",
      "1 0",
      "3 BrokenBarrierError: barrier aborted: second",
      "4 second",
    }, log)
  end)

  it("blocks who arrives meanwhile", function()
    local log, late = {}, nil
    local b
    b = barrier.new(2, { action = function(self)
      if not late then
        late = self:wait(teller(log, "late"))
        assert(self.n_waiting == 2)
      end
    end })
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    uv.run()
    assert.are.same({ "a 0", "b 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("that aborts or resets fails everybody, the last arrival too", function()
    for _, method in ipairs { "abort", "reset" } do
      local log = {}
      local b
      b = barrier.new(2, { action = function(self)
        self[method](self)
      end })
      b:wait(teller(log, "a"))
      local co = coroutine.create(function()
        b:wait()
      end)
      local ok, err = coroutine.resume(co)
      assert.is_false(ok)
      assert.are.equal("BrokenBarrierError", err.name)
      uv.run()
      assert.is_truthy(log[1]:find("^a BrokenBarrierError"))
      assert.are.equal(0, b.generation)
      b:reset()
      b:wait(teller(log, "c"))
      b:wait(teller(log, "d"))
      uv.run()
      assert.is_truthy(log[2]:find("BrokenBarrierError"))
      assert.is_truthy(log[3]:find("BrokenBarrierError"))
      assert.are.equal(3, #log)
    end
  end)

  it("that takes somebody out leaves the others waiting for one more", function()
    local log, calls, first = {}, 0, nil
    local b
    b = barrier.new(2, { action = function()
      calls = calls + 1
      first:close()
    end })
    first = b:wait(teller(log, "first"))
    b:wait(teller(log, "second"))
    assert.are.equal(1, b.n_waiting)
    assert.are.equal(0, b.generation)
    uv.run()
    b:wait(teller(log, "third"))
    uv.run()
    assert.are.same({ "second 0", "third 1" }, log)
    assert.are.equal(2, calls)
  end)

  it("that cancels the last arrival takes it out", function()
    local b, canceled
    b = barrier.new(2, { action = function(self)
      canceled = self:cancel(coroutine.running())
      assert(self.n_waiting == 1)
    end })
    b:wait(function() end)
    local ok, err = coroutine.resume(coroutine.create(function()
      b:wait()
    end))
    assert.is_true(canceled)
    assert.is_false(ok)
    assert.are.equal("CancelledError", err.name)
    assert.are.equal(1, b.n_waiting)
  end)

  it("may run the loop", function()
    local log = {}
    local b
    b = barrier.new(2, { action = function()
      uv.run("nowait")
      support.add(log, "action")
    end })
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    uv.run()
    assert.are.same({ "action", "a 0", "b 1" }, log)
  end)

  it("may not yield", function()
    local b = barrier.new(1, { action = function()
      coroutine.yield()
    end })
    local ok, err = coroutine.resume(coroutine.create(function()
      b:wait()
    end))
    assert.is_false(ok)
    assert.is_truthy(tostring(err):find("yield", 1, true))
    assert.is_true(b.broken)
  end)
end)

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
