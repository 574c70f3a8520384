local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local keeping, party, patient = support.keeping, support.party, support.patient
local it_catches = support.it_catches

local function nobody() end

---A coroutine that waits and catches nothing.
local function waiting(b)
  return co(function()
    b:wait()
  end)
end

---n parties of both styles, the first of them a coroutine.
local function parties(b, n)
  local list = {}
  for i = 1, n do
    list[i] = i % 2 == 1 and waiting(b) or b:wait(nobody)
  end
  return list
end

---Compares the elements by identity.
local function assert_waiters(expected, b)
  local list = b:waiters()
  assert.are.equal(#expected, #list)
  for i = 1, #expected do
    assert.is_true(rawequal(expected[i], list[i]), "waiter " .. i)
  end
end

describe("the array of waiters", function()
  it("is empty when nobody is in the barrier", function()
    local b = barrier.new(2)
    assert.are.same({}, b:waiters())
    b:reset()
    assert.are.same({}, b:waiters())
    b:abort()
    assert.are.same({}, b:waiters())
  end)

  it("is a new table each time, which the caller owns", function()
    local b = barrier.new(3)
    local list = parties(b, 2)
    local first = b:waiters()
    assert.are_not.equal(first, b:waiters())
    first[1], first[2], first[3] = nil, "changed", "added"
    assert_waiters(list, b)
    assert.are.equal(2, b.n_waiting)
    b:wait(nobody)
    run_loop()
    assert.are.same({ nil, "changed", "added" }, first)
  end)

  it("holds coroutines and Waiters in order of arrival", function()
    local b = barrier.new(10)
    assert_waiters(parties(b, 9), b)
  end)

  it("has the blocked last, in order of arrival as well", function()
    local b = barrier.new(4)
    local list = {}
    for i = 1, 4 do
      list[i] = b:wait(nobody)
    end
    for i = 5, 11 do
      list[i] = i % 2 == 1 and waiting(b) or b:wait(nobody)
    end
    assert.are.equal("draining", b.state)
    assert_waiters(list, b)
  end)

  it("has waiters that are let in before later arrivals", function()
    local b = barrier.new(3)
    parties(b, 3)
    local list = { b:wait(nobody), waiting(b) }
    assert.are.equal(4, #b:waiters()) -- the third of the parties has passed
    run_loop()
    assert_waiters(list, b)
    assert.are.equal(2, b.n_waiting)
    add(list, b:wait(nobody))
    assert_waiters(list, b)
  end)

  it("has the Waiter of a coroutine that waits with a callback, not the coroutine", function()
    local b, waiter = barrier.new(2), nil
    co(function()
      waiter = b:wait(nobody)
      coroutine.yield()
    end)
    assert_waiters({ waiter }, b)
  end)

  it("has a coroutine that arrives again once, at its new place", function()
    local b = barrier.new(3)
    local again = co(function()
      b:wait()
      b:wait()
    end)
    parties(b, 2)
    local blocked = b:wait(nobody)
    run_loop()
    assert_waiters({ blocked, again }, b)
  end)

  it("is in order whichever party has left", function()
    local b, all, left = barrier.new(5000), {}, {}
    for i = 1, 3000 do
      all[i] = b:wait(nobody)
    end
    for i = 1, 3000 do
      -- A new arrival now reuses the memory of one that has left.
      if i % 3 == 0 then
        all[i]:close()
        add(all, b:wait(nobody))
      end
    end
    for i = 1, 4000 do
      if i > 3000 or i % 3 ~= 0 then
        add(left, all[i])
      end
    end
    assert_waiters(left, b)
  end)

  it("shows where each coroutine is waiting", function()
    local b = barrier.new(2)
    local function stuck()
      b:wait()
    end
    co(function()
      stuck()
    end)
    local text = debug.traceback(b:waiters()[1])
    assert.is_truthy(text:find "waiters_spec.lua:%d+: in %a* ?.?stuck"
      or text:find("in upvalue 'stuck'", 1, true), text)
  end)

  it("is available in a callback, in a coroutine, and while the barrier drains", function()
    local b, lists = barrier.new(2), {}
    local other = b:wait(function()
      add(lists, b:waiters())
    end)
    local second = b:wait(nobody)
    co(function()
      add(lists, b:waiters())
    end)
    run_loop()
    assert.are.same({ { other, second }, { second } }, lists)
  end)
end)

describe("the array of waiters has parties", function()
  it("that have yet to resume after a trip, a reset or an abort", function()
    for _, how in ipairs { "wait", "reset", "abort" } do
      local b, drains = keeping(4)
      local list = {}
      for i = 1, 3 do
        list[i] = b:wait(nobody)
      end
      if how == "wait" then
        add(list, b:wait(nobody))
      else
        b[how](b)
      end
      assert_waiters(list, b)
      run_loop()
      assert_waiters(list, b)
      drains[1]()
      assert_waiters({}, b)
    end
  end)

  it("that leave later in the same turn, and none that is leaving or has left", function()
    for _, how in ipairs { "wait", "reset", "abort" } do
      local b, seen, list = barrier.new(4), {}, {}
      for i = 1, 3 do
        list[i] = b:wait(function()
          assert_waiters(i < 3 and { list[i + 1], list[i + 2] } or {}, b)
          add(seen, i)
        end)
      end
      if how == "wait" then
        waiting(b) -- has passed
      else
        b[how](b)
      end
      assert_waiters(list, b)
      run_loop()
      assert.are.same({ 1, 2, 3 }, seen)
    end
  end)

  it("that leave later, not a coroutine that has just resumed", function()
    local b, list, seen = barrier.new(4), {}, 0
    for i = 1, 3 do
      list[i] = co(function()
        b:wait()
        assert_waiters({ list[i + 1], list[i + 2] }, b)
        seen = seen + 1
      end)
    end
    waiting(b)
    run_loop()
    assert.are.equal(3, seen)
  end)

  it("that are blocked, while the others leave", function()
    local b, counts = barrier.new(2), {}
    for _ = 1, 2 do
      b:wait(function()
        add(counts, #b:waiters())
      end)
    end
    local blocked = b:wait(nobody)
    run_loop()
    assert.are.same({ 2, 1 }, counts)
    assert_waiters({ blocked }, b)
  end)

  it_catches("that are cancelled, at their place, until they resume", function()
    local b, list = barrier.new(5), {}
    for i = 1, 3 do
      list[i] = support.party(b, "p" .. i, {})
    end
    b:cancel(list[2])
    assert.are.equal(2, b.n_waiting)
    assert_waiters(list, b)
    b:cancel(list[1])
    add(list, b:wait(nobody))
    assert_waiters(list, b)
    run_loop()
    assert_waiters({ list[3], list[4] }, b)
  end)

  it_catches("that are cancelled while blocked, or after a trip", function()
    local b, list = barrier.new(3), {}
    for i = 1, 2 do
      list[i] = support.party(b, "p" .. i, {})
    end
    support.party(b, "last", {})
    list[3] = b:wait(nobody)
    list[4] = support.party(b, "blocked", {})
    list[5] = b:wait(nobody)
    b:cancel(list[4])
    b:cancel(list[1])
    assert_waiters(list, b)
    run_loop()
    assert_waiters({ list[3], list[5] }, b)
  end)

  it("that have timed out, until they resume", function()
    local b, drains = keeping(4)
    local list = { b:wait(nobody), b:wait(0, nobody), waiting(b) }
    run_loop()
    assert.are.equal(2, b.n_waiting)
    assert_waiters(list, b)
    drains[1]()
    assert_waiters({ list[1], list[3] }, b)
  end)

  it_catches("that a stranger has resumed, at their place, until their turn", function()
    local b, list = barrier.new(5), {}
    for i = 1, 4 do
      list[i] = party(b, "p" .. i, {})
    end
    coroutine.resume(list[1])
    coroutine.resume(list[3])
    assert_waiters(list, b)
    b:abort()
    coroutine.resume(list[4])
    assert_waiters(list, b)
    run_loop()
    assert_waiters({}, b)
  end)
end)

describe("the array of waiters has no party", function()
  it("whose Waiter is closed, even if its on_close has yet to be called", function()
    local b, closed = barrier.new(4), 0
    local list = parties(b, 3)
    list[2]:close(function()
      closed = closed + 1
    end)
    assert_waiters({ list[1], list[3] }, b)
    run_loop()
    assert.are.equal(1, closed)
    assert_waiters({ list[1], list[3] }, b)
  end)

  it("that came to a broken barrier, though it has those that the abort fails", function()
    local b = barrier.new(4)
    local list = { b:wait(nobody), b:wait(nobody) }
    b:abort()
    b:wait(nobody)
    patient(b, "late", {})
    assert_waiters(list, b)
    b:reset()
    b:wait(nobody):close()
    assert_waiters(list, b)
  end)

  it("that passed as the last arrival in coroutine style", function()
    local b = barrier.new(3)
    local list = { waiting(b), b:wait(nobody) }
    co(function()
      b:wait()
      assert_waiters(list, b)
      coroutine.yield()
    end)
    assert_waiters(list, b)
  end)

  it("that arrived without waiting, nor watchers", function()
    local b = barrier.new(4)
    local list = {}
    local function enter()
      b:await_trip(nobody)
      b:arrive()
      add(list, b:wait(nobody))
      assert_waiters(list, b)
    end
    enter()
    enter()
    assert.are.equal("draining", b.state)
    enter()
    b:abort()
    assert_waiters(list, b)
    b:await_trip(nobody)
    assert_waiters(list, b)
    run_loop()
    assert_waiters({}, b)
  end)

  it_catches("that watches and leaves early, before the trip or after it", function()
    for _, trip in ipairs { false, true } do
      local b, drains = keeping(1)
      local cancelled, resumed = support.watcher(b, "t", {}), support.watcher(b, "t", {})
      b:await_trip(0, nobody)
      if trip then
        b:arrive()
      end
      b:cancel(cancelled)
      coroutine.resume(resumed)
      assert_waiters({}, b)
      run_loop()
      assert_waiters({}, b)
      drains[1]()
    end
  end)

  it("that waits at another barrier", function()
    local a, b = barrier.new(2), barrier.new(2)
    local x, y = a:wait(nobody), waiting(b)
    assert_waiters({ x }, a)
    assert_waiters({ y }, b)
  end)
end)

describe("while the action runs, the array of waiters", function()
  ---A barrier for three, whose first action is called with what to expect.
  local function acting(action)
    local list, calls = {}, 0
    local b = barrier.new(3, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        action(self, list)
      end
    end })
    return b, list
  end

  it("ends with the last arrival", function()
    local b, list = acting(function(self, list)
      list[3] = coroutine.running()
      assert_waiters(list, self)
      assert.are.equal(3, self.n_waiting)
    end)
    list[1], list[2] = waiting(b), b:wait(nobody)
    local last = waiting(b)
    assert.are.equal(list[3], last)
    assert_waiters({ list[1], list[2] }, b)
    run_loop()
  end)

  it("ends with the last arrival's Waiter", function()
    local seen
    local b, list = acting(function(self)
      seen = self:waiters()
    end)
    list[1], list[2] = b:wait(nobody), waiting(b)
    list[3] = b:wait(nobody)
    assert.are.same(list, seen)
    assert_waiters(list, b)
    run_loop()
  end)

  it("has parties that arrive meanwhile behind the last arrival", function()
    local b, list = acting(function(self, list)
      list[3] = coroutine.running()
      list[4] = self:wait(nobody)
      list[5] = waiting(self)
      assert_waiters(list, self)
    end)
    list[1], list[2] = b:wait(nobody), b:wait(nobody)
    waiting(b)
    assert_waiters({ list[1], list[2], list[4], list[5] }, b)
    run_loop()
    assert_waiters({ list[4], list[5] }, b)
  end)

  it("lacks parties that leave meanwhile; newcomers come last", function()
    local b, list = acting(function(self, list)
      list[4] = self:wait(nobody)
      list[1]:close()
      assert.are.equal(3, #self:waiters())
    end)
    list[1], list[2] = b:wait(nobody), b:wait(nobody)
    list[3] = waiting(b)
    assert_waiters({ list[2], list[4] }, b) -- the last arrival has passed
    run_loop()
    assert_waiters({ list[4] }, b)
    assert.are.equal(1, b.generation)
  end)

  it_catches("has a cancelled last arrival until it resumes", function()
    local b, list = acting(function(self, list)
      list[3] = coroutine.running()
      self:cancel(list[3])
      assert_waiters(list, self)
      assert.are.equal(2, self.n_waiting)
    end)
    list[1], list[2] = b:wait(nobody), b:wait(nobody)
    party(b, "last", {})
    assert_waiters(list, b)
    assert.are.equal("draining", b.state)
    run_loop()
    assert_waiters({}, b)
  end)

  it("lacks a last arrival whose Waiter is closed", function()
    local b, list = acting(function(self, list)
      self:waiters()[3]:close()
      assert_waiters(list, self)
    end)
    list[1], list[2] = b:wait(nobody), b:wait(nobody)
    b:wait(nobody)
    assert_waiters(list, b)
    assert.are.equal("draining", b.state)
  end)

  it("has all parties that it has thrown out, including the last arrival", function()
    for _, method in ipairs { "reset", "abort" } do
      local b, list = acting(function(self, list)
        self[method](self)
        assert.are.equal(3, #self:waiters())
        assert.is_true(rawequal(list[1], self:waiters()[1]))
      end)
      list[1], list[2] = b:wait(nobody), b:wait(nobody)
      list[3] = patient(b, "last", {})
      assert_waiters(list, b)
      run_loop()
      assert_waiters({}, b)
    end
  end)

  it("has all parties of a trip by blocked waiters", function()
    local b, list = acting(nobody)
    local counts = {}
    for i = 1, 7 do
      list[i] = b:wait(function()
        add(counts, #b:waiters())
      end)
    end
    run_loop()
    assert.are.same({ 6, 5, 4, 3, 2, 1 }, counts)
    assert_waiters({ list[7] }, b)
  end)
end)
