local uv = require "luv"
local barrier = require "barrier"

---The error that f makes a waiting callback get.
local function error_of(f, timeout)
  local b = barrier.new(2)
  local caught
  b:wait(timeout, function(err)
    caught = err
  end)
  f(b)
  uv.run()
  return caught, b
end

describe("an error", function()
  it("is a table with name, message, barrier and reason", function()
    local reason = {}
    local err, b = error_of(function(b)
      b:abort(reason)
    end)
    assert.are.equal("BrokenBarrierError", err.name)
    assert.are.equal("barrier aborted", err.message)
    assert.are.equal(b, err.barrier)
    assert.are.equal(reason, err.reason)
  end)

  it("has its class as metatable", function()
    assert.are.equal(barrier.BrokenBarrierError, getmetatable((error_of(function(b)
      b:reset()
    end))))
    assert.are.equal(barrier.TimeoutError, getmetatable((error_of(function() end, 0))))
    local caught
    local b = barrier.new(2)
    local co = coroutine.create(function()
      local waiting = coroutine.running()
      b:wait(function() end):close()
      caught = waiting
    end)
    coroutine.resume(co)
    assert.are.equal(co, caught)
  end)

  it("reads as name, message and reason", function()
    local function text(f, timeout)
      return tostring((error_of(f, timeout)))
    end
    assert.are.equal("BrokenBarrierError: barrier reset", text(function(b)
      b:reset()
    end))
    assert.are.equal("BrokenBarrierError: barrier aborted", text(function(b)
      b:abort()
    end))
    assert.are.equal("BrokenBarrierError: barrier aborted: disk full", text(function(b)
      b:abort("disk full")
    end))
    assert.are.equal("BrokenBarrierError: barrier aborted: false", text(function(b)
      b:abort(false)
    end))
    assert.are.equal("BrokenBarrierError: barrier aborted: object", text(function(b)
      b:abort(setmetatable({}, { __tostring = function()
        return "object"
      end }))
    end))
    assert.are.equal("TimeoutError: wait timed out", text(function() end, 0))
  end)

  it("is a table of its own for each waiter", function()
    local b, errors = barrier.new(3), {}
    for i = 1, 2 do
      b:wait(function(err)
        errors[i] = err
      end)
    end
    b:abort("why")
    uv.run()
    assert.are_not.equal(errors[1], errors[2])
    assert.are.same(errors[1], errors[2])
  end)

  it("has a reason only if it was given one", function()
    local err = error_of(function(b)
      b:abort()
    end)
    assert.is_nil(rawget(err, "reason"))
    err = error_of(function(b)
      b:abort("why")
      b:reset()
    end)
    assert.is_nil(err.reason)
    assert.are.equal("barrier reset", err.message)
  end)
end)

describe("the module", function()
  it("exports its classes, new and a version", function()
    assert.are.equal("string", type(barrier._VERSION))
    for _, name in ipairs { "BrokenBarrierError", "CancelledError", "TimeoutError" } do
      assert.are.equal("table", type(barrier[name]))
    end
    assert.are.equal("function", type(barrier.new))
  end)
end)
