local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local pack, party = support.pack, support.party
local collected, counted, keeping = support.collected, support.counted, support.keeping

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

---A barrier for `parties` that is draining, with parties - 1 still inside.
local function draining(parties, log)
  local b = barrier.new(parties)
  for i = 1, parties do
    b:wait(listener(log, "w" .. i))
  end
  return b
end

describe("arrive", function()
  it("counts one party, which does not wait, and returns true", function()
    local b = barrier.new(3)
    assert.are.same({ n = 1, true }, pack(b:arrive()))
    assert.are.equal(1, b.n_arrived)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.generation)
    assert.is_false(uv.loop_alive())
  end)

  it("works anywhere, even where a coroutine cannot suspend", function()
    local b = barrier.new(7)
    b:arrive()
    co(function()
      b:arrive()
      assert.are.equal(2, b.n_arrived)
      ;("x"):gsub("x", function()
        b:arrive()
      end)
    end)
    table.sort({ 2, 1 }, function(x, y)
      if b.n_arrived == 3 then
        b:arrive()
      end
      return x < y
    end)
    local _ = setmetatable({}, { __index = function()
      b:arrive()
    end }).metamethod
    local timer = uv.new_timer()
    timer:start(0, 0, function()
      timer:close()
      b:arrive()
    end)
    run_loop()
    assert.are.equal(6, b.n_arrived)
    assert.are.equal(0, b.generation)
    b:arrive()
    assert.are.equal(1, b.generation)
  end)

  it("may be the last arrival: the waiters then resume from the loop", function()
    local b, log = barrier.new(3), {}
    b:wait(listener(log, "w1"))
    party(b, "w2", log)
    assert.are.same({ n = 1, true }, pack(b:arrive()))
    assert.are.same({}, log)
    assert.are.equal("draining", b.state)
    assert.are.equal(1, b.generation)
    assert.are.equal(2, #b:waiters())
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal("filling", b.state)
  end)

  it("trips a barrier in which nobody waits, which is then filling at once", function()
    local b = barrier.new(2)
    for trip = 1, 3 do
      b:arrive()
      assert.are.equal(trip - 1, b.generation)
      b:arrive()
      assert.are.equal(trip, b.generation)
      assert.are.equal("filling", b.state)
      assert.are.equal(0, b.n_arrived)
      assert.is_false(uv.loop_alive())
    end
  end)

  it("trips a barrier for one party each time", function()
    local b = barrier.new(1)
    for trip = 1, 3 do
      assert.is_true(b:arrive())
      assert.are.equal(trip, b.generation)
    end
  end)

  it("stays counted when others leave", function()
    local b, log = barrier.new(3), {}
    local gone = b:wait(nobody)
    b:arrive()
    gone:close()
    b:wait(0, listener(log, "timed"))
    run_loop()
    assert.are.same({ "timed" .. support.timed_out(0, 2, 3) }, log)
    assert.are.equal(1, b.n_arrived)
    assert.are.equal(0, b.n_waiting)
    b:wait(listener(log, "w"))
    b:arrive()
    run_loop()
    assert.are.equal("w 0", log[2])
    assert.are.equal(1, b.generation)
  end)

  it("does not keep its barrier alive", function()
    assert.is_true(collected(function()
      local b = barrier.new(3)
      b:arrive()
      b:arrive()
      return b
    end))
  end)
end)

describe("the positions of a trip to which some came without waiting", function()
  it("go to the waiters alone, in order of arrival, without gaps", function()
    local b, log = barrier.new(6), {}
    b:arrive()
    b:wait(listener(log, "a"))
    b:arrive()
    party(b, "b", log)
    local gone = b:wait(nobody)
    gone:close()
    b:wait(listener(log, "c"))
    b:arrive()
    run_loop()
    assert.are.same({ "a 0", "b 1", "c 2" }, log)
  end)

  it("end with that of a last arrival, which passes at once", function()
    local b, log = barrier.new(4), {}
    b:wait(listener(log, "w"))
    b:arrive()
    b:arrive()
    party(b, "last", log)
    assert.are.same({ "last 1" }, log)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "last 1", "w 0" }, log)
  end)

  it("are just 0 if only the last arrival waits: the barrier is filling at once", function()
    local b, log = barrier.new(3), {}
    b:arrive()
    b:arrive()
    party(b, "only", log)
    assert.are.same({ "only 0" }, log)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.generation)
    assert.is_false(uv.loop_alive())
    b:arrive()
    b:arrive()
    b:wait(listener(log, "callback"))
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "only 0", "callback 0" }, log)
  end)
end)

describe("arrive(n)", function()
  ---The call has to raise this argument error, and to change nothing.
  local function refused(b, n, message)
    local before = tostring(b) .. b.generation
    local ok, err = pcall(b.arrive, b, n)
    assert.is_false(ok)
    assert.is_truthy(err:find("bad argument #1 to 'arrive' (" .. message, 1, true), err)
    assert.are.equal(before, tostring(b) .. b.generation)
  end

  it("counts n parties, one if n is nil", function()
    local b = barrier.new(9)
    assert.are.same({ n = 1, true }, pack(b:arrive(3)))
    b:arrive(nil)
    b:arrive(2.0)
    assert.are.equal(6, b.n_arrived)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(0, b.generation)
  end)

  it("trips the barrier with the last of them", function()
    local b, log = barrier.new(4), {}
    b:wait(listener(log, "w"))
    assert.are.same({ n = 1, true }, pack(b:arrive(3)))
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w 0" }, log)
    assert.are.equal(0, b.n_arrived)
    b:arrive(4)
    assert.are.equal(2, b.generation)
  end)

  it("runs the action once, for all of them", function()
    local log = {}
    local b = barrier.new(3, { action = function(self)
      add(log, self.n_arrived .. " of " .. self.parties)
    end })
    b:arrive(3)
    assert.are.same({ "3 of 3" }, log)
  end)

  it("is an error if fewer have yet to arrive, while filling", function()
    local b, log = barrier.new(4), {}
    refused(b, 5, "only 4 of 4 parties have yet to arrive)")
    b:arrive(2)
    b:wait(listener(log, "w"))
    refused(b, 2, "only 1 of 4 parties have yet to arrive)")
    refused(b, 2 ^ 31, "only 1 of 4 parties have yet to arrive)")
    b:arrive(1)
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)

  it("is an error for more than all parties, while draining, resetting or broken", function()
    local log = {}
    local b = draining(3, log)
    refused(b, 4, "only 3 of 3 parties have yet to arrive)")
    b:arrive(3)
    b:reset()
    refused(b, 4, "only 3 of 3 parties have yet to arrive)")
    b:abort "why"
    refused(b, 4, "only 3 of 3 parties have yet to arrive)")
    local arrived, err = b:arrive(3)
    assert.is_nil(arrived)
    assert.are.equal("why", err.reason)
  end)

  it("is an error for anything but an integer >= 1", function()
    local b = barrier.new(4)
    for _, n in ipairs { 0, -1, 1.5, 1 / 0, "2", true, {}, nobody } do
      refused(b, n, "n must be an integer >= 1, got ")
    end
  end)

  it("passes alone without parties, one at a time", function()
    local b = barrier.new(1)
    b:deregister()
    local before = b.generation
    refused(b, 2, "with no party left, one arrives at a time)")
    assert.is_true(b:arrive(1))
    assert.are.equal(before + 1, b.generation)
  end)

  it("is n single arrivals while blocked, which may belong to two phases", function()
    local log = {}
    local b = draining(3, log)
    b:wait(listener(log, "x"))
    b:arrive(3)
    b:wait(listener(log, "y"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 2", "x 0" }, log)
    assert.are.equal(2, b.generation)
    assert.are.equal(2, b.n_arrived)
    b:arrive()
    run_loop()
    assert.are.equal("y 0", log[5])
  end)

  it("begins the time of a phase", function()
    local b, log = barrier.new(4, { timeout = 1 }), {}
    b:await_trip(listener(log, "watcher"))
    b:arrive(3)
    run_loop()
    assert.are.same({ "watcher" .. ABORTED .. ": timed out after 1 ms, 3 of 4 had arrived" }, log)
  end)

  it("counts for a barrier of as many parties as can be", function()
    local b = barrier.new(2147483647)
    b:arrive(2147483646)
    assert.are.equal(2147483646, b.n_arrived)
    b:arrive()
    assert.are.equal(1, b.generation)
  end)
end)

describe("n_arrived", function()
  it("counts those that have arrived in a phase, waiting or not", function()
    local b, seen = barrier.new(4), {}
    add(seen, b.n_arrived)
    for _, argument in ipairs { nobody, false, nobody } do
      if argument then
        b:wait(argument)
      else
        b:arrive()
      end
      add(seen, b.n_arrived)
    end
    assert.are.same({ 0, 1, 2, 3 }, seen)
    assert.are.equal(2, b.n_waiting)
    if math.type then
      assert.are.equal("integer", math.type(b.n_arrived))
    end
  end)

  it("is 0 while the barrier is draining, resetting or broken", function()
    local b = draining(2, {})
    b:wait(nobody)
    b:arrive()
    assert.are.equal(0, b.n_arrived)
    b:reset()
    assert.are.equal("resetting", b.state)
    assert.are.equal(0, b.n_arrived)
    run_loop()
    b = barrier.new(3)
    b:arrive()
    b:wait(nobody)
    b:abort()
    assert.are.equal(0, b.n_arrived)
    run_loop()
    assert.are.equal(0, b.n_arrived)
  end)

  it("is in the barrier's tostring if some did not wait", function()
    local b = barrier.new(5)
    local function shown()
      return tostring(b):match "%[.*%]"
    end
    b:wait(nobody)
    assert.are.equal("[filling, waiters:1/5]", shown())
    b:arrive()
    assert.are.equal("[filling, waiters:1/5, arrived:2]", shown())
    b:arrive()
    b:wait(nobody)
    assert.are.equal("[filling, waiters:2/5, arrived:4]", shown())
    b:wait(nobody)
    assert.are.equal("[draining, waiters:0/5]", shown())
    run_loop()
    assert.are.equal("[filling, waiters:0/5]", shown())
    b:arrive()
    assert.are.equal("[filling, waiters:0/5, arrived:1]", shown())
    b:abort()
    assert.are.equal("[broken]", shown())
  end)
end)

describe("an arrival without waiting while the barrier drains", function()
  it("is blocked, and counts in the next phase", function()
    local log = {}
    local b = draining(2, log)
    assert.are.same({ n = 1, true }, pack(b:arrive()))
    assert.are.equal("draining", b.state)
    assert.are.equal(0, b.n_arrived)
    assert.are.equal(2, #b:waiters())
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(1, b.n_arrived)
    assert.are.equal(0, b.n_waiting)
    b:wait(listener(log, "w3"))
    assert.are.equal(2, b.generation)
    run_loop()
    assert.are.equal("w3 0", log[3])
  end)

  it("keeps its place among those that wait", function()
    local log = {}
    local b = draining(2, log)
    b:wait(listener(log, "a"))
    b:arrive()
    b:wait(listener(log, "b"))
    b:wait(listener(log, "c"))
    b:arrive()
    b:wait(listener(log, "d"))
    b:arrive()
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "a 0", "b 0", "c 1", "d 0" }, log)
    assert.are.equal(1, b.n_arrived)
    assert.are.equal(4, b.generation)
  end)

  it("is let in only as far as the phase needs it", function()
    local log = {}
    local b = draining(3, log)
    b:arrive()
    b:wait(listener(log, "a"))
    for _ = 1, 3 do
      b:arrive()
    end
    run_loop()
    assert.are.equal("a 0", log[4])
    assert.are.equal(2, b.generation)
    assert.are.equal(2, b.n_arrived)
  end)

  it("is let in before later arrivals", function()
    local log = {}
    local b = draining(3, log)
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.equal(2, b.n_arrived)
    party(b, "last", log)
    assert.are.equal("last 0", log[4])
    assert.are.equal("filling", b.state)
  end)

  it("trips the barrier again and again if there are enough, once a turn", function()
    local b, generations = nil, {}
    b = barrier.new(2, { schedule = function(drain)
      add(generations, b.generation)
      drain()
    end })
    for _ = 1, 2 do
      b:wait(nobody)
    end
    for _ = 1, 7 do
      b:arrive()
    end
    run_loop()
    assert.are.same({ 1, 2, 3, 4 }, generations)
    assert.are.equal(4, b.generation)
    assert.are.equal(1, b.n_arrived)
  end)

  it("comes after the blocked if the last leaver makes it", function()
    local log = {}
    local b = barrier.new(3)
    b:wait(nobody)
    b:wait(nobody)
    b:wait(function()
      assert.are.equal("filling", b.state)
      assert.is_true(b:arrive())
      assert.are.equal(0, b.n_arrived)
      assert.are.equal(0, b.n_waiting)
    end)
    b:wait(listener(log, "blocked 1"))
    b:wait(listener(log, "blocked 2"))
    run_loop()
    assert.are.same({ "blocked 1 0", "blocked 2 1" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("is let in on the next turn if the last one inside leaves early", function()
    local b = barrier.new(2)
    local first, second = b:wait(nobody), b:wait(nobody)
    b:arrive()
    first:close()
    second:close()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_arrived)
    b:arrive()
    assert.are.equal(0, b.n_arrived)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.equal(0, b.n_arrived)
    assert.are.equal(2, b.generation)
  end)

  it("is let in a turn after a trip that lets nobody out", function()
    local b, turns = counted(1)
    b:wait(nobody)
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.equal(3, b.generation)
    assert.are.equal(2, turns())
    assert.are.equal("filling", b.state)
    assert.is_false(uv.loop_alive())
  end)
end)

describe("reset", function()
  it("forgets arrivals without waiting", function()
    local b = barrier.new(3)
    b:arrive()
    b:arrive()
    b:reset()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_arrived)
    assert.is_false(uv.loop_alive())
    b:arrive()
    assert.are.equal(0, b.generation)
    assert.are.equal(1, b.n_arrived)
  end)

  it("forgets them even if others wait, which fail", function()
    local b, log = barrier.new(3), {}
    b:arrive()
    b:wait(listener(log, "w"))
    b:reset()
    b:arrive()
    assert.are.equal("resetting", b.state)
    assert.are.equal(0, b.n_arrived)
    run_loop()
    assert.are.same({ "w" .. RESET }, log)
    assert.are.equal(1, b.n_arrived)
  end)

  it("leaves blocked arrivals blocked", function()
    local log = {}
    local b = draining(2, log)
    b:arrive()
    b:reset()
    run_loop()
    assert.are.same({ "w1" .. RESET, "w2" .. RESET }, log)
    assert.are.equal(1, b.n_arrived)
  end)
end)

describe("abort", function()
  it("forgets arrivals without waiting, including the blocked", function()
    local log = {}
    local b = draining(2, log)
    b:arrive()
    b:abort()
    run_loop()
    b:reset()
    assert.are.equal(0, b.n_arrived)
    b:arrive()
    b:abort()
    b:reset()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_arrived)
    assert.are.same({ "w1" .. ABORTED, "w2" .. ABORTED }, log)
  end)

  it("spares the blocked if a reset follows in the same turn", function()
    local log = {}
    local b = draining(2, log)
    b:arrive()
    b:abort()
    b:reset()
    run_loop()
    assert.are.same({ "w1" .. RESET, "w2" .. RESET }, log)
    assert.are.equal(1, b.n_arrived)
  end)

  it("forgets the blocked in their turn: a reset before that spares them", function()
    for which = 1, 2 do
      local b = draining(2, {})
      local function reset()
        b:reset()
      end
      if which == 1 then
        b:wait(reset)
        b:arrive()
      else
        b:arrive()
        b:wait(reset)
      end
      b:abort()
      run_loop()
      assert.are.equal(2 - which, b.n_arrived)
      assert.are.equal("filling", b.state)
    end
  end)
end)

describe("arrive on a broken barrier", function()
  it("returns nil and an error, a new one each time", function()
    local b, reason = barrier.new(2), {}
    b:abort(reason)
    local first, second = pack(b:arrive()), pack(b:arrive())
    for _, results in ipairs { first, second } do
      assert.are.equal(2, results.n)
      assert.is_nil(results[1])
      assert.is_true(getmetatable(results[2]) == barrier.BrokenBarrierError)
      assert.are.equal("barrier aborted", results[2].message)
      assert.are.equal(b, results[2].barrier)
      assert.are.equal(reason, results[2].reason)
    end
    assert.is_false(rawequal(first[2], second[2]))
  end)

  it("is not counted, and starts nothing", function()
    local b = barrier.new(2)
    b:abort()
    b:arrive()
    b:arrive()
    assert.are.equal("broken", b.state)
    assert.are.equal(0, b.generation)
    assert.is_false(uv.loop_alive())
    b:reset()
    assert.are.equal(0, b.n_arrived)
    assert.is_true(b:arrive())
    assert.are.equal(1, b.n_arrived)
  end)
end)

describe("the action of a trip by arrive", function()
  it("runs within the call, before anybody goes on", function()
    local log = {}
    local b = barrier.new(4, { action = function(self)
      add(log, self.state .. " " .. self.n_waiting .. " " .. self.n_arrived .. " "
        .. #self:waiters() .. " " .. self.generation)
      assert.is_truthy(tostring(self):find("[filling, waiters:2/4, arrived:4]", 1, true))
    end })
    b:wait(listener(log, "w1"))
    b:arrive()
    b:wait(listener(log, "w2"))
    assert.is_true(b:arrive())
    assert.are.same({ "filling 2 4 2 0" }, log)
    run_loop()
    assert.are.same({ "filling 2 4 2 0", "w1 0", "w2 1" }, log)
  end)

  it("makes arrive return its error, which is the others' reason", function()
    local log, calls, thrown = {}, 0, {}
    local b = barrier.new(2, { action = function()
      calls = calls + 1
      error(thrown)
    end })
    b:wait(function(err)
      add(log, err.reason)
    end)
    local results = pack(b:arrive())
    assert.are.equal(2, results.n)
    assert.is_nil(results[1])
    assert.is_true(rawequal(thrown, results[2]))
    assert.is_true(b.broken)
    assert.are.equal(0, b.generation)
    run_loop()
    assert.are.same({ thrown }, log)
    assert.is_true(rawequal(thrown, select(2, b:arrive()).reason))
    assert.are.equal(1, calls)
  end)

  it("does not have its error reported, since arrive returns it", function()
    local b = barrier.new(1, { action = function()
      error("returned", 0)
    end })
    assert.are.same({ n = 2, nil, "returned" }, pack(b:arrive()))
    run_loop()
    b:reset()
    assert.are.equal("filling", b.state)
  end)

  for method, message in pairs { reset = "barrier reset", abort = "barrier aborted" } do
    it("that calls " .. method .. " makes arrive return that error", function()
      local log = {}
      local b = barrier.new(2, { action = function(self)
        self[method](self, method == "abort" and "why" or nil)
      end })
      b:wait(listener(log, "w"))
      local results = pack(b:arrive())
      assert.are.equal(2, results.n)
      assert.is_nil(results[1])
      local err = results[2]
      assert.is_true(getmetatable(err) == barrier.BrokenBarrierError)
      assert.are.equal(message, err.message)
      assert.are.equal(b, err.barrier)
      assert.are.equal(method == "abort" and "why" or nil, err.reason)
      assert.are.equal(0, b.generation)
      run_loop()
      assert.are.same({ "w " .. tostring(err) }, log)
    end)
  end

  it("that calls both makes it return the later one's", function()
    for _, order in ipairs { { "reset", "abort", ABORTED }, { "abort", "reset", RESET } } do
      local b = barrier.new(1, { action = function(self)
        self[order[1]](self)
        self[order[2]](self)
      end })
      local passed, err = b:arrive()
      assert.is_nil(passed)
      assert.are.equal(order[3], " " .. tostring(err))
      assert.are.equal(order[2] == "abort" and "broken" or "filling", b.state)
      assert.are.equal(0, b.n_arrived)
    end
  end)

  it("that resets and deregisters all parties makes it return the error too", function()
    local b = barrier.new(1, { action = function(self)
      self:reset()
      self:deregister()
    end })
    local passed, err = b:arrive()
    assert.is_nil(passed)
    assert.are.equal("barrier reset", err.message)
    assert.are.equal(0, b.generation)
    assert.are.equal(0, b.parties)
  end)

  it("that takes the parties out trips the barrier all the same", function()
    local log, calls, first = {}, 0, nil
    local b = barrier.new(3, { action = function(self)
      calls = calls + 1
      first:close()
      assert.are.equal(2, self.n_arrived)
      assert.are.equal(1, self.n_waiting)
    end })
    first = b:wait(listener(log, "first"))
    b:wait(listener(log, "second"))
    assert.is_true(b:arrive())
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "second 0" }, log)
    assert.are.equal(0, b.n_arrived)
    assert.are.equal(1, calls)
  end)

  it("blocks those that arrive meanwhile", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        assert.is_true(self:arrive())
        assert.are.equal(2, self.n_arrived)
      end
    end })
    b:wait(listener(log, "w1"))
    b:arrive()
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w1 0" }, log)
    assert.are.equal(1, b.n_arrived)
    b:arrive()
    assert.are.equal(2, calls)
    assert.are.equal(2, b.generation)
  end)

  it("lets them in on the next turn even if the trip lets nobody out", function()
    local calls = 0
    local b, turns = counted(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        self:arrive()
      end
    end })
    b:arrive()
    b:arrive()
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_arrived)
    assert.is_true(uv.loop_alive())
    run_loop()
    assert.are.equal(1, turns())
    assert.are.equal(1, b.n_arrived)
  end)

  it("may arrive at another barrier, and trip it", function()
    local log = {}
    local other = barrier.new(2)
    local b = barrier.new(1, { action = function()
      other:arrive()
    end })
    other:wait(listener(log, "w"))
    b:arrive()
    assert.are.equal(1, other.generation)
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)
end)

describe("a blocked arrival that is let in as the last", function()
  ---A barrier for two whose second trip, by a party that waits and one that does not, runs
  ---`action` in the turn.
  local function let_in(log, action)
    local calls = 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 2 then
        action(self)
      end
    end })
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    b:arrive()
    run_loop()
    return b
  end

  it("runs the action in the turn", function()
    local log = {}
    local b = let_in(log, function(self)
      add(log, "action " .. self.state .. " " .. self.n_waiting .. " " .. self.n_arrived)
    end)
    assert.are.same({ "w1 0", "w2 1", "action filling 1 2", "w3 0" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("leaves the action's error to the waiters alone", function()
    local log = {}
    let_in(log, function()
      error("boom", 0)
    end)
    assert.are.same({ "w1 0", "w2 1", "w3" .. ABORTED .. ": boom" }, log)
  end)

  it("leaves it to a blocked waiter too", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      if #log == 2 then
        self:wait(listener(log, "blocked"))
        error("boom", 0)
      end
    end })
    for i = 1, 2 do
      b:wait(listener(log, "w" .. i))
    end
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "blocked" .. ABORTED .. ": boom" }, log)
  end)

  it("leaves it to a blocked waiter even after blocked arrivals were forgotten", function()
    local log, failing = {}, false
    local b = barrier.new(1, { action = function(self)
      if failing then
        self:wait(listener(log, "blocked"))
        error("boom", 0)
      end
    end })
    b:wait(nobody)
    b:arrive()
    b:abort()
    run_loop()
    b:reset()
    b:wait(function()
      failing = true
    end)
    b:arrive()
    run_loop()
    assert.are.same({ "blocked" .. ABORTED .. ": boom" }, log)
  end)

  it("has the action's error reported even if another arrival is blocked", function()
    local err = support.report_of [[
      local calls = 0
      local b = barrier.new(1, { action = function()
        calls = calls + 1
        if calls == 2 then error("nobody's", 0) end
      end })
      b:wait(function() end)
      for _ = 1, 5 do b:arrive() end
      uv.run()
    ]]
    assert.is_truthy(err:find("nobody's", 1, true), err)
  end)

  it("has the action's error reported if nobody waits", function()
    local err, out = support.report_of [[
      local calls = 0
      local function deep() error "nobody's" end
      local b = barrier.new(2, { action = function()
        calls = calls + 1
        if calls == 2 then deep() end
      end })
      for _ = 1, 2 do b:wait(function(_, position) print(position) end) end
      for _ = 1, 2 do b:arrive() end
      uv.run()
      print "not reached"
    ]]
    assert.are.equal("0\n1\n", out)
    assert.are.equal(1, select(2, err:gsub("nobody's", "")), err)
    assert.is_truthy(err:find("stack traceback", 1, true), err)
  end)
end)

describe("the waiters that an arrive lets out", function()
  it("resume where schedule says", function()
    local log = {}
    local b, drains = keeping(2)
    b:wait(listener(log, "w"))
    b:arrive()
    run_loop()
    assert.are.same({}, log)
    drains[1]()
    assert.are.same({ "w 0" }, log)
  end)

  it("fail if the barrier is reset or aborted before they have resumed", function()
    for method, expected in pairs { reset = RESET, abort = ABORTED } do
      local b, log = barrier.new(3), {}
      b:wait(listener(log, "w1"))
      b:wait(listener(log, "w2"))
      b:arrive()
      b[method](b)
      run_loop()
      assert.are.same({ "w1" .. expected, "w2" .. expected }, log)
    end
  end)
end)
