local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local function teller(log, name)
  return function(err, position)
    support.add(log, name .. " " .. tostring(err or position))
  end
end

---How many handles the loop has.
local function handles()
  local n = 0
  uv.walk(function()
    n = n + 1
  end)
  return n
end

describe("a wait with a timeout", function()
  it("leaves with TimeoutError when it passes, and the others go on waiting", function()
    local b, log = barrier.new(3), {}
    b:wait(teller(log, "patient"))
    b:wait(5, teller(log, "hasty"))
    assert.are.equal(2, b.n_waiting)
    uv.run()
    assert.are.same({ "hasty TimeoutError: wait timed out" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("raises TimeoutError in a coroutine", function()
    if not support.pcall_yields then
      pending("PUC Lua 5.1 cannot yield inside pcall")
      return
    end
    local b, log = barrier.new(2), {}
    support.party(b, "a", log, 1)
    uv.run()
    assert.are.same({ "a TimeoutError: wait timed out" }, log)
    assert.are.equal(barrier.TimeoutError, getmetatable(support.last_error))
    assert.are.equal(b, support.last_error.barrier)
  end)

  it("of 0 leaves on the next turn", function()
    local b, log = barrier.new(2), {}
    b:wait(0, teller(log, "a"))
    assert.are.same({}, log)
    assert.are.equal(1, b.n_waiting)
    uv.run()
    assert.are.same({ "a TimeoutError: wait timed out" }, log)
  end)

  it("of 0 passes if the barrier trips before", function()
    local b, log = barrier.new(2), {}
    b:wait(0, teller(log, "a"))
    b:wait(0, teller(log, "b"))
    uv.run()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("that was released before it passes has passed", function()
    local b, log = barrier.new(2), {}
    b:wait(1, teller(log, "a"))
    b:wait(teller(log, "b"))
    local start = uv.hrtime()
    while uv.hrtime() - start < 3e6 do
      uv.update_time()
    end
    uv.run()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("no longer counts after a reset or an abort", function()
    for _, method in ipairs { "reset", "abort" } do
      local b, log = barrier.new(2), {}
      b:wait(0, teller(log, "a"))
      b[method](b)
      uv.run()
      assert.is_truthy(log[1]:find("BrokenBarrierError", 1, true))
      assert.are.equal(1, #log)
    end
  end)

  it("expires while blocked", function()
    local b, log = barrier.new(2), {}
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    b:wait(0, teller(log, "blocked"))
    uv.run()
    assert.are.same({ "blocked TimeoutError: wait timed out", "a 0", "b 1" }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it("goes on counting after it was let in", function()
    local b, log = barrier.new(2), {}
    b:wait(teller(log, "a"))
    b:wait(teller(log, "b"))
    b:wait(50, teller(log, "blocked"))
    uv.run()
    assert.are.same({ "a 0", "b 1", "blocked TimeoutError: wait timed out" }, log)
  end)

  it("expires by time, and those of the same time in order of arrival", function()
    local b, log = barrier.new(20), {}
    for i, timeout in ipairs { 9, 3, 6, 3, 0, 9, 0, 6, 3 } do
      b:wait(timeout, teller(log, i .. ""))
    end
    uv.run()
    local order = table.concat(log, ","):gsub(" TimeoutError: wait timed out", "")
    assert.are.equal("5,7,2,4,9,3,8,1,6", order)
  end)

  it("expires in order among very many that come and go", function()
    local b, last, expired = barrier.new(2000), -1, 0
    local waiters = {}
    for i = 1, 1000 do
      local timeout = (i * 7919) % 20
      waiters[i] = b:wait(timeout, function()
        assert(timeout >= last)
        last = timeout
        expired = expired + 1
      end)
    end
    for i = 1, 1000, 3 do
      waiters[i]:close()
    end
    uv.run()
    assert.are.equal(666, expired)
  end)

  it("may be very long", function()
    local b, log = barrier.new(2), {}
    b:wait(2 ^ 53, teller(log, "a"))
    b:wait(teller(log, "b"))
    uv.run()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("leaves no handle behind", function()
    local b = barrier.new(2)
    b:wait(function() end)
    b:wait(function() end)
    uv.run()
    local before = handles()
    for _ = 1, 50 do
      b:wait(1000000, function() end)
      b:wait(1000000, function()
        assert(handles() == before)
      end)
      uv.run()
    end
    b:wait(1000000, function() end):close()
    assert.is_false(uv.loop_alive())
    b:wait(0, function() end)
    uv.run()
    assert.are.equal(before, handles())
    assert.is_false(uv.loop_alive())
  end)

  it("that does not have to suspend leaves the loop alone", function()
    local b = barrier.new(1)
    support.co(function()
      b:wait(1000000)
    end)
    assert.is_false(uv.loop_alive())
    b:abort()
    coroutine.resume(coroutine.create(function()
      b:wait(1000000)
    end))
    assert.is_false(uv.loop_alive())
    pcall(b.wait, b, 1000000)
    assert.is_false(uv.loop_alive())
  end)

  it("keeps its barrier alive until it passes", function()
    local log = {}
    barrier.new(2):wait(3, teller(log, "a"))
    for _ = 1, 3 do
      collectgarbage()
    end
    uv.run()
    assert.are.same({ "a TimeoutError: wait timed out" }, log)
    local seen = setmetatable({}, { __mode = "v" })
    seen[1] = barrier.new(2)
    seen[1]:wait(0, function() end)
    uv.run()
    for _ = 1, 3 do
      collectgarbage()
    end
    assert.is_nil(seen[1])
  end)
end)
