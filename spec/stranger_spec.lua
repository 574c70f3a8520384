local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local keeping, pack, party = support.keeping, support.pack, support.party
local it_catches, it_closes = support.it_catches, support.it_closes

local CANCELLED = " CancelledError: wait cancelled"
local RESUMED = CANCELLED .. ": resumed by somebody else"
local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

---Resumes x as other code would. It has to stay suspended, and to yield nothing.
local function meddle(x, ...)
  assert.are.same({ n = 1, true }, pack(coroutine.resume(x, ...)))
  assert.are.equal("suspended", coroutine.status(x))
end

describe("a waiting coroutine that other code resumes", function()
  it("leaves at once, is suspended again, and fails on the next turn", function()
    local b, drains = keeping(2)
    local log = {}
    local x = co(function()
      b:wait()
    end)
    meddle(x)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.is_false(b:cancel(x))
    assert.is_true(uv.loop_alive())
    b:wait(listener(log, "w1"))
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({}, log)
    local ok, report = pcall(drains[1])
    assert.is_false(ok)
    assert.is_truthy(report:find(RESUMED:sub(2) .. "\nstack traceback:", 1, true), report)
    assert.are.equal("dead", coroutine.status(x))
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it_catches("gets a CancelledError", function()
    local b, log = barrier.new(2), {}
    meddle(party(b, "x", log))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "x" .. RESUMED }, log)
    local err = support.last_error
    assert.is_true(getmetatable(err) == barrier.CancelledError)
    assert.are.equal("CancelledError", err.name)
    assert.are.equal("wait cancelled: resumed by somebody else", err.message)
    assert.are.equal(b, err.barrier)
    assert.is_nil(err.reason)
  end)

  it_catches("does so whatever it is resumed with", function()
    local b, log = barrier.new(2), {}
    local core = require "barrier.core"
    local values = { 0, 1, "passed", true, {}, b, print, core }
    for _, value in ipairs(values) do
      meddle(party(b, "x", log), value, 0)
      meddle(party(b, "x", log), nil, value)
      meddle(party(b, "x", log, 1000000), value, value, value, value)
    end
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.equal(3 * #values, #log)
    for i = 1, #log do
      assert.are.equal("x" .. RESUMED, log[i])
    end
    assert.is_false(uv.loop_alive())
  end)

  it_catches("may be resumed with very many values", function()
    local b, log, many = barrier.new(2), {}, {}
    for i = 1, 200 do
      many[i] = i
    end
    meddle(party(b, "x", log), (unpack or table.unpack)(many))
    run_loop()
    assert.are.same({ "x" .. RESUMED }, log)
  end)

  it_catches("keeps its place in the array of waiters until it resumes", function()
    local b, log = barrier.new(5), {}
    local list = {}
    for i = 1, 3 do
      list[i] = party(b, "p" .. i, log)
    end
    meddle(list[2])
    meddle(list[1])
    assert.are.equal(1, b.n_waiting)
    assert.are.same(list, b:waiters())
    run_loop()
    assert.are.same({ "p2" .. RESUMED, "p1" .. RESUMED }, log)
    assert.are.same({ list[3] }, b:waiters())
  end)

  it_catches("stays suspended however often it is resumed, and gets one error", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    for i = 1, 5 do
      meddle(x, i)
    end
    run_loop()
    assert.are.same({ "x" .. RESUMED }, log)
    assert.are.equal("dead", coroutine.status(x))
  end)

  it_catches("returns nothing to the caller of coroutine.wrap's function", function()
    local b, log = barrier.new(2), {}
    local f = coroutine.wrap(function()
      add(log, tostring(select(2, pcall(b.wait, b))))
    end)
    assert.are.same({ n = 0 }, pack(f()))
    assert.are.same({ n = 0 }, pack(f(1, 2)))
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ RESUMED:sub(2) }, log)
  end)

  it_catches("may wait again after it has caught the error", function()
    local b, log = barrier.new(3), {}
    local x = co(function()
      pcall(b.wait, b)
      add(log, "x " .. b:wait())
    end)
    b:wait(listener(log, "w1"))
    meddle(x)
    run_loop()
    assert.are.equal(2, b.n_waiting)
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "w1 0", "x 1", "w2 2" }, log)
  end)

  it_catches("may wait at another barrier after that", function()
    local b, other, log = barrier.new(2), barrier.new(2), {}
    local x = co(function()
      pcall(b.wait, b)
      add(log, "x " .. other:wait())
    end)
    meddle(x)
    run_loop()
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(1, other.n_waiting)
    assert.is_false(b:cancel(x))
    b:wait(listener(log, "w1"))
    other:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "x 0", "w2 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it_catches("gives its timeout back to the loop", function()
    local b, log = barrier.new(2), {}
    meddle(party(b, "x", log, 1000000))
    run_loop()
    assert.are.same({ "x" .. RESUMED }, log)
    assert.is_false(uv.loop_alive())
  end)

  it_catches("leaves no gaps in the positions", function()
    for which = 1, 4 do
      local b, log, parties = barrier.new(4), {}, {}
      for i = 1, 3 do
        parties[i] = party(b, "p", log)
      end
      if which < 4 then
        meddle(parties[which])
        run_loop()
        assert.are.same({ "p" .. RESUMED }, log)
        table.remove(log)
      end
      for _ = 1, which < 4 and 2 or 1 do
        b:wait(listener(log, "p"))
      end
      run_loop()
      assert.are.same({ "p 0", "p 1", "p 2", "p 3" }, log)
    end
  end)

  it_catches("fails in order with others that leave early", function()
    local b, log = barrier.new(5), {}
    local x, y = party(b, "x", log), party(b, "y", log)
    local z, w = party(b, "z", log), b:wait(nobody)
    b:cancel(z)
    meddle(x)
    w:close(listener(log, "w"))
    meddle(y)
    run_loop()
    assert.are.same({ "z" .. CANCELLED, "x" .. RESUMED, "w nil", "y" .. RESUMED }, log)
  end)

  it_catches("keeps its barrier alive until it resumes", function()
    local log, seen = {}, setmetatable({}, { __mode = "v" })
    do
      local b = barrier.new(2)
      seen[1] = b
      meddle(party(b, "x", log))
    end
    support.collect_garbage()
    assert.is_truthy(seen[1])
    run_loop()
    assert.are.same({ "x" .. RESUMED }, log)
    support.last_error = nil
    support.collect_garbage()
    assert.is_nil(seen[1])
  end)

  it_closes("can still be closed", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    meddle(x)
    assert.is_true(coroutine.close(x))
    assert.are.same({}, b:waiters())
    run_loop()
    assert.are.same({}, log)
  end)

  it("is reported if it does not catch the error", function()
    local err, out = support.report_of [[
      local b = barrier.new(3)
      local x = coroutine.create(function() b:wait() end)
      coroutine.resume(x)
      print(coroutine.resume(x))
      for i = 1, 3 do b:wait(function(_, position) print(position) end) end
      uv.run()
    ]]
    assert.are.equal("true\n0\n1\n2\n", out)
    assert.is_truthy(err:find(RESUMED:sub(2) .. "\nstack traceback:", 1, true), err)
  end)
end)

describe("other code may also resume a coroutine that is", function()
  it_catches("blocked", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    local x = party(b, "x", log)
    party(b, "p1", log)
    party(b, "p2", log)
    meddle(x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "x" .. RESUMED, "w1 0", "w2 1", "p1 0", "p2 1" }, log)
  end)

  it_catches("released: its position goes with it", function()
    local b, log = barrier.new(4), {}
    party(b, "p1", log)
    local x = party(b, "x", log)
    party(b, "p2", log)
    party(b, "p3", log)
    meddle(x)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "p3 3", "x" .. RESUMED, "p1 0", "p2 2" }, log)
  end)

  it_catches("released, the last one inside: the barrier is filling at once", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    party(b, "p", log)
    local blocked = party(b, "blocked", log)
    meddle(x)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({ x, blocked }, b:waiters())
    run_loop()
    assert.are.equal(1, b.n_waiting)
    party(b, "q", log)
    run_loop()
    assert.are.same({ "p 1", "x" .. RESUMED, "q 1", "blocked 0" }, log)
  end)

  it_catches("reset or aborted", function()
    for method, after in pairs { reset = "filling", abort = "broken" } do
      local b, log = barrier.new(3), {}
      local x = party(b, "x", log)
      b:wait(listener(log, "w"))
      b[method](b)
      meddle(x)
      run_loop()
      assert.are.same({ "x" .. RESUMED, "w" .. (method == "reset" and RESET or ABORTED) }, log)
      assert.are.equal(after, b.state)
    end
  end)

  it_catches("cancelled: it gets that error", function()
    local b, log = barrier.new(2), {}
    local x = party(b, "x", log)
    assert.is_true(b:cancel(x))
    meddle(x)
    assert.are.same({ x }, b:waiters())
    run_loop()
    assert.are.same({ "x" .. CANCELLED }, log)
  end)

  it("cancelled: it dies of that error without a report", function()
    local out = support.output_of [[
      local b = barrier.new(2)
      local x = coroutine.create(function() b:wait() end)
      coroutine.resume(x)
      b:cancel(x)
      print(coroutine.resume(x))
      uv.run()
      print(coroutine.status(x))
    ]]
    assert.are.equal("true\ndead\n", out)
  end)

  it_catches("timed out: it gets that error", function()
    local b, drains = keeping(2)
    local log = {}
    local x = party(b, "x", log, 0)
    run_loop()
    assert.are.equal(0, b.n_waiting)
    meddle(x)
    drains[1]()
    assert.are.same({ "x" .. support.timed_out(0, 1, 2) }, log)
  end)

  it_catches("the last arrival of a trip whose action has failed", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      self:abort "why"
    end })
    b:wait(listener(log, "w"))
    meddle(party(b, "x", log))
    run_loop()
    assert.are.same({ "x" .. RESUMED, "w" .. ABORTED .. ": why" }, log)
  end)

  it_catches("let in as the last arrival, while the action runs", function()
    local log, x = {}, nil
    local b = barrier.new(2, { action = function()
      if #log == 2 then
        meddle(x)
      end
    end })
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    x = party(b, "x", log)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "x" .. RESUMED, "w3 0" }, log)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(2, b.generation)
  end)
end)

describe("a party that leaves the barrier", function()
  it_catches("may resume one that leaves after it: that fails on the next turn", function()
    local b, turns = support.counted(4)
    local log, x = {}, nil
    b:wait(function(_, position)
      add(log, "w1 " .. position)
      meddle(x)
    end)
    party(b, "p1", log)
    x = co(function()
      add(log, tostring(select(2, pcall(b.wait, b))) .. " in turn " .. turns())
    end)
    party(b, "p2", log)
    run_loop()
    assert.are.same({ "p2 3", "w1 0", "p1 1", RESUMED:sub(2) .. " in turn 2" }, log)
    assert.are.equal("filling", b.state)
  end)

  it_catches("may resume one that waits again already", function()
    local b, log = barrier.new(2), {}
    local x = co(function()
      add(log, "x " .. b:wait())
      add(log, "x " .. tostring(select(2, pcall(b.wait, b))))
    end)
    b:wait(function(_, position)
      add(log, "w " .. position)
      meddle(x)
    end)
    run_loop()
    assert.are.same({ "x 0", "w 1", "x" .. RESUMED }, log)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
  end)
end)
