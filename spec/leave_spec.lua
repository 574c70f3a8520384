local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

---A coroutine that waits and notes its position or error; on a Lua whose pcall cannot
---yield, an error ends it, uncaught.
local function party(b, log, name)
  return support.party(b, name, log)
end

local function no_pcall()
  if not support.pcall_yields then
    pending("PUC Lua 5.1 cannot yield inside pcall")
    return true
  end
end

describe("cancel", function()
  it("takes a waiting coroutine out at once, and tells it on the next turn", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(3), {}
    local a = party(b, log, "a")
    party(b, log, "b")
    assert.is_true(b:cancel(a))
    assert.are.equal(1, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.are.same({}, log)
    assert.is_false(b:cancel(a))
    uv.run()
    assert.are.same({ "a CancelledError: wait cancelled" }, log)
    assert.are.equal(barrier.CancelledError, getmetatable(support.last_error))
    assert.are.equal(b, support.last_error.barrier)
    assert.is_false(b:cancel(a))
  end)

  it("leaves the others' positions without gaps", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(3), {}
    party(b, log, "a")
    local x = party(b, log, "x")
    b:cancel(x)
    party(b, log, "b")
    party(b, log, "c")
    uv.run()
    assert.are.same({ "c 2", "x CancelledError: wait cancelled", "a 0", "b 1" }, log)
  end)

  it("takes a blocked coroutine out", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(2), {}
    party(b, log, "a")
    party(b, log, "b")
    local x = party(b, log, "x")
    party(b, log, "y")
    assert.is_true(b:cancel(x))
    uv.run()
    assert.are.same({ "b 1", "x CancelledError: wait cancelled", "a 0" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("takes one out who is released but not resumed; the others keep theirs", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(4), {}
    party(b, log, "a")
    local x = party(b, log, "x")
    party(b, log, "b")
    party(b, log, "c")
    assert.is_true(b:cancel(x))
    assert.are.equal("draining", b.state)
    uv.run()
    assert.are.same({ "c 3", "x CancelledError: wait cancelled", "a 0", "b 2" }, log)
  end)

  it("keeps the positions when several released neighbours go", function()
    local b, positions, waiters = barrier.new(6), {}, {}
    for i = 1, 6 do
      waiters[i] = b:wait(function(_, position)
        positions[i] = position
      end)
    end
    waiters[3]:close()
    waiters[2]:close()
    waiters[4]:close()
    uv.run()
    assert.are.same({ [1] = 0, [5] = 4, [6] = 5 }, positions)
  end)

  it("is false for a coroutine that is not in this barrier", function()
    if no_pcall() then
      return
    end
    local b, other, log = barrier.new(2), barrier.new(2), {}
    local a = party(b, log, "a")
    assert.is_false(other:cancel(a))
    assert.is_false(b:cancel(coroutine.create(print)))
    assert.are.equal(1, b.n_waiting)
    b:cancel(a)
    uv.run()
  end)

  it("is served before those who pass, in order of leaving", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(3), {}
    local x = party(b, log, "x")
    local y = party(b, log, "y")
    b:cancel(y)
    b:cancel(x)
    for _, name in ipairs { "a", "b", "c" } do
      party(b, log, name)
    end
    uv.run()
    assert.are.same({
      "c 2",
      "y CancelledError: wait cancelled",
      "x CancelledError: wait cancelled",
      "a 0",
      "b 1",
    }, log)
  end)
end)

describe("coroutine.close of a waiting coroutine", function()
  if not coroutine.close then
    pending("this Lua has no coroutine.close")
    return
  end

  it("is noticed at once, and no trip counts the dead one", function()
    local b, log = barrier.new(2), {}
    local a = party(b, log, "a")
    assert.is_true(coroutine.close(a))
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(0, #b:waiters())
    party(b, log, "b")
    assert.are.equal("filling", b.state)
    party(b, log, "c")
    uv.run()
    assert.are.same({ "c 1", "b 0" }, log)
  end)

  it("is noticed through an outer coroutine's to-be-closed variable", function()
    local b = barrier.new(2)
    local outer = load [[
      local b = ...
      local inner = coroutine.create(function() b:wait() end)
      local guard <close> = setmetatable({}, { __close = function() coroutine.close(inner) end })
      coroutine.resume(inner)
      coroutine.yield()
    ]]
    local waiting = support.co(outer, b)
    assert.are.equal(1, b.n_waiting)
    coroutine.close(waiting)
    assert.are.equal(0, b.n_waiting)
  end)

  it("works while blocked, released and cancelled", function()
    local b, log = barrier.new(3), {}
    local a = party(b, log, "a")
    local x = party(b, log, "x")
    party(b, log, "c")
    local blocked = party(b, log, "blocked")
    coroutine.close(a)
    b:cancel(x)
    coroutine.close(x)
    coroutine.close(blocked)
    assert.are.equal("filling", b.state)
    uv.run()
    assert.are.same({ "c 2" }, log)
    assert.are.equal(0, #b:waiters())
  end)

  it("gives the wait's timeout back", function()
    local b = barrier.new(2)
    local a = support.co(function()
      b:wait(1000000)
    end)
    assert.is_true(uv.loop_alive())
    coroutine.close(a)
    assert.is_false(uv.loop_alive())
  end)

  it("among very many is as good as among few", function()
    local b, waiting = barrier.new(30001), {}
    for i = 1, 30000 do
      waiting[i] = support.co(function()
        b:wait()
      end)
    end
    for i = 1, 30000, 3 do
      coroutine.close(waiting[i])
    end
    assert.are.equal(20000, b.n_waiting)
    assert.are.equal(20000, #b:waiters())
  end)
end)

describe("a waiting coroutine that a stranger resumes", function()
  it("leaves the barrier with CancelledError, whatever it was resumed with", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(2), {}
    local a = party(b, log, "a")
    coroutine.resume(a, 1, 2, 3)
    assert.are.same({ "a CancelledError: wait cancelled" }, log)
    assert.are.equal(0, b.n_waiting)
    party(b, log, "b")
    party(b, log, "c")
    uv.run()
    assert.are.same({ "a CancelledError: wait cancelled", "c 1", "b 0" }, log)
  end)

  it("may be released already, blocked or cancelled", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(3), {}
    local a = party(b, log, "a")
    local x = party(b, log, "x")
    party(b, log, "c")
    local blocked = party(b, log, "blocked")
    coroutine.resume(a)
    b:cancel(x)
    coroutine.resume(x, "value")
    coroutine.resume(blocked)
    assert.are.same({
      "c 2",
      "a CancelledError: wait cancelled",
      "x CancelledError: wait cancelled",
      "blocked CancelledError: wait cancelled",
    }, log)
    uv.run()
    assert.are.equal(4, #log)
    assert.are.equal("filling", b.state)
  end)

  it("may wait again at once", function()
    if no_pcall() then
      return
    end
    local b, log = barrier.new(2), {}
    local a = support.co(function()
      pcall(b.wait, b)
      support.add(log, b:wait())
    end)
    coroutine.resume(a)
    assert.are.equal(1, b.n_waiting)
    b:wait(function() end)
    uv.run()
    assert.are.same({ 0 }, log)
  end)
end)

describe("waiters", function()
  it("lists who is in the barrier, in order of arrival, the blocked last", function()
    local b = barrier.new(3)
    local list = {}
    for i = 1, 3 do
      list[i] = b:wait(function() end)
    end
    list[4] = support.co(function()
      b:wait()
    end)
    list[5] = b:wait(function() end)
    assert.are.same(list, b:waiters())
    list[2]:close()
    table.remove(list, 2)
    assert.are.same(list, b:waiters())
    assert.are_not.equal(b:waiters(), b:waiters())
    uv.run()
    assert.are.same({ list[3], list[4] }, b:waiters())
  end)

  it("keeps who has to leave but has not resumed yet at its place", function()
    if no_pcall() then
      return
    end
    local b, log, list = barrier.new(5), {}, {}
    for i = 1, 3 do
      list[i] = party(b, log, "p" .. i)
    end
    b:cancel(list[2])
    assert.are.same(list, b:waiters())
    b:abort()
    assert.are.same(list, b:waiters())
    uv.run()
    assert.are.same({}, b:waiters())
  end)
end)
