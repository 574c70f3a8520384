local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co = support.co

local function collect()
  for _ = 1, 4 do
    collectgarbage()
  end
end

---A table that shows whether its one value is still there.
local function watch(value)
  return setmetatable({ value }, { __mode = "v" })
end

describe("a barrier that nobody can reach", function()
  it("is collected with the coroutines that wait in it", function()
    local seen
    do
      local b = barrier.new(2)
      seen = watch(co(function()
        b:wait()
      end))
    end
    collect()
    assert.is_nil(seen[1])
  end)

  it("is collected with its Waiters", function()
    local seen = watch(barrier.new(2):wait(function() end))
    collect()
    assert.is_nil(seen[1])
  end)

  it("is collected when only its waiting coroutines know it", function()
    local seen
    do
      local b = barrier.new(3)
      for _ = 1, 2 do
        co(function()
          b:wait()
          return b
        end)
      end
      seen = watch(b)
    end
    collect()
    assert.is_nil(seen[1])
  end)

  it("is kept until it has drained", function()
    local passed = 0
    do
      local b = barrier.new(2)
      for _ = 1, 2 do
        co(function()
          b:wait()
          passed = passed + 1
        end)
      end
    end
    collect()
    assert.are.equal(1, passed)
    uv.run()
    assert.are.equal(2, passed)
  end)
end)

describe("a waiting coroutine", function()
  it("is kept by its barrier", function()
    local b = barrier.new(2)
    local passed = false
    co(function()
      b:wait()
      passed = true
    end)
    collect()
    b:wait(function() end)
    uv.run()
    assert.is_true(passed)
  end)

  it("is let go once it has left", function()
    local b = barrier.new(2)
    local seen = watch(co(function()
      b:wait()
    end))
    b:wait(function() end)
    uv.run()
    collect()
    assert.is_nil(seen[1])
    assert.are.equal(0, b.n_waiting)
  end)

  it("is let go when it is cancelled or resumed by a stranger", function()
    local b = barrier.new(3)
    local seen = setmetatable({}, { __mode = "v" })
    for i = 1, 2 do
      seen[i] = coroutine.create(function()
        b:wait()
      end)
      coroutine.resume(seen[i])
    end
    coroutine.resume(seen[1])
    coroutine.resume(seen[2])
    collect()
    assert.is_nil(seen[1])
    assert.is_nil(seen[2])
  end)
end)

describe("an idle barrier", function()
  it("holds no active handle", function()
    local b = barrier.new(2)
    b:wait(function() end)
    assert.is_false(uv.loop_alive())
    b:wait(function() end)
    assert.is_true(uv.loop_alive())
    uv.run()
    assert.is_false(uv.loop_alive())
    b:wait(function() end)
    assert.is_false(uv.loop_alive())
  end)
end)
