local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local collected, keeping = support.collected, support.keeping
local it_catches, it_nests = support.it_catches, support.it_nests
local it_overflows, with_full_stack = support.it_overflows, support.with_full_stack

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

---A barrier that keeps its drains, after a trip: schedule has been called, nobody let out.
local function tripped(parties, log)
  local b, drains = keeping(parties)
  local waiters = {}
  for i = 1, parties do
    waiters[i] = b:wait(listener(log, "w" .. i))
  end
  run_loop()
  return b, drains, waiters
end

---Calls f from the loop, in a turn of its own.
local function later(f)
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    f()
  end)
end

---Calls `run` until log has n entries, a thousand times at most.
local function run_until(log, n, run)
  for _ = 1, 1000 do
    if #log >= n then
      return
    end
    run()
  end
end

local function run_once()
  uv.run "once"
end

describe("the option schedule", function()
  it("is called with a function and nothing else", function()
    local args
    local b = barrier.new(1, { schedule = function(...)
      args = { n = select("#", ...), ... }
    end })
    b:wait(nobody)
    run_loop()
    assert.are.equal(1, args.n)
    assert.are.equal("function", type(args[1]))
  end)

  it("is called by the loop, not by the call that makes a waiter ready", function()
    local b, drains = keeping(2)
    b:wait(nobody)
    b:wait(nobody)
    assert.are.equal(0, #drains)
    b:reset()
    assert.are.equal(0, #drains)
    b:abort()
    assert.are.equal(0, #drains)
    run_loop()
    assert.are.equal(1, #drains)
  end)

  it("is called once for each turn, until drain has been called", function()
    local log, b, drains = {}, keeping(2)
    for i = 1, 6 do
      b:wait(listener(log, i .. ""))
    end
    for turn = 1, 3 do
      run_loop()
      run_loop()
      assert.are.equal(turn, #drains)
      assert.are.equal(2 * (turn - 1), #log)
      drains[turn]()
      assert.are.equal(2 * turn, #log)
    end
    run_loop()
    assert.are.equal(3, #drains)
    assert.are.same({ "1 0", "2 1", "3 0", "4 1", "5 0", "6 1" }, log)
  end)

  it("is not called again if drain has left nobody behind", function()
    local _, drains = tripped(2, {})
    later(drains[1])
    run_loop()
    assert.are.equal(1, #drains)
    local b
    b, drains = keeping(1)
    co(function()
      b:wait()
    end)
    run_loop()
    assert.are.equal(0, #drains)
  end)

  it("is not called again if all have left while it ran", function()
    local calls, b, waiter = 0, nil, nil
    b = barrier.new(2, {
      schedule = function()
        calls = calls + 1
        b:reset()
        waiter:close()
      end,
    })
    waiter = b:wait(nobody)
    b:abort()
    run_loop()
    assert.are.equal(1, calls)
  end)

  it("may be anything callable", function()
    local log, self = {}, nil
    local callable = setmetatable({}, { __call = function(...)
      local drain
      self, drain = ...
      assert.are.equal(2, select("#", ...))
      drain()
    end })
    local b = barrier.new(2, { schedule = callable })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.equal(callable, self)
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("may be false", function()
    local b, log = barrier.new(1, { schedule = false }), {}
    b:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)

  it("may be a function of luv that calls it later", function()
    local log = {}
    local b = barrier.new(2, { schedule = later })
    co(function()
      for round = 1, 3 do
        b:wait()
        add(log, round)
      end
    end)
    co(function()
      for _ = 1, 3 do
        b:wait()
      end
    end)
    run_loop()
    assert.are.same({ 1, 2, 3 }, log)
    assert.are.equal(3, b.generation)
  end)

  it("may return anything", function()
    local log = {}
    local b = barrier.new(1, { schedule = function(drain)
      drain()
      return false, drain
    end })
    b:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)

  it("may serve several barriers: each has a drain of its own", function()
    local drains, log = {}, {}
    for _, name in ipairs { "a", "b", "c" } do
      local b = barrier.new(2, { schedule = function(drain)
        add(drains, drain)
      end })
      b:wait(listener(log, name .. 1))
      b:wait(listener(log, name .. 2))
    end
    run_loop()
    assert.are.equal(3, #drains)
    drains[2]()
    assert.are.same({ "b1 0", "b2 1" }, log)
    drains[3]()
    drains[1]()
    assert.are.same({ "b1 0", "b2 1", "c1 0", "c2 1", "a1 0", "a2 1" }, log)
  end)

  it("leaves barriers without one alone", function()
    local log, b, drains = {}, keeping(1)
    local plain = barrier.new(1)
    b:wait(listener(log, "scheduled"))
    plain:wait(listener(log, "plain"))
    run_loop()
    assert.are.same({ "plain 0" }, log)
    drains[1]()
    assert.are.same({ "plain 0", "scheduled 0" }, log)
  end)

  it("may use its barrier before it calls drain", function()
    local log, b = {}, nil
    local ways = {
      { RESET, function() b:reset() end },
      { ABORTED, function() b:abort() end },
      { " 0", function() b:wait(listener(log, "blocked")) end },
    }
    for _, way in ipairs(ways) do
      local used = false
      log = {}
      b = barrier.new(2, { schedule = function(drain)
        if not used then
          used = true
          way[2]()
        end
        drain()
      end })
      b:wait(listener(log, "w"))
      b:wait(nobody)
      run_loop()
      assert.are.same({ "w" .. way[1] }, log)
    end
    assert.are.equal(1, b.n_waiting)
  end)
end)

describe("schedule is called for waiters that", function()
  local ways = {
    ["were reset"] = { RESET, function(b, log)
      b:wait(listener(log, "w"))
      b:reset()
    end },
    ["were thrown out by an abort"] = { ABORTED, function(b, log)
      b:wait(listener(log, "w"))
      b:abort()
    end },
    ["came to a broken barrier"] = { ABORTED, function(b, log)
      b:abort()
      b:wait(listener(log, "w"))
    end },
    ["timed out"] = { support.timed_out(0, 1, 2), function(b, log)
      b:wait(0, listener(log, "w"))
    end },
    ["await a trip"] = { " 1", function(b, log)
      b:await_trip(listener(log, "w"))
      b:arrive()
      b:arrive()
    end },
    ["were failed by the option timeout"] = {
      ABORTED .. ": timed out after 0 ms, 1 of 2 had arrived", function(b, log)
        b:wait(listener(log, "w"))
      end, { timeout = 0 },
    },
    ["were closed with an on_close"] = { " nil", function(b, log)
      b:wait(nobody):close(listener(log, "w"))
    end },
  }
  for who, way in pairs(ways) do
    it(who, function()
      local log, b, drains = {}, keeping(2, way[3])
      way[2](b, log)
      run_loop()
      assert.are.equal(1, #drains)
      assert.are.same({}, log)
      drains[1]()
      assert.are.same({ "w" .. way[1] }, log)
      run_loop()
      assert.are.equal(1, #drains)
    end)
  end

  it_catches("were cancelled", function()
    local log, b, drains = {}, keeping(2)
    b:cancel(support.party(b, "x", log))
    run_loop()
    assert.are.equal(1, #drains)
    assert.are.same({}, log)
    drains[1]()
    assert.are.same({ "x CancelledError: wait cancelled" }, log)
  end)

  it("were blocked when the last one inside left by itself", function()
    local log, b, drains = {}, keeping(1)
    local inside = b:wait(nobody)
    b:wait(listener(log, "blocked"))
    run_loop()
    inside:close()
    assert.are.equal("filling", b.state)
    run_loop()
    assert.are.equal(2, #drains)
    drains[2]()
    assert.are.equal("draining", b.state)
    run_loop()
    drains[3]()
    assert.are.same({ "blocked 0" }, log)
  end)
end)

describe("until drain is called", function()
  it("the barrier drains, arrivals are blocked, and the loop has nothing to do", function()
    local log = {}
    local b, drains = tripped(2, log)
    b:wait(listener(log, "blocked"))
    for _ = 1, 3 do
      run_loop()
      assert.is_false(uv.loop_alive())
      assert.are.equal("draining", b.state)
      assert.are.equal(0, b.n_waiting)
      assert.are.equal(3, #b:waiters())
    end
    assert.are.same({}, log)
    assert.are.equal(1, #drains)
    drains[1]()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
  end)

  it("reset and abort change what those inside get", function()
    for method, expected in pairs { reset = RESET, abort = ABORTED } do
      local log = {}
      local b, drains = tripped(2, log)
      b:wait(listener(log, "blocked"))
      b[method](b)
      drains[1]()
      assert.are.same({ "w1" .. expected, "w2" .. expected }, { log[1], log[2] })
      assert.are.equal(method == "abort" and "blocked" .. ABORTED or nil, log[3])
      assert.are.equal(method == "reset" and 1 or 0, b.n_waiting)
    end
  end)

  it("a reset may follow an abort: the state when drain is called counts", function()
    local log = {}
    local b, drains = tripped(2, log)
    b:abort()
    b:reset()
    drains[1]()
    assert.are.same({ "w1" .. RESET, "w2" .. RESET }, log)
    assert.are.equal("filling", b.state)
  end)

  it("those inside may leave, and the others keep their positions", function()
    local log = {}
    local _, drains, waiters = tripped(4, log)
    waiters[1]:close()
    waiters[3]:close()
    drains[1]()
    assert.are.same({ "w2 1", "w4 3" }, log)
  end)

  it_catches("cancelled coroutines resume first, in the same turn", function()
    local log, b, drains = {}, keeping(3)
    local parties = {}
    for i = 1, 2 do
      parties[i] = support.party(b, "p" .. i, log)
    end
    b:wait(nobody)
    run_loop()
    b:cancel(parties[2])
    drains[1]()
    assert.are.same({ "p2 CancelledError: wait cancelled", "p1 0" }, log)
  end)

  it("schedule is called again when another waiter gets ready; either drain serves all", function()
    for first = 1, 2 do
      local log = {}
      local b, drains = tripped(2, log)
      b:abort()
      run_loop()
      assert.are.equal(2, #drains)
      drains[first]()
      assert.are.same({ "w1" .. ABORTED, "w2" .. ABORTED }, log)
      drains[3 - first]()
      run_loop()
      assert.are.equal(2, #log)
      assert.are.equal(2, #drains)
    end
  end)

  it("schedule is not called again if that happens before the loop has turned", function()
    local log = {}
    local b, drains = tripped(2, log)
    b:abort()
    drains[1]()
    assert.are.same({ "w1" .. ABORTED, "w2" .. ABORTED }, log)
    run_loop()
    assert.are.equal(1, #drains)
  end)

  it("timeouts of parties that have tripped do not count", function()
    local log, b, drains = {}, keeping(2)
    b:wait(0, listener(log, "w1"))
    b:wait(0, listener(log, "w2"))
    run_loop()
    uv.update_time()
    later(drains[1])
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("drain, and nothing else, keeps the barrier and its waiters alive", function()
    local log, drains = {}, nil
    assert.is_false(collected(function()
      local b
      b, drains = tripped(1, log)
      return b
    end))
    drains[1]()
    assert.are.same({ "w1 0" }, log)
    assert.is_true(collected(function()
      return (tripped(1, log))
    end))
    assert.are.same({ "w1 0" }, log)
  end)

  it("drain keeps coroutines alive as well", function()
    local drains, passed = nil, 0
    local function make()
      local b
      b, drains = keeping(2)
      local party = co(function()
        b:wait()
        passed = passed + 1
      end)
      b:wait(nobody)
      run_loop()
      return party
    end
    assert.is_true(collected(function()
      local party = make()
      drains = nil
      return party
    end))
    assert.is_false(collected(make))
    drains[1]()
    assert.are.equal(1, passed)
  end)
end)

describe("drain", function()
  it("lets out at once when schedule calls it at once", function()
    local log = {}
    local b = barrier.new(2, { schedule = function(drain)
      add(log, "schedule")
      drain()
      add(log, "drained")
    end })
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({
      "schedule", "w1 0", "w2 1", "drained",
      "schedule", "w3 0", "w4 1", "drained",
    }, log)
    assert.are.equal(2, b.generation)
  end)

  it("takes no arguments and returns nothing", function()
    local log = {}
    local _, drains = tripped(2, log)
    assert.are.equal(0, select("#", drains[1](nil, "an argument", {})))
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(0, select("#", drains[1]("another")))
  end)

  it("does nothing when it is called again", function()
    local log = {}
    local b, drains = tripped(1, log)
    drains[1]()
    b:wait(listener(log, "later"))
    drains[1]()
    assert.are.same({ "w1 0" }, log)
    run_loop()
    drains[1]()
    assert.are.same({ "w1 0" }, log)
    drains[2]()
    drains[2]()
    assert.are.same({ "w1 0", "later 0" }, log)
  end)

  it("does nothing if all have left by themselves, then or later", function()
    local log = {}
    local b, drains, waiters = tripped(1, log)
    waiters[1]:close()
    drains[1]()
    assert.are.equal("filling", b.state)
    b:wait(listener(log, "later"))
    run_loop()
    drains[1]()
    assert.are.same({}, log)
    drains[2]()
    assert.are.same({ "later 0" }, log)
  end)

  it("lets out the parties that are ready at once, without waiting for the loop", function()
    local log = {}
    local b, drains, waiters = tripped(1, log)
    waiters[1]:close()
    b:wait(listener(log, "later"))
    drains[1]()
    assert.are.same({ "later 0" }, log)
    run_loop()
    assert.are.equal(1, #drains)
  end)

  it("is a turn: what becomes ready meanwhile is left for the next", function()
    local log, b, drains = {}, keeping(1)
    b:wait(function()
      add(log, "w1")
      b:wait(listener(log, "again"))
      b:wait(nobody):close(listener(log, "closed"))
    end)
    b:wait(listener(log, "blocked"))
    run_loop()
    drains[1]()
    assert.are.same({ "w1" }, log)
    assert.are.equal("draining", b.state)
    run_loop()
    drains[2]()
    assert.are.same({ "w1", "closed nil", "blocked 0" }, log)
    run_loop()
    drains[3]()
    assert.are.same({ "w1", "closed nil", "blocked 0", "again 0" }, log)
  end)

  it("leaves the loop nothing to do when nobody is left", function()
    local log = {}
    local _, drains = tripped(2, log)
    drains[1]()
    assert.is_false(uv.loop_alive())
  end)

  it("lets the blocked in, and they wait", function()
    local log = {}
    local b, drains = tripped(2, log)
    b:wait(listener(log, "blocked"))
    drains[1]()
    assert.are.equal(1, b.n_waiting)
    b:wait(listener(log, "last"))
    run_loop()
    drains[2]()
    assert.are.same({ "w1 0", "w2 1", "blocked 0", "last 1" }, log)
  end)

  it("does not keep its barrier alive once it has been called", function()
    local drains
    assert.is_true(collected(function()
      local b
      b, drains = tripped(1, {})
      drains[1]()
      return b
    end))
    drains[1]()
  end)

  it("may be called by a coroutine, which may wait afterwards", function()
    local log, b, drains = {}, keeping(2)
    local first = co(function()
      add(log, "first " .. b:wait())
      add(log, "first again " .. b:wait())
    end)
    b:wait(nobody)
    run_loop()
    co(function()
      drains[1]()
      assert.are.equal("suspended", coroutine.status(first))
      add(log, "caller " .. b:wait())
    end)
    assert.are.same({ "first 0", "caller 1" }, log)
    run_loop()
    drains[2]()
    assert.are.same({ "first 0", "caller 1", "first again 0" }, log)
  end)

  it("may be called inside a C function", function()
    local log = {}
    local _, drains = tripped(2, log)
    local text = ("x"):gsub("x", function()
      drains[1]()
      return "y"
    end)
    assert.are.equal("y", text)
    assert.are.same({ "w1 0", "w2 1" }, log)
  end)

  it("may be called by waiters that another barrier lets out", function()
    local log = {}
    local _, drains = tripped(2, log)
    local other = barrier.new(2)
    other:wait(function()
      drains[1]()
      add(log, "other 1")
    end)
    other:wait(listener(log, "other 2"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "other 1", "other 2 1" }, log)
  end)

  it("may be called by the schedule of another barrier", function()
    local log = {}
    local _, drains = tripped(2, log)
    local other = barrier.new(1, { schedule = function(drain)
      drains[1]()
      drain()
    end })
    other:wait(listener(log, "other"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "other 0" }, log)
  end)

  it("may be called by an action", function()
    local log = {}
    local _, drains = tripped(2, log)
    local other = barrier.new(1, { action = function()
      drains[1]()
      add(log, "action")
    end })
    other:wait(listener(log, "other"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "action", "other 0" }, log)
  end)

  it("may be called by a waiter that it lets out, and then does nothing", function()
    local log, b, drains = {}, keeping(3)
    for i = 1, 3 do
      b:wait(function(_, position)
        drains[1]()
        add(log, i .. " " .. position)
      end)
    end
    run_loop()
    drains[1]()
    assert.are.same({ "1 0", "2 1", "3 2" }, log)
  end)

  it("may be called by a waiter that an earlier drain lets out: it lets out the others", function()
    local log, b, drains = {}, keeping(3)
    for i = 1, 3 do
      b:wait(function(err)
        add(log, "in " .. i .. " " .. tostring(err))
        if i == 1 then
          drains[2]()
        end
        add(log, "out " .. i)
      end)
    end
    run_loop()
    b:abort()
    run_loop()
    drains[1]()
    local broken = "BrokenBarrierError: barrier aborted"
    assert.are.same({
      "in 1 " .. broken,
      "in 2 " .. broken, "out 2",
      "in 3 " .. broken, "out 3",
      "out 1",
    }, log)
  end)

  it("may be called in a loop run by a waiter that it let out: it lets out the others", function()
    local log, b, drains = {}, keeping(3)
    local served = 0
    local function turn()
      uv.run "nowait"
      if drains[served + 1] then
        served = served + 1
        drains[served]()
      end
    end
    for i = 1, 3 do
      b:wait(function()
        add(log, "in " .. i)
        run_until(log, 3, turn)
        add(log, "out " .. i)
      end)
    end
    turn()
    assert.are.same({ "in 1", "in 2", "in 3", "out 3", "out 2", "out 1" }, log)
    run_loop()
    assert.are.equal(0, #b:waiters())
  end)

  it("loses nobody if the C stack is too small to resume them", function()
    if jit then
      pending "LuaJIT does not check how much of the C stack is left"
    end
    ---Calls drain inside that many nested coroutines.
    local function nested(depth, drain)
      if depth == 0 then
        pcall(drain)
      else
        coroutine.resume(coroutine.create(nested), depth - 1, drain)
      end
    end
    for depth = 150, 200 do
      local b, drains = keeping(4)
      local parties = {}
      for i = 1, 3 do
        parties[i] = co(function()
          b:wait()
        end)
      end
      co(function()
        b:wait()
      end)
      run_loop()
      nested(depth, drains[1])
      while parties[1] and coroutine.status(parties[1]) == "dead" do
        table.remove(parties, 1)
      end
      assert.are.same(parties, b:waiters())
      run_loop()
      for i = 1, #drains do
        drains[i]()
      end
      assert.are.same({}, b:waiters())
      assert.are.equal("filling", b.state)
    end
  end)

  it_overflows("puts back a coroutine that cannot be resumed; schedule is called again", function()
    for coroutines = 1, 2 do
      local log, b, drains = {}, keeping(3 + coroutines)
      local list, expected = {}, { "w 0" }
      b:wait(listener(log, "w"))
      local gone = b:wait(nobody) -- its position stays free
      for i = 1, coroutines do
        list[i] = co(function()
          local position = b:wait()
          add(log, "p" .. i .. " " .. position)
        end)
        add(expected, "p" .. i .. " " .. i + 1)
      end
      co(function()
        b:wait()
      end)
      gone:close()
      run_loop()
      with_full_stack(drains[1])
      assert.are.same({ "w 0" }, log)
      assert.are.same(list, b:waiters())
      assert.are.equal("draining", b.state)
      run_loop()
      assert.are.equal(2, #drains)
      drains[2]()
      assert.are.same(expected, log)
      assert.are.equal("filling", b.state)
    end
  end)

  it_overflows("puts it back with its error", function()
    for _, way in ipairs {
      { ABORTED .. ": why", function(b, log)
        b:abort "why"
        support.party(b, "x", log)
      end },
      { support.timed_out(0, 1, 2), function(b, log)
        support.party(b, "x", log, 0)
      end },
    } do
      local log, b, drains = {}, keeping(2)
      way[2](b, log)
      run_loop()
      with_full_stack(drains[1])
      assert.are.same({}, log)
      run_loop()
      drains[2]()
      assert.are.same({ "x" .. way[1] }, log)
    end
  end)

  it_overflows("puts it back in a turn that another coroutine runs, which is released", function()
    local log, b, drains = {}, keeping(4)
    local seen, failed = setmetatable({}, { __mode = "v" }), nil
    seen[1] = co(function()
      add(log, "x " .. tostring(select(2, pcall(b.wait, b))))
      with_full_stack(drains[2])
      failed = #log == 1
    end)
    support.party(b, "y", log)
    b:wait(listener(log, "w"))
    b:abort "why"
    run_loop()
    b:wait(nobody)
    run_loop()
    assert.are.equal(2, #drains)
    drains[1]()
    assert.is_true(failed)
    local failure = ABORTED .. ": why"
    assert.are.same({ "x" .. failure, "y" .. failure, "w" .. failure }, log)
    support.collect_garbage()
    assert.is_nil(seen[1])
  end)

  it("lets out waiters that trip the barrier for ever, one trip a turn", function()
    local calls, waits = 0, 0
    local b
    b = barrier.new(3, { schedule = function(drain)
      calls = calls + 1
      assert.are.equal(calls, b.generation)
      drain()
    end })
    for _ = 1, 3 do
      co(function()
        repeat
          b:wait()
          waits = waits + 1
        until b.generation == 50
      end)
    end
    run_loop()
    assert.are.equal(50, calls)
    assert.are.equal(150, waits)
  end)
end)

describe("an action of a barrier with schedule", function()
  it("runs in the last arrival, before schedule is called", function()
    local log = {}
    local b = barrier.new(2, {
      action = function()
        add(log, "action")
      end,
      schedule = function(drain)
        add(log, "schedule")
        drain()
      end,
    })
    b:wait(listener(log, "w1"))
    co(function()
      add(log, "last " .. b:wait())
    end)
    assert.are.same({ "action", "last 1" }, log)
    run_loop()
    assert.are.same({ "action", "last 1", "schedule", "w1 0" }, log)
  end)

  it("runs within drain for blocked waiters", function()
    local log = {}
    local b, drains = keeping(2, { action = function(self)
      add(log, "action " .. self.n_waiting)
    end })
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({ "action 2" }, log)
    drains[1]()
    assert.are.same({ "action 2", "w1 0", "w2 1", "action 2" }, log)
    run_loop()
    drains[2]()
    assert.are.same({ "action 2", "w1 0", "w2 1", "action 2", "w3 0", "w4 1" }, log)
  end)

  it("that raises fails all parties when drain is called", function()
    local log = {}
    local b, drains = keeping(2, { action = function()
      error("in action", 0)
    end })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({}, log)
    drains[1]()
    assert.are.same({ "w1" .. ABORTED .. ": in action", "w2 in action" }, log)
    run_loop()
    assert.are.equal(1, #drains)
  end)
end)

describe("an error that nobody catches", function()
  ---A barrier for three parties, of which the first two die. Returns its drains.
  local function dying(log)
    local b, drains = keeping(3)
    local function deep(i)
      error("boom " .. i)
    end
    for i = 1, 3 do
      co(function()
        b:wait()
        add(log, i)
        if i < 3 then
          deep(i)
        end
      end)
    end
    run_loop()
    return drains
  end

  it("is raised by drain when all others have gone on, with all tracebacks", function()
    local log = {}
    local drains = dying(log)
    assert.are.same({ 3 }, log)
    local ok, err = pcall(drains[1])
    assert.is_false(ok)
    assert.are.same({ 3, 1, 2 }, log)
    for i = 1, 2 do
      assert.are.equal(1, select(2, err:gsub("boom " .. i, "")), err)
    end
    assert.are.equal(2, select(2, err:gsub("stack traceback", "")), err)
    assert.is_truthy(err:find "in %a+ '?deep'?" or err:find("'deep'", 1, true), err)
  end)

  it("is raised once: drain does nothing when it is called again", function()
    local drains = dying {}
    assert.is_false(pcall(drains[1]))
    assert.is_true(pcall(drains[1]))
    run_loop()
    assert.are.equal(1, #drains)
  end)

  it("is not reported if schedule catches it", function()
    local result = support.chunk [[
      local b = barrier.new(1, { schedule = function(drain) print(pcall(drain)) end })
      b:wait(function() error("boom", 0) end)
      uv.run()
      print "reached"
    ]]
    assert.is_truthy(result.out:find "^false\tboom\nstack traceback.*reached\n$", result.out)
    assert.are.same({ 0, "" }, { result.code, result.err })
  end)

  it("is reported by the loop if schedule calls drain at once", function()
    local result = support.chunk [[
      local b = barrier.new(2, { schedule = function(drain) drain() print "not reached" end })
      b:wait(function() error "boom" end)
      b:wait(function() print "second" end)
      uv.run()
      print "not reached"
    ]]
    assert.are.equal("second\n", result.out)
    assert.is_truthy(result.err:find("Uncaught Error", 1, true), result.err)
    assert.are.equal(1, select(2, result.err:gsub("boom", "")), result.err)
    assert.are_not.equal(0, result.code)
  end)
end)

describe("a schedule that raises", function()
  ---Runs a chunk that must end with luv's report. Returns what it prints, and the report.
  local function run(code)
    local result = support.chunk([[
      local function enter(b, name)
        b:wait(function(err, position)
          print(name, tostring(err or position))
        end)
      end
    ]] .. code .. "\nuv.run()\nprint 'not reached'")
    assert.are_not.equal(0, result.code)
    assert.are.equal(0, result.signal)
    assert.is_truthy(result.err:find("Uncaught Error", 1, true), result.err)
    return result.out, result.err
  end

  it("is reported with its traceback, and the waiters resume all the same", function()
    local out, err = run [[
      local function deep() error "in schedule" end
      local b = barrier.new(2, { schedule = function() deep() end })
      enter(b, "w1")
      enter(b, "w2")
    ]]
    assert.are.equal("w1\t0\nw2\t1\n", out)
    assert.are.equal(1, select(2, err:gsub("in schedule", "")), err)
    assert.is_truthy(err:find("'deep'", 1, true) or err:find("in upvalue deep", 1, true), err)
  end)

  it("does not keep other barriers from being served in the same turn", function()
    local out, err = run [[
      local function schedule() error "in schedule" end
      for _, name in ipairs { "a", "b" } do enter(barrier.new(1, { schedule = schedule }), name) end
      enter(barrier.new(1), "c")
    ]]
    assert.are.equal("a\t0\nb\t0\nc\t0\n", out)
    assert.are.equal(2, select(2, err:gsub("in schedule", "")), err)
  end)

  it("may raise an error table, which is reported as its tostring", function()
    local _, err = run [[
      local b = barrier.new(1, { schedule = function()
        error(setmetatable({}, { __tostring = function() return "told" end }))
      end })
      enter(b, "w")
    ]]
    assert.is_truthy(err:find("told\nstack traceback", 1, true), err)
  end)

  it("after it has called drain lets nobody out twice", function()
    local out, err = run [[
      local b = barrier.new(2, { schedule = function(drain)
        drain()
        error "in schedule"
      end })
      for i = 1, 4 do enter(b, "w" .. i) end
    ]]
    assert.are.equal("w1\t0\nw2\t1\n", out)
    assert.are.equal(1, select(2, err:gsub("in schedule", "")), err)
  end)

  it("is reported together with the error of a callback that it did not stop", function()
    local _, err = run [[
      local b = barrier.new(1, { schedule = function() error "in schedule" end })
      b:wait(function() error "in callback" end)
    ]]
    local first, second = err:find("in schedule", 1, true), err:find("in callback", 1, true)
    assert.is_truthy(first and second and first < second, err)
  end)

  it("may do so by trying to yield", function()
    local out = run [[
      local b = barrier.new(1, { schedule = function() coroutine.yield() end })
      enter(b, "w")
    ]]
    assert.are.equal("w\t0\n", out)
  end)

  it("may keep drain, which then finds nobody", function()
    local out = run [[
      local b, kept
      b = barrier.new(2, { schedule = function(drain) kept = drain error "in schedule" end })
      enter(b, "w1")
      b:wait(function() print(pcall(kept)) print(b.state) end)
    ]]
    assert.are.equal("w1\t0\ntrue\nfilling\n", out)
  end)
end)

describe("a loop that runs inside", function()
  it_nests("a schedule does not let out the waiters that schedule was called for", function()
    local log = {}
    local other = barrier.new(1)
    local b = barrier.new(1, { schedule = function(drain)
      run_until(log, 1, run_once)
      drain()
    end })
    b:wait(listener(log, "w"))
    other:wait(listener(log, "other"))
    run_loop()
    assert.are.same({ "other 0", "w 0" }, log)
  end)

  it_nests("a drain that schedule calls at once calls schedule again", function()
    local log, calls = {}, 0
    local b = barrier.new(3, { schedule = function(drain)
      calls = calls + 1
      drain()
    end })
    for i = 1, 3 do
      b:wait(function()
        add(log, "in " .. i)
        run_until(log, 3, run_once)
        add(log, "out " .. i)
      end)
    end
    run_loop()
    assert.are.same({ "in 1", "in 2", "in 3", "out 3", "out 2", "out 1" }, log)
    assert.are.equal(3, calls)
  end)

  it_nests("a waiter that is let out after schedule has failed lets the others out", function()
    local result = support.chunk [[
      local n = 0
      local b = barrier.new(3, { schedule = function() error "in schedule" end })
      for i = 1, 3 do
        b:wait(function()
          n = n + 1
          print("in", i)
          for _ = 1, 1000 do if n < 3 then uv.run "once" end end
          print("out", i)
        end)
      end
      uv.run()
    ]]
    assert.is_truthy(result.out:find("^in\t1\nin\t2\n"), result.out)
  end)
end)

describe("a schedule", function()
  it("is called again if somebody new has to leave before drain is called", function()
    for _, reset in ipairs { false, true } do
      local log, b, drains = {}, keeping(2)
      b:abort()
      b:wait(listener(log, "a"))
      run_loop()
      assert.are.equal(1, #drains)
      if reset then
        b:reset()
        b:abort "later"
      end
      b:wait(listener(log, "b"))
      assert.is_true(uv.loop_alive())
      run_loop()
      assert.are.equal(2, #drains)
      drains[2]()
      assert.are.same({ "a" .. ABORTED, "b" .. ABORTED .. (reset and ": later" or "") }, log)
      drains[1]()
      assert.are.equal(2, #log)
    end
  end)

  it("is not needed when a broken barrier is aborted again", function()
    local log, b, drains = {}, keeping(2)
    b:abort()
    b:wait(listener(log, "a"))
    run_loop()
    b:abort "again"
    run_loop()
    drains[#drains]()
    assert.are.same({ "a" .. ABORTED }, log)
  end)

  it("is not called again for the blocked, even if other barriers have turns", function()
    local log = {}
    local b, drains = keeping(1)
    local other = barrier.new(1)
    b:wait(listener(log, "w"))
    run_loop()
    b:wait(listener(log, "blocked"))
    b:arrive()
    for _ = 1, 3 do
      other:wait(nobody)
      run_loop()
    end
    assert.are.equal(1, #drains)
    drains[1]()
    assert.are.same({ "w 0" }, log)
  end)

  it("that forgets drain does not keep the barrier alive if somebody is blocked", function()
    local seen = setmetatable({}, { __mode = "v" })
    do
      local b = barrier.new(1, { schedule = function() end })
      b:wait(function() end)
      support.run_loop()
      b:wait(function() end)
      seen[1] = b
    end
    for _ = 1, 4 do
      collectgarbage()
    end
    assert.is_nil(seen[1])
  end)

  it("may catch the errors that drain reports; LuaJIT's traces survive them", function()
    local result = support.chunk [[
      local drains = {}
      local function hot(n)
        local sum = 0
        for i = 1, n do
          sum = sum + i % 7
        end
        return sum
      end
      for round = 1, 200 do
        local b = barrier.new(3, { schedule = function(drain) drains[#drains + 1] = drain end })
        b:wait(function() error("dies", 0) end)
        coroutine.wrap(function() b:wait() end)()
        coroutine.wrap(function() b:wait() end)()
        uv.run()
        barrier.new(1, { schedule = false }):wait(function() end)
        for i = 1, #drains do
          assert(not pcall(drains[i]))
          hot(100 + round % 3)
        end
        drains = {}
      end
      print "passed"
    ]]
    assert.are.equal("passed\n", result.out, result.err)
    assert.are.equal(0, result.signal)
  end)
end)
