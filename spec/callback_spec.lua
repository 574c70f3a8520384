local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, exact, listener = support.add, support.co, support.exact, support.listener
local run_loop = support.run_loop

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

describe("wait with a callback", function()
  it("never suspends and returns a Waiter, even to the last arrival", function()
    local b = barrier.new(2)
    for _ = 1, 3 do
      local results = { b:wait(nobody) }
      assert.are.equal(1, #results)
      assert.are.equal(support.type_of_barrier, type(results[1]))
      assert.is_truthy(tostring(results[1]):find("barrier.Waiter", 1, true))
    end
    assert.are.equal("draining", b.state)
  end)

  it("returns a Waiter whose tostring says whether it is waiting", function()
    local waiter = barrier.new(2):wait(nobody)
    assert.is_truthy(tostring(waiter):find("^<barrier%.Waiter object at %w+ %[waiting%]>$"))
    waiter:close()
    assert.is_truthy(tostring(waiter):find("^<barrier%.Waiter object at %w+ %[done%]>$"))
  end)

  it("calls back with nil and the position", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      b:wait(exact(log, "w" .. i))
    end
    run_loop()
    assert.are.same({ "w1 2 nil 0", "w2 2 nil 1", "w3 2 nil 2" }, log)
  end)

  it("calls back with an error and nothing else", function()
    local b, log = barrier.new(3), {}
    b:wait(exact(log, "reset"))
    b:reset()
    run_loop()
    b:wait(exact(log, "aborted"))
    b:abort("why")
    run_loop()
    assert.are.same({ "reset 1" .. RESET, "aborted 1" .. ABORTED .. ": why" }, log)
  end)

  it("calls back only from the loop, never before wait has returned", function()
    local log = {}
    local one, two, broken = barrier.new(1), barrier.new(2), barrier.new(1)
    broken:abort()
    for _, b in ipairs { one, two, two, broken } do
      local waiter
      waiter = b:wait(function()
        assert.is_truthy(waiter)
        add(log, #log + 1)
      end)
    end
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ 1, 2, 3, 4 }, log)
  end)

  it("calls back exactly once", function()
    local b, calls = barrier.new(2), 0
    local function count()
      calls = calls + 1
    end
    b:wait(count)
    b:wait(count)
    run_loop()
    b:reset()
    b:abort()
    b:reset()
    run_loop()
    b:wait(nobody)
    b:wait(nobody)
    run_loop()
    assert.are.equal(2, calls)
  end)

  it("takes the timeout before the callback, and nil for none", function()
    local b, log = barrier.new(3), {}
    b:wait(0, exact(log, "timed"))
    b:wait(nil, exact(log, "nil"))
    b:wait(exact(log, "callback"), nil)
    run_loop()
    assert.are.same({ "timed 2 nil 0", "nil 2 nil 1", "callback 2 nil 2" }, log)
  end)

  it("takes anything callable", function()
    local b, log = barrier.new(1), {}
    local callable = setmetatable({}, { __call = function(self, err, position)
      add(log, tostring(self.name) .. " " .. tostring(err) .. " " .. position)
    end })
    callable.name = "table"
    b:wait(callable)
    b:wait(1000, callable)
    run_loop()
    assert.are.same({ "table nil 0", "table nil 0" }, log)
  end)

  it("works where a coroutine cannot suspend", function()
    local b, log = barrier.new(5), {}
    local ask = setmetatable({}, { __index = function(_, name)
      b:wait(listener(log, name))
    end })
    local _ = ask.metamethod
    table.sort({ 1, 2 }, function(x, y)
      if #log == 0 and b.n_waiting == 1 then
        b:wait(listener(log, "sort"))
      end
      return x < y
    end)
    ;("x"):gsub("x", function()
      b:wait(listener(log, "gsub"))
    end)
    co(function()
      b:wait(listener(log, "coroutine"))
    end)
    local timer = uv.new_timer()
    timer:start(0, 0, function()
      timer:close()
      b:wait(listener(log, "timer"))
    end)
    run_loop()
    assert.are.same({ "metamethod 0", "sort 1", "gsub 2", "coroutine 3", "timer 4" }, log)
  end)

  it("does not touch the coroutine that calls it", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      b:wait(listener(log, "callback"))
      add(log, "went on")
      add(log, "yielded " .. coroutine.yield())
    end)
    b:wait(nobody)
    run_loop()
    assert.are.same({ "went on", "callback 0" }, log)
    coroutine.resume(x, "value")
    assert.are.equal("yielded value", log[3])
  end)

  it("returns a Waiter to a coroutine that has just passed", function()
    local b, waiter = barrier.new(2), nil
    co(function()
      b:wait()
      waiter = b:wait(nobody)
    end)
    b:wait(nobody)
    run_loop()
    assert.are.equal(support.type_of_barrier, type(waiter))
    assert.are.same({ waiter }, b:waiters())
  end)

  it("shares one order of arrival with coroutines", function()
    local b, log = barrier.new(5), {}
    b:wait(listener(log, "a"))
    support.party(b, "b", log)
    b:wait(listener(log, "c"))
    support.party(b, "d", log)
    b:wait(listener(log, "e"))
    run_loop()
    assert.are.same({ "a 0", "b 1", "c 2", "d 3", "e 4" }, log)
  end)

  it("counts twice when the same callback waits twice", function()
    local b, positions = barrier.new(2), {}
    local function callback(_, position)
      add(positions, position)
    end
    assert.are_not.equal(b:wait(callback), b:wait(callback))
    run_loop()
    assert.are.same({ 0, 1 }, positions)
  end)

  it("may wait again in the callback", function()
    local b, trips = barrier.new(2), 0
    local function again(err)
      assert.is_nil(err)
      trips = trips + 1
      if trips < 100 then
        b:wait(again)
      end
    end
    b:wait(again)
    b:wait(again)
    run_loop()
    assert.are.equal(100, trips)
    assert.are.equal(50, b.generation)
  end)

  it("is blocked while the barrier drains", function()
    local b, log = barrier.new(2), {}
    for i = 1, 5 do
      b:wait(listener(log, "w" .. i))
    end
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 0", "w4 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("goes on even if nobody holds its Waiter", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    for _ = 1, 3 do
      collectgarbage()
    end
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("does not stop the others if its callback fails", function()
    local result = support.chunk [[
      local b = barrier.new(3)
      b:wait(function(_, position) print(position) end)
      b:wait(function() error "in the callback" end)
      b:wait(function(_, position) print(position) end)
      uv.run()
    ]]
    assert.are.equal("0\n2\n", result.out)
    assert.is_truthy(result.err:find("in the callback", 1, true))
    local _, reports = result.err:gsub("in the callback", "")
    assert.are.equal(1, reports)
  end)
end)

describe("wait with a callback on a broken barrier", function()
  it("fails on the next turn, with the reason", function()
    local b, log = barrier.new(2), {}
    b:abort("why")
    b:wait(exact(log, "w"))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "w 1" .. ABORTED .. ": why" }, log)
    assert.is_true(b.broken)
  end)

  it("has failed for good, and is no longer in the barrier", function()
    local b, log = barrier.new(1), {}
    b:abort("why")
    b:wait(exact(log, "w1"))
    assert.are.same({}, b:waiters())
    b:reset()
    b:wait(exact(log, "w2"))
    b:abort("another")
    run_loop()
    assert.are.same({ "w1 1" .. ABORTED .. ": why", "w2 1" .. ABORTED .. ": another" }, log)
  end)

  it("keeps the reason it met, even if there was none", function()
    local b, log = barrier.new(1), {}
    for _, reason in ipairs { "first", "second" } do
      b:abort(reason)
      b:wait(exact(log, "w"))
      b:reset()
    end
    b:abort()
    b:wait(exact(log, "w"))
    b:reset()
    b:abort("last")
    run_loop()
    assert.are.same({
      "w 1" .. ABORTED .. ": first",
      "w 1" .. ABORTED .. ": second",
      "w 1" .. ABORTED,
    }, log)
  end)

  it("starts no timeout", function()
    local b, log = barrier.new(1), {}
    b:abort()
    b:wait(1000000, exact(log, "w"))
    run_loop()
    assert.are.same({ "w 1" .. ABORTED }, log)
    assert.is_false(uv.loop_alive())
  end)

  it("may be closed before it is called back", function()
    local b, log = barrier.new(1), {}
    b:abort()
    b:wait(exact(log, "w")):close(exact(log, "closed"))
    run_loop()
    assert.are.same({ "closed 0" }, log)
  end)

  it("may wait again and again in the callback, one call a turn", function()
    local log, turns = {}, 0
    local b = barrier.new(1, { schedule = function(drain)
      turns = turns + 1
      drain()
    end })
    b:abort()
    local function again()
      add(log, turns)
      if #log < 3 then
        b:wait(again)
      end
    end
    b:wait(again)
    run_loop()
    assert.are.same({ 1, 2, 3 }, log)
  end)
end)

describe("a Waiter that is closed", function()
  it("has left the barrier at once, and is never called back", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(listener(log, "x"))
    assert.are.equal(0, select("#", waiter:close()))
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
    assert.is_false(uv.loop_alive())
    b:wait(listener(log, "w1"))
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("leaves no gaps in the positions if it leaves before the trip", function()
    for which = 1, 3 do
      local b, log, waiters = barrier.new(4), {}, {}
      for i = 1, 3 do
        waiters[i] = b:wait(listener(log, "w"))
      end
      waiters[which]:close()
      b:wait(listener(log, "w"))
      b:wait(listener(log, "w"))
      run_loop()
      assert.are.same({ "w 0", "w 1", "w 2", "w 3" }, log)
    end
  end)

  it("takes its position along if it leaves after the trip", function()
    local b, positions, waiters = barrier.new(6), {}, {}
    for i = 1, 6 do
      waiters[i] = b:wait(function(_, position)
        positions[i] = position
      end)
    end
    waiters[3]:close()
    waiters[2]:close()
    waiters[4]:close()
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ [1] = 0, [5] = 4, [6] = 5 }, positions)
  end)

  it("leaves the barrier filling at once if it was the last one inside", function()
    local b, log = barrier.new(1), {}
    local waiter = b:wait(listener(log, "x"))
    assert.are.equal("draining", b.state)
    waiter:close()
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w"))
    b:reset()
    run_loop()
    assert.are.same({ "w" .. RESET }, log)
  end)

  it("may be blocked, reset or aborted", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    b:wait(listener(log, "x")):close()
    run_loop()
    local waiter = b:wait(listener(log, "x"))
    b:reset()
    waiter:close()
    assert.are.equal("filling", b.state)
    waiter = b:wait(listener(log, "x"))
    b:abort()
    waiter:close()
    assert.are.same({}, b:waiters())
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("may be closed by a callback that runs before its own", function()
    local b, log, second = barrier.new(3), {}, nil
    b:wait(0, function()
      add(log, "first")
      second:close()
    end)
    second = b:wait(0, listener(log, "second"))
    run_loop()
    assert.are.same({ "first" }, log)
  end)

  it("does not keep its callback alive", function()
    local b = barrier.new(2)
    local seen = setmetatable({}, { __mode = "k" })
    local waiter
    do
      local held = {}
      seen[held] = true
      waiter = b:wait(function()
        return held
      end)
    end
    waiter:close()
    support.collect_garbage()
    assert.is_nil(next(seen))
    waiter:close()
  end)
end)

describe("is_closing of a Waiter", function()
  it("is false while it waits, then true", function()
    local b, log = barrier.new(2), {}
    local waiters = {}
    for i = 1, 2 do
      waiters[i] = b:wait(function()
        add(log, tostring(waiters[i]:is_closing()))
      end)
      assert.is_false(waiters[i]:is_closing())
    end
    assert.are.equal("draining", b.state)
    assert.is_false(waiters[1]:is_closing())
    run_loop()
    assert.are.same({ "true", "true" }, log)
    assert.is_true(waiters[1]:is_closing())
  end)

  it("is true as soon as it is closed, whatever became of its wait", function()
    local b = barrier.new(2)
    local waiting, reset, watching = b:wait(nobody), b:wait(1, nobody), b:await_trip(nobody)
    b:reset()
    local blocked = b:wait(nobody)
    for _, waiter in ipairs { waiting, reset, watching, blocked } do
      assert.are.same({ false, 1 }, { waiter:is_closing(), select("#", waiter:is_closing()) })
      waiter:close(nobody)
      assert.is_true(waiter:is_closing())
    end
    run_loop()
    assert.is_true(waiting:is_closing())
  end)

  it("is an error on anything but a Waiter", function()
    local b = barrier.new(2)
    local waiter = b:wait(nobody)
    for _, self in ipairs { b, {}, 1, print } do
      local ok, message = pcall(waiter.is_closing, self)
      assert.is_false(ok)
      assert.is_truthy(message:find("calling 'is_closing' on bad self (Waiter expected, got "
        .. type(self) .. ")", 1, true), message)
    end
    waiter:close()
  end)
end)

describe("the on_close of a Waiter", function()
  it("is called from the loop, once, without arguments", function()
    local b, log = barrier.new(2), {}
    b:wait(nobody):close(exact(log, "closed"))
    assert.are.same({}, log)
    run_loop()
    run_loop()
    assert.are.same({ "closed 0" }, log)
  end)

  it("is called once for each close that passes one, in order", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(nobody)
    waiter:close(exact(log, "c1"))
    waiter:close()
    waiter:close(exact(log, "c2"))
    run_loop()
    waiter:close(exact(log, "c3"))
    waiter:close(nil)
    run_loop()
    assert.are.same({ "c1 0", "c2 0", "c3 0" }, log)
    assert.are.equal(0, b.n_waiting)
  end)

  it("is called even if the Waiter's callback has run or is running", function()
    local b, log, waiter = barrier.new(1), {}, nil
    waiter = b:wait(function()
      add(log, "called")
      waiter:close(exact(log, "in"))
      add(log, "returns")
    end)
    run_loop()
    waiter:close(exact(log, "after"))
    run_loop()
    assert.are.same({ "called", "returns", "in 0", "after 0" }, log)
    assert.are.equal("filling", b.state)
  end)

  it("takes nobody else out if the Waiter has already left", function()
    local b, log = barrier.new(2), {}
    local old = b:wait(nobody)
    old:close()
    b:wait(listener(log, "w1"))
    old:close(nobody)
    assert.are.equal(1, b.n_waiting)
    run_loop()
    old:close()
    b:wait(listener(log, "w2"))
    old:close(nobody)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("does not stop the others if it fails, and is not called again", function()
    local result = support.chunk [[
      local b = barrier.new(2)
      local waiter = b:wait(print)
      waiter:close(function() print "first" error "in on_close" end)
      waiter:close(function() print "second" end)
      b:wait(function(_, position) print(position) end)
      b:wait(function(_, position) print(position) end)
      uv.run()
    ]]
    assert.are.equal("first\nsecond\n0\n1\n", result.out)
    assert.is_truthy(result.err:find("in on_close", 1, true))
  end)

  it("takes anything callable", function()
    local b, log = barrier.new(2), {}
    local callable = setmetatable({}, { __call = function(_, ...)
      add(log, select("#", ...))
    end })
    b:wait(nobody):close(callable)
    run_loop()
    assert.are.same({ 0 }, log)
  end)

  it("that is not callable is an error, and the Waiter stays in the barrier", function()
    local b = barrier.new(2)
    local waiter = b:wait(nobody)
    for _, bad in ipairs { 1, "x", {}, true, false } do
      local ok, err = pcall(waiter.close, waiter, bad)
      assert.is_false(ok)
      assert.is_truthy(err:find("on_close must be callable", 1, true))
    end
    assert.are.equal(1, b.n_waiting)
    assert.is_false(uv.loop_alive())
  end)

  it("keeps the barrier alive until it is called", function()
    local log = {}
    do
      local b = barrier.new(2)
      b:wait(nobody):close(exact(log, "closed"))
    end
    for _ = 1, 3 do
      collectgarbage()
    end
    run_loop()
    assert.are.same({ "closed 0" }, log)
  end)

  it("may do anything: wait, close, abort", function()
    local b, log = barrier.new(2), {}
    local other = b:wait(listener(log, "other"))
    b:wait(5, nobody):close(function()
      add(log, "closed")
      other:close(exact(log, "other closed"))
      b:wait(listener(log, "w"))
      b:abort("in on_close")
    end)
    run_loop()
    assert.are.same({ "closed", "other closed 0", "w" .. ABORTED .. ": in on_close" }, log)
  end)
end)
