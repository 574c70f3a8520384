local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local exact, pack, party, watcher = support.exact, support.pack, support.party, support.watcher
local collected, counted, keeping = support.collected, support.counted, support.keeping
local pass_time, timed_out = support.pass_time, support.timed_out
local it_catches, it_closes, it_nests = support.it_catches, support.it_closes, support.it_nests

local CANCELLED = " CancelledError: wait cancelled"
local RESUMED = CANCELLED .. ": resumed by somebody else"
local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"
local LONG = 1000000

local function nobody() end

---Trips a barrier as often as parties come, with callbacks that tell nobody.
local function enter(b, parties)
  for _ = 1, parties or b.parties do
    b:wait(nobody)
  end
end

describe("await_trip in a coroutine", function()
  it("suspends it until the barrier trips, and returns the generation after that", function()
    local b, log = barrier.new(2), {}
    watcher(b, "t", log)
    assert.are.same({}, log)
    b:wait(listener(log, "w1"))
    run_loop()
    assert.are.same({}, log)
    b:wait(listener(log, "w2"))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "t 1" }, log)
    watcher(b, "t", log)
    enter(b)
    run_loop()
    assert.are.equal("t 2", log[4])
  end)

  it("does not make it a party: it is not counted, nor waited for", function()
    local b, log = barrier.new(2), {}
    watcher(b, "t1", log)
    watcher(b, "t2", log)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(0, b.n_arrived)
    assert.are.same({}, b:waiters())
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.generation)
    assert.is_truthy(tostring(b):find("[filling, waiters:0/2]", 1, true))
    assert.is_false(uv.loop_alive())
    b:wait(nobody)
    party(b, "last", log)
    assert.are.same({ "last 1" }, log)
    run_loop()
    assert.are.same({ "last 1", "t1 1", "t2 1" }, log)
  end)

  it("yields no values and returns an integer", function()
    local b, results = barrier.new(1), nil
    local x = coroutine.create(function()
      results = pack(b:await_trip())
    end)
    assert.are.same({ n = 1, true }, pack(coroutine.resume(x)))
    assert.are.equal("suspended", coroutine.status(x))
    enter(b)
    run_loop()
    assert.are.same({ n = 1, 1 }, results)
    if math.type then
      assert.are.equal("integer", math.type(results[1]))
    end
  end)

  it("waits for the next trip, not for one that is draining", function()
    local b, log = barrier.new(2), {}
    enter(b)
    assert.are.equal("draining", b.state)
    watcher(b, "t", log)
    run_loop()
    assert.are.same({}, log)
    enter(b)
    run_loop()
    assert.are.same({ "t 2" }, log)
  end)

  it("may await trip after trip", function()
    local b, generations = barrier.new(2), {}
    co(function()
      for _ = 1, 3 do
        add(generations, b:await_trip())
      end
    end)
    enter(b, 6)
    run_loop()
    assert.are.same({ 1, 2, 3 }, generations)
  end)

  it("may follow the arrival of a party that then awaits the others", function()
    local b, log = barrier.new(3), {}
    for i = 1, 2 do
      co(function()
        b:arrive()
        add(log, i .. " " .. b:await_trip())
      end)
    end
    b:arrive()
    run_loop()
    assert.are.same({ "1 1", "2 1" }, log)
  end)

  it("raises an error in the main chunk, and where the coroutine cannot yield", function()
    local b = barrier.new(2)
    local function check(ok, message)
      assert.is_false(ok)
      assert.is_truthy(message:find("await_trip_spec%.lua:%d+: cannot wait"), message)
      assert.is_false(uv.loop_alive())
    end
    for _, abort in ipairs { false, true } do
      if abort then
        b:abort()
      end
      check(pcall(function()
        b:await_trip()
      end))
      check(pcall(function()
        b:await_trip(LONG)
      end))
      check(coroutine.resume(coroutine.create(function()
        ("x"):gsub("x", function()
          b:await_trip()
        end)
      end)))
    end
    b:reset()
    enter(b)
    run_loop()
  end)
end)

describe("await_trip with a callback", function()
  it("suspends nobody, and returns a Waiter", function()
    local b = barrier.new(2)
    local results = pack(b:await_trip(nobody))
    assert.are.equal(1, results.n)
    assert.is_truthy(tostring(results[1]):find("^<barrier%.Waiter object at %w+ %[waiting%]>$"))
    assert.is_false(results[1]:is_closing())
    assert.is_false(uv.loop_alive())
  end)

  it("calls back once, from the loop, with nil and the generation", function()
    local b, log = barrier.new(1), {}
    b:await_trip(exact(log, "t"))
    b:arrive()
    assert.are.same({}, log)
    run_loop()
    b:arrive()
    b:reset()
    run_loop()
    assert.are.same({ "t 2 nil 1" }, log)
  end)

  it("calls back with an error and nothing else", function()
    local b, log = barrier.new(3), {}
    b:await_trip(exact(log, "reset"))
    b:reset()
    run_loop()
    b:await_trip(1, exact(log, "timeout"))
    run_loop()
    b:await_trip(exact(log, "aborted"))
    b:abort "why"
    run_loop()
    assert.are.same({
      "reset 1" .. RESET, "timeout 1" .. timed_out(1, 0, 3), "aborted 1" .. ABORTED .. ": why",
    }, log)
  end)

  it("takes the timeout before the callback, and anything callable", function()
    local b, log = barrier.new(1), {}
    b:await_trip(LONG, listener(log, "timed"))
    b:await_trip(nil, listener(log, "nil"))
    b:await_trip(setmetatable({}, { __call = function(_, err, generation)
      add(log, "callable " .. tostring(err) .. " " .. generation)
    end }))
    b:arrive()
    run_loop()
    assert.are.same({ "timed 1", "nil 1", "callable nil 1" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it("works where a coroutine cannot suspend", function()
    local b, log = barrier.new(1), {}
    ;("x"):gsub("x", function()
      b:await_trip(listener(log, "t"))
    end)
    b:arrive()
    run_loop()
    assert.are.same({ "t 1" }, log)
  end)

  it("awaits the following trip if it is called in its own callback", function()
    local b, log = barrier.new(2), {}
    local function again(_, generation)
      add(log, generation)
      if generation < 3 then
        b:await_trip(again)
      end
    end
    b:await_trip(again)
    enter(b, 8)
    run_loop()
    assert.are.same({ 1, 2, 3 }, log)
    assert.are.equal(4, b.generation)
  end)
end)

describe("the watchers of a trip", function()
  it("resume in the same turn as the parties, after them, in order", function()
    local b, turns = counted(3)
    local log = {}
    local function tell(name)
      return function(_, result)
        add(log, name .. " " .. result .. " in turn " .. turns())
      end
    end
    b:await_trip(tell "t1")
    b:wait(tell "w1")
    co(function()
      tell "t2"(nil, b:await_trip())
    end)
    b:wait(tell "w2")
    b:await_trip(tell "t3")
    b:wait(tell "w3")
    run_loop()
    assert.are.same({
      "w1 0 in turn 1", "w2 1 in turn 1", "w3 2 in turn 1",
      "t1 1 in turn 1", "t2 1 in turn 1", "t3 1 in turn 1",
    }, log)
  end)

  it("resume even if nobody else does: after a trip by arrive or deregister", function()
    local b, log = barrier.new(2), {}
    b:await_trip(listener(log, "t1"))
    b:arrive()
    b:arrive()
    assert.are.equal("filling", b.state)
    b:await_trip(listener(log, "t2"))
    b:deregister(2)
    assert.are.equal(2, b.generation)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "t1 1", "t2 2" }, log)
  end)

  it("resume even if only the last arrival has passed", function()
    local b, log = barrier.new(1), {}
    watcher(b, "t", log)
    party(b, "w", log)
    assert.are.same({ "w 0" }, log)
    run_loop()
    assert.are.same({ "w 0", "t 1" }, log)
  end)

  it("get the trip that they awaited, even if others follow", function()
    local b, log = barrier.new(1), {}
    b:await_trip(listener(log, "t1"))
    b:arrive()
    b:await_trip(listener(log, "t2"))
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.same({ "t1 1", "t2 2" }, log)
    assert.are.equal(3, b.generation)
  end)

  it("resume when all have left, before the blocked are let in", function()
    local b, log = barrier.new(2), {}
    b:await_trip(function(_, generation)
      add(log, "t " .. generation .. " " .. b.state .. " " .. b.n_waiting .. " " .. #b:waiters())
    end)
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "t 1 filling 0 2", "w3 0", "w4 1" }, log)
  end)

  it("resume after a trip of the blocked in the turn in which those leave", function()
    local b, turns = counted(2)
    local log = {}
    enter(b, 4)
    b:await_trip(function(_, generation)
      add(log, generation .. " in turn " .. turns())
    end)
    run_loop()
    assert.are.same({ "2 in turn 2" }, log)
  end)

  it("may wait, behind the blocked and the last leaver", function()
    local b, log = barrier.new(2), {}
    b:await_trip(function()
      b:wait(listener(log, "by t"))
    end)
    b:wait(nobody)
    b:wait(function()
      b:wait(listener(log, "by the last"))
    end)
    b:wait(listener(log, "blocked"))
    run_loop()
    assert.are.same({ "blocked 0", "by the last 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("resume before the parties of the next barrier", function()
    local a, b, log = barrier.new(1), barrier.new(1), {}
    b:await_trip(listener(log, "b"))
    a:await_trip(listener(log, "a"))
    a:wait(listener(log, "in a"))
    b:wait(listener(log, "in b"))
    run_loop()
    assert.are.same({ "in a 0", "a 1", "in b 0", "b 1" }, log)
  end)

  it("resume on the next turn if they began to watch in this one", function()
    local b, log = barrier.new(1), {}
    b:wait(function()
      b:await_trip(listener(log, "t"))
      b:arrive()
      assert.are.equal(2, b.generation)
    end)
    barrier.new(1):wait(listener(log, "another barrier"))
    run_loop()
    assert.are.same({ "another barrier 0", "t 2" }, log)
  end)

  it("may be very many", function()
    local b, told = barrier.new(1), 0
    for i = 1, 5000 do
      b:await_trip(function(_, generation)
        assert.are.equal(1, generation)
        told = told + 1
        assert.are.equal(i, told)
      end)
    end
    b:arrive()
    run_loop()
    assert.are.equal(5000, told)
  end)

  it("do not stop each other if one fails", function()
    local err, out = support.report_of [[
      local b = barrier.new(1)
      b:await_trip(function() error "boom" end)
      b:await_trip(function(_, generation) print(generation) end)
      b:arrive()
      uv.run()
    ]]
    assert.are.equal("1\n", out)
    assert.is_truthy(err:find("boom", 1, true))
  end)

  it_nests("resume in a loop that one of them runs", function()
    local b, log = barrier.new(1), {}
    for i = 1, 3 do
      b:await_trip(function()
        add(log, "in " .. i)
        for _ = 1, 100 do
          if #log < 3 then
            uv.run "nowait"
          end
        end
        add(log, "out " .. i)
      end)
    end
    b:arrive()
    run_loop()
    assert.are.same({ "in 1", "in 2", "in 3", "out 3", "out 2", "out 1" }, log)
  end)

  it("resume where schedule says", function()
    local log = {}
    local b, drains = keeping(1)
    b:await_trip(listener(log, "t"))
    b:arrive()
    run_loop()
    assert.are.same({}, log)
    assert.are.equal(1, #drains)
    drains[1]()
    assert.are.same({ "t 1" }, log)
  end)
end)

describe("a reset or an abort", function()
  for method, expected in pairs { reset = RESET, abort = ABORTED .. ": why" } do
    local function throw_out(b)
      b[method](b, method == "abort" and "why" or nil)
    end

    it(method .. " fails the watchers on the next turn", function()
      local b, log = barrier.new(2), {}
      b:await_trip(listener(log, "t1"))
      b:wait(listener(log, "w"))
      b:await_trip(listener(log, "t2"))
      throw_out(b)
      assert.are.same({}, log)
      run_loop()
      assert.are.same({ "w" .. expected, "t1" .. expected, "t2" .. expected }, log)
    end)

    it(method .. " does not have the barrier wait for them", function()
      local b, log = barrier.new(2), {}
      b:await_trip(listener(log, "t"))
      throw_out(b)
      assert.are.equal(method == "reset" and "filling" or "broken", b.state)
      assert.is_true(uv.loop_alive())
      run_loop()
      assert.are.same({ "t" .. expected }, log)
    end)

    it(method .. " fails them also between the trip and their turn", function()
      local b, log = barrier.new(1), {}
      b:await_trip(listener(log, "t"))
      b:arrive()
      throw_out(b)
      run_loop()
      assert.are.same({ "t" .. expected }, log)
    end)

    it(method .. " by one of the parties fails them in the same turn", function()
      local b, turns = counted(2)
      local log = {}
      b:await_trip(function(err)
        add(log, "t " .. tostring(err) .. " in turn " .. turns())
      end)
      b:wait(function()
        throw_out(b)
      end)
      b:wait(listener(log, "w2"))
      run_loop()
      assert.are.same({ "w2" .. expected, "t" .. expected .. " in turn 1" }, log)
    end)

    it(method .. " by the last of the parties fails them as well", function()
      local b, log = barrier.new(1), {}
      b:await_trip(listener(log, "t"))
      b:wait(function()
        throw_out(b)
      end)
      run_loop()
      assert.are.same({ "t" .. expected }, log)
    end)

    it(method .. " by a watcher that has gone on fails the others", function()
      local b, log = barrier.new(1), {}
      for i = 1, 3 do
        b:await_trip(function(err, generation)
          add(log, i .. " " .. tostring(err or generation))
          if i == 2 then
            throw_out(b)
          end
        end)
      end
      b:arrive()
      run_loop()
      assert.are.same({ "1 1", "2 1", "3" .. expected }, log)
    end)
  end

  it("leaves the watchers with the later one's error", function()
    for _, order in ipairs { { "abort", "reset", RESET }, { "reset", "abort", ABORTED } } do
      for _, trip in ipairs { false, true } do
        local b, log = barrier.new(1), {}
        b:await_trip(listener(log, "t"))
        if trip then
          b:arrive()
        end
        b[order[1]](b)
        b[order[2]](b)
        run_loop()
        assert.are.same({ "t" .. order[3] }, log)
      end
    end
  end)

  it("gives each watcher an error of its own", function()
    local b, errors, reason = barrier.new(1), {}, {}
    for i = 1, 2 do
      b:await_trip(function(err)
        errors[i] = err
      end)
    end
    b:abort(reason)
    run_loop()
    for i = 1, 2 do
      assert.is_true(getmetatable(errors[i]) == barrier.BrokenBarrierError)
      assert.is_true(rawequal(reason, errors[i].reason))
      assert.are.equal(b, errors[i].barrier)
    end
    assert.is_false(rawequal(errors[1], errors[2]))
  end)

  it("abort fails the watchers after the blocked", function()
    local b, log = barrier.new(2), {}
    b:await_trip(listener(log, "t1"))
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    b:await_trip(listener(log, "t2"))
    b:wait(listener(log, "w4"))
    b:abort()
    run_loop()
    for i, name in ipairs { "w1", "w2", "w3", "w4", "t1", "t2" } do
      assert.are.equal(name .. ABORTED, log[i])
    end
  end)

  it("does not fail watchers that come after a reset", function()
    local b, log = barrier.new(1), {}
    b:await_trip(listener(log, "t1"))
    b:abort()
    b:reset()
    b:await_trip(listener(log, "t2"))
    b:arrive()
    run_loop()
    assert.are.same({ "t1" .. RESET, "t2 1" }, log)
  end)

  it("by an action fails the watchers, and so does the action's error", function()
    local actions = {
      [RESET] = function(self) self:reset() end,
      [ABORTED .. ": why"] = function(self) self:abort "why" end,
      [ABORTED .. ": boom"] = function() error("boom", 0) end,
    }
    for expected, action in pairs(actions) do
      local b, log = barrier.new(1, { action = action }), {}
      b:await_trip(listener(log, "t"))
      assert.is_nil(b:arrive())
      run_loop()
      assert.are.same({ "t" .. expected }, log)
    end
  end)
end)

describe("the error of an action that no party gets", function()
  it("is not reported if a watcher gets it as the reason", function()
    local log = {}
    local b = barrier.new(1, { action = function()
      if #log == 1 then
        error("boom", 0)
      end
    end })
    b:wait(function(_, position)
      add(log, "w " .. position)
      b:await_trip(listener(log, "t"))
    end)
    b:arrive()
    run_loop()
    assert.are.same({ "w 0", "t" .. ABORTED .. ": boom" }, log)
  end)
end)

describe("await_trip on a broken barrier", function()
  it("fails for good on the next turn, whatever follows", function()
    local b, log = barrier.new(1), {}
    b:abort "why"
    b:await_trip(exact(log, "t"))
    b:reset()
    b:arrive()
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "t 1" .. ABORTED .. ": why" }, log)
  end)

  it_catches("suspends a coroutine, which fails on the next turn", function()
    local b, log = barrier.new(1), {}
    b:abort "why"
    local x = watcher(b, "t", log)
    assert.are.equal("suspended", coroutine.status(x))
    assert.are.same({}, log)
    assert.is_false(b:cancel(x))
    b:reset()
    run_loop()
    assert.are.same({ "t" .. ABORTED .. ": why" }, log)
  end)

  it("starts no timeout", function()
    local b, log = barrier.new(1), {}
    b:abort()
    b:await_trip(LONG, listener(log, "t"))
    run_loop()
    assert.are.same({ "t" .. ABORTED }, log)
    assert.is_false(uv.loop_alive())
  end)
end)

describe("the timeout of a watcher", function()
  it("takes out that watcher, which is not counted as arrived", function()
    local b, log = barrier.new(4), {}
    b:wait(listener(log, "w"))
    b:arrive()
    b:await_trip(listener(log, "t1"))
    b:await_trip(2, listener(log, "t2"))
    run_loop()
    assert.are.same({ "t2" .. timed_out(2, 2, 4) }, log)
    assert.are.equal(2, b.n_arrived)
    b:deregister(2)
    run_loop()
    assert.are.same({ "w 0", "t1 1" }, { log[2], log[3] })
  end)

  it_catches("raises in a coroutine a TimeoutError that knows the barrier", function()
    local b, log = barrier.new(3), {}
    watcher(b, "t", log, 1)
    assert.is_true(uv.loop_alive())
    run_loop()
    assert.are.same({ "t" .. timed_out(1, 0, 3) }, log)
    assert.is_true(getmetatable(support.last_error) == barrier.TimeoutError)
    assert.are.equal(b, support.last_error.barrier)
  end)

  it("says so if the barrier was draining or resetting", function()
    for _, state in ipairs { "draining", "resetting" } do
      local b, drains = keeping(2)
      local log = {}
      enter(b, state == "draining" and 2 or 1)
      if state == "resetting" then
        b:reset()
      end
      b:await_trip(1, listener(log, "t"))
      run_loop()
      pass_time(3)
      run_loop()
      for i = 1, #drains do
        drains[i]()
      end
      assert.are.same({
        "t TimeoutError: wait timed out after 1 ms while the barrier was " .. state,
      }, log)
    end
  end)

  it("no longer counts after the trip, a reset or an abort", function()
    for how, expected in pairs { arrive = " 1", reset = RESET, abort = ABORTED } do
      local b, drains = keeping(1)
      local log = {}
      b:await_trip(1, listener(log, "t"))
      b[how](b)
      pass_time(3)
      run_loop()
      pass_time(3)
      run_loop()
      drains[1]()
      assert.are.same({ "t" .. expected }, log)
      assert.is_false(uv.loop_alive())
    end
  end)

  it("goes on while the barrier drains, for the trip after that", function()
    local b, log = barrier.new(1), {}
    b:wait(nobody)
    b:await_trip(2, listener(log, "t"))
    run_loop()
    assert.are.same({ "t" .. timed_out(2, 0, 1) }, log)
  end)

  it("expires in order with those of the parties", function()
    local b, log = barrier.new(9), {}
    b:wait(0, listener(log, "w1"))
    pass_time(2)
    b:await_trip(0, listener(log, "t"))
    pass_time(2)
    b:wait(0, listener(log, "w2"))
    pass_time(2)
    run_loop()
    assert.are.same({
      "w1" .. timed_out(0, 2, 9), "t" .. timed_out(0, 1, 9), "w2" .. timed_out(0, 1, 9),
    }, log)
  end)
end)

describe("a watcher", function()
  it_catches("can be cancelled, once", function()
    local b, log = barrier.new(1), {}
    local x = watcher(b, "t", log)
    assert.is_true(b:cancel(x))
    assert.is_false(b:cancel(x))
    assert.are.same({}, log)
    b:arrive()
    run_loop()
    assert.are.same({ "t" .. CANCELLED }, log)
    assert.are.equal(b, support.last_error.barrier)
  end)

  it_catches("can be cancelled even between the trip and its turn", function()
    local b, log = barrier.new(1), {}
    local x = watcher(b, "t", log)
    b:arrive()
    assert.is_true(b:cancel(x))
    assert.is_false(b:cancel(x))
    run_loop()
    assert.are.same({ "t" .. CANCELLED }, log)
  end)

  it_catches("can be cancelled by a party that leaves in the same turn", function()
    local b, turns = counted(1)
    local log = {}
    local x = co(function()
      add(log, tostring(select(2, pcall(b.await_trip, b))) .. " in turn " .. turns())
    end)
    b:wait(function()
      assert.is_true(b:cancel(x))
    end)
    run_loop()
    assert.are.same({ "CancelledError: wait cancelled in turn 2" }, log)
  end)

  it("is not in the barrier of others", function()
    local b, other = barrier.new(1), barrier.new(1)
    local x = watcher(b, "t", {})
    assert.is_false(other:cancel(x))
    b:arrive()
    run_loop()
  end)

  it("can be taken out with its Waiter, and is never called back", function()
    local b, log = barrier.new(1), {}
    local early = b:await_trip(listener(log, "early"))
    local late = b:await_trip(listener(log, "late"))
    b:await_trip(listener(log, "t"))
    early:close(exact(log, "closed early"))
    assert.is_true(early:is_closing())
    run_loop()
    assert.are.same({ "closed early 0" }, log)
    b:arrive()
    late:close(exact(log, "closed late"))
    run_loop()
    assert.are.same({ "closed early 0", "closed late 0", "t 1" }, log)
    late:close()
    early:close()
  end)

  it_closes("can be closed, which is noticed at once", function()
    local b, log = barrier.new(1), {}
    local x, y = watcher(b, "x", log, LONG), watcher(b, "y", log)
    assert.is_true(uv.loop_alive())
    assert.is_true(coroutine.close(x))
    assert.is_false(uv.loop_alive())
    assert.is_false(b:cancel(x))
    b:arrive()
    assert.is_true(coroutine.close(y))
    run_loop()
    assert.are.same({}, log)
  end)

  it_catches("leaves when other code resumes it, and fails on the next turn", function()
    for _, trip in ipairs { false, true } do
      local b, log = barrier.new(1), {}
      local x = watcher(b, "t", log)
      if trip then
        b:arrive()
      end
      assert.are.same({ n = 1, true }, pack(coroutine.resume(x, "anything")))
      assert.are.equal("suspended", coroutine.status(x))
      assert.are.same({ n = 1, true }, pack(coroutine.resume(x)))
      assert.is_false(b:cancel(x))
      if not trip then
        b:arrive()
      end
      assert.are.same({}, log)
      run_loop()
      assert.are.same({ "t" .. RESUMED }, log)
    end
  end)

  it("leaves in order with the others that leave early", function()
    local b, log = barrier.new(9), {}
    local w, t = b:wait(nobody), b:await_trip(nobody)
    t:close(listener(log, "t"))
    w:close(listener(log, "w"))
    b:reset()
    run_loop()
    assert.are.same({ "t nil", "w nil" }, log)
  end)

  it("is kept alive by its barrier and by nothing else", function()
    local log, b = {}, barrier.new(1)
    assert.is_false(collected(function()
      return watcher(b, "t1", log)
    end))
    b:await_trip(listener(log, "t2"))
    support.collect_garbage()
    b:arrive()
    run_loop()
    assert.are.same({ "t1 1", "t2 1" }, log)
    assert.is_true(collected(function()
      return watcher(barrier.new(1), "t", log)
    end))
    assert.is_true(collected(function()
      local unreachable = barrier.new(1)
      watcher(unreachable, "t", log)
      unreachable:await_trip(function()
        return unreachable
      end)
      return unreachable
    end))
  end)

  it("is released once it has been called back", function()
    local b = barrier.new(1)
    for _, how in ipairs { "arrive", "reset" } do
      local seen = setmetatable({}, { __mode = "k" })
      local function callback() end
      seen[callback] = true
      seen[b:await_trip(callback)] = true
      callback = nil
      b[how](b)
      run_loop()
      support.collect_garbage()
      assert.is_nil(next(seen))
      assert.is_nil(callback)
    end
  end)

  it("keeps the barrier alive after a trip, and while it has a timeout", function()
    local log = {}
    assert.is_false(collected(function()
      local b = barrier.new(1)
      b:await_trip(listener(log, "t1"))
      b:arrive()
      return b
    end))
    assert.is_false(collected(function()
      local b = barrier.new(1)
      b:await_trip(2, listener(log, "t2"))
      return b
    end))
    run_loop()
    assert.are.same({ "t1 1", "t2" .. timed_out(2, 0, 1) }, log)
  end)
end)
