local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local function teller(log, name)
  return function(...)
    local err, position = ...
    support.add(log, name .. " " .. tostring(err or position) .. " " .. select("#", ...))
  end
end

describe("wait with a callback", function()
  it("works outside coroutines and returns a Waiter", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(teller(log, "a"))
    assert.are.equal("userdata", type(waiter))
    assert.is_truthy(tostring(waiter):find("barrier.Waiter", 1, true))
    b:wait(nil, teller(log, "b"))
    assert.are.equal("draining", b.state)
    uv.run()
    assert.are.same({ "a 0 2", "b 1 2" }, log)
  end)

  it("is called back exactly once, from the loop, never before wait has returned", function()
    local b, log = barrier.new(1), {}
    b:wait(teller(log, "only"))
    assert.are.same({}, log)
    assert.are.equal("draining", b.state)
    uv.run()
    uv.run()
    assert.are.same({ "only 0 2" }, log)
    b:abort("why")
    b:wait(teller(log, "broken"))
    assert.are.equal(1, #log)
    uv.run()
    assert.are.equal("broken BrokenBarrierError: barrier aborted: why 1", log[2])
  end)

  it("shares one order of arrival with coroutines", function()
    local b, log = barrier.new(5), {}
    local function party(name)
      support.co(function()
        support.add(log, name .. " " .. b:wait())
      end)
    end
    b:wait(teller(log, "a"))
    party "b"
    b:wait(teller(log, "c"))
    party "d"
    b:wait(teller(log, "e"))
    uv.run()
    assert.are.same({ "a 0 2", "b 1", "c 2 2", "d 3", "e 4 2" }, log)
  end)

  it("takes anything callable", function()
    local b, log = barrier.new(1), {}
    b:wait(setmetatable({}, { __call = function(_, err, position)
      support.add(log, tostring(err) .. " " .. position)
    end }))
    uv.run()
    assert.are.same({ "nil 0" }, log)
  end)

  it("may wait again from the callback", function()
    local b, trips = barrier.new(2), 0
    local function again(err)
      trips = trips + 1
      if not err and trips < 100 then
        b:wait(again)
      end
    end
    b:wait(again)
    b:wait(again)
    uv.run()
    assert.are.equal(100, trips)
  end)
end)

describe("wait with a callback in a coroutine that has just passed", function()
  it("returns a Waiter all the same", function()
    local b, waiter = barrier.new(2), nil
    support.co(function()
      b:wait()
      waiter = b:wait(function() end)
    end)
    b:wait(function() end)
    uv.run()
    assert.are.equal("userdata", type(waiter))
    assert.are.same({ waiter }, b:waiters())
  end)
end)

describe("a Waiter", function()
  it("leaves the barrier when it is closed, and is never called back", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(teller(log, "a"))
    waiter:close()
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
    b:wait(teller(log, "b"))
    b:wait(teller(log, "c"))
    uv.run()
    assert.are.same({ "b 0 2", "c 1 2" }, log)
  end)

  it("calls each on_close from the loop, in order", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(teller(log, "a"))
    for i = 1, 3 do
      waiter:close(function(...)
        support.add(log, i .. " " .. select("#", ...))
      end)
    end
    waiter:close()
    assert.are.same({}, log)
    uv.run()
    assert.are.same({ "1 0", "2 0", "3 0" }, log)
  end)

  it("may be closed after its callback, and in it", function()
    local b, log = barrier.new(1), {}
    local waiter
    waiter = b:wait(function()
      support.add(log, "called")
      waiter:close(function()
        support.add(log, "closed in it")
      end)
    end)
    uv.run()
    waiter:close(function()
      support.add(log, "closed after it")
    end)
    waiter:close()
    uv.run()
    assert.are.same({ "called", "closed in it", "closed after it" }, log)
  end)

  it("may be closed when it is released, blocked, failed or timed out", function()
    local b, log = barrier.new(2), {}
    local released = b:wait(teller(log, "released"))
    b:wait(teller(log, "b"))
    local blocked = b:wait(teller(log, "blocked"))
    released:close()
    blocked:close()
    b:abort()
    local failed = b:wait(teller(log, "failed"))
    failed:close()
    uv.run()
    assert.are.same({ "b BrokenBarrierError: barrier aborted 1" }, log)
    local other = barrier.new(3)
    local second
    other:wait(0, function()
      second:close()
    end)
    second = other:wait(0, teller(log, "second"))
    uv.run()
    assert.are.equal(1, #log)
  end)

  it("keeps an error in on_close from stopping others", function()
    local result = support.chunk [[
      local b = barrier.new(2)
      local waiter = b:wait(print)
      waiter:close(function() error "in on_close" end)
      waiter:close(function() print "next" end)
      uv.run()
    ]]
    assert.are.equal("next\n", result.out)
    assert.is_truthy(result.err:find("in on_close", 1, true))
  end)
end)
