local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local pack, party, patient = support.pack, support.party, support.patient

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"
local MOST = 2 ^ 31 - 1

local function nobody() end

---What a barrier shows of itself.
local function shown(b)
  return table.concat({ tostring(b), b.parties, b.n_arrived, b.generation, #b:waiters() }, " ")
end

---Calls a method that has to raise an argument error and to change nothing; the message.
local function refused(b, method, ...)
  local before = shown(b)
  local ok, message = pcall(b[method], b, ...)
  assert.is_false(ok)
  assert.is_truthy(message:find("bad argument #1 to '" .. method .. "'", 1, true), message)
  assert.are.equal(before, shown(b))
  return message
end

describe("register", function()
  it("adds a party, or several, and returns nothing", function()
    local b = barrier.new(2)
    assert.are.equal(0, select("#", b:register()))
    assert.are.equal(3, b.parties)
    assert.are.equal(0, select("#", b:register(2)))
    assert.are.equal(5, b.parties)
    b:register(nil)
    b:register(2.0)
    assert.are.equal(8, b.parties)
    if math.type then
      assert.are.equal("integer", math.type(b.parties))
    end
    assert.is_truthy(tostring(b):find("waiters:0/8", 1, true))
  end)

  it("makes the phase that is filling wait for them too", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w1"))
    b:register()
    b:wait(listener(log, "w2"))
    assert.are.equal("filling", b.state)
    assert.are.equal(2, b.n_waiting)
    b:register(2)
    b:arrive()
    b:wait(listener(log, "w3"))
    assert.are.equal(0, b.generation)
    b:wait(listener(log, "w4"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 2", "w4 3" }, log)
  end)

  it("does not affect a trip that has happened, but those let in after it", function()
    local b, log = barrier.new(2), {}
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    b:register()
    assert.are.equal(3, b.parties)
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(2, b.n_waiting)
    b:wait(listener(log, "w5"))
    run_loop()
    assert.are.same({ "w3 0", "w4 1", "w5 2" }, { log[3], log[4], log[5] })
  end)

  it("works on a barrier that is reset or broken", function()
    local b = barrier.new(1)
    b:register()
    b:wait(nobody)
    b:reset()
    b:register()
    assert.are.equal("resetting", b.state)
    b:abort()
    assert.are.equal(0, select("#", b:register()))
    assert.are.equal(4, b.parties)
    assert.is_true(b.broken)
    run_loop()
    b:reset()
    for _ = 1, 3 do
      b:arrive()
    end
    assert.are.equal(0, b.generation)
    b:arrive()
    assert.are.equal(1, b.generation)
  end)

  it("starts nothing", function()
    local b = barrier.new(1)
    b:register()
    assert.is_false(uv.loop_alive())
  end)
end)

describe("deregister", function()
  it("removes a party, or several, that have yet to arrive, and returns true", function()
    local b = barrier.new(9)
    b:wait(nobody)
    b:arrive()
    assert.are.same({ n = 1, true }, pack(b:deregister()))
    assert.are.equal(8, b.parties)
    assert.are.same({ n = 1, true }, pack(b:deregister(2)))
    b:deregister(nil)
    b:deregister(1.0)
    assert.are.equal(4, b.parties)
    assert.are.equal("filling", b.state)
    assert.are.equal(2, b.n_arrived)
    assert.are.equal(0, b.generation)
    assert.is_false(uv.loop_alive())
  end)

  it("trips the barrier if all that are left have arrived", function()
    local b, log = barrier.new(4), {}
    b:wait(listener(log, "w1"))
    b:arrive()
    party(b, "w2", log)
    assert.are.same({ n = 1, true }, pack(b:deregister()))
    assert.are.same({}, log)
    assert.are.equal("draining", b.state)
    assert.are.equal(1, b.generation)
    assert.are.equal(3, b.parties)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal("filling", b.state)
  end)

  it("trips one in which nobody waits, which is then filling at once", function()
    local b = barrier.new(3)
    b:arrive()
    b:arrive()
    assert.is_true(b:deregister())
    assert.are.equal(1, b.generation)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_arrived)
    assert.is_false(uv.loop_alive())
  end)

  it("does not trip one to which nobody has come, unless no party is left", function()
    local b = barrier.new(3)
    b:deregister(2)
    assert.are.equal(0, b.generation)
    b:deregister()
    assert.are.equal(1, b.generation)
  end)

  it("is an error if fewer have yet to arrive, and changes nothing", function()
    local b, log = barrier.new(5), {}
    b:wait(listener(log, "w"))
    b:arrive()
    refused(b, "deregister", 4)
    refused(b, "deregister", 5)
    refused(b, "deregister", 2 ^ 31)
    assert.is_true(b:deregister(3))
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w 0" }, log)
  end)

  it("may remove all parties of the next phase while the barrier drains", function()
    local b, log = barrier.new(2), {}
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    refused(b, "deregister", 3)
    assert.are.same({ n = 1, true }, pack(b:deregister()))
    assert.are.equal("draining", b.state)
    assert.are.equal(1, b.parties)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 0" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("may remove them all while it is resetting", function()
    local b, log = barrier.new(3), {}
    b:wait(listener(log, "w"))
    b:reset()
    b:wait(listener(log, "blocked"))
    refused(b, "deregister", 4)
    assert.is_true(b:deregister(2))
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "w" .. RESET, "blocked 0" }, log)
  end)

  it("returns nil and the error on a broken barrier, but removes them", function()
    local b = barrier.new(3)
    b:abort("why")
    refused(b, "deregister", 4)
    for parties = 2, 0, -1 do
      local results = pack(b:deregister())
      assert.are.equal(2, results.n)
      assert.is_nil(results[1])
      assert.is_true(getmetatable(results[2]) == barrier.BrokenBarrierError)
      assert.are.equal("why", results[2].reason)
      assert.are.equal(b, results[2].barrier)
      assert.are.equal(parties, b.parties)
    end
    refused(b, "deregister")
    assert.are.equal(0, b.generation)
    assert.is_true(b.broken)
  end)

  it("does not count the blocked as arrived", function()
    local b, log = barrier.new(2), {}
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    b:arrive()
    assert.is_true(b:deregister(2))
    assert.are.equal(0, b.parties)
    b:register(3)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 0", "w4 1" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("trips the barrier even if others are blocked, which pass after that", function()
    local b, log = barrier.new(1), {}
    local inside = b:wait(nobody)
    b:wait(listener(log, "blocked"))
    inside:close()
    assert.are.equal("filling", b.state)
    assert.is_true(b:deregister())
    assert.are.equal(2, b.generation)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "blocked 0" }, log)
    assert.are.equal(3, b.generation)
  end)

  it("may be called by a party that has passed and does not come back", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      co(function()
        for round = 1, i do
          add(log, i .. " in round " .. round .. ": " .. b:wait())
        end
        b:deregister()
      end)
    end
    run_loop()
    assert.are.same({
      "3 in round 1: 2", "1 in round 1: 0", "2 in round 1: 1",
      "3 in round 2: 0", "2 in round 2: 1", "3 in round 3: 0",
    }, log)
    assert.are.equal(0, b.parties)
    assert.are.equal(4, b.generation)
    assert.are.same({}, b:waiters())
  end)
end)

describe("the action of a trip by deregister", function()
  it("runs within the call, before anybody goes on", function()
    local log = {}
    local b = barrier.new(4, { action = function(self)
      add(log, self.state .. " " .. self.n_waiting .. " " .. self.n_arrived .. " " .. self.parties)
    end })
    b:wait(listener(log, "w"))
    b:arrive()
    assert.is_true(b:deregister(2))
    assert.are.same({ "filling 1 2 2" }, log)
    run_loop()
    assert.are.same({ "filling 1 2 2", "w 0" }, log)
  end)

  it("makes deregister return its error, which is the others' reason", function()
    local log, thrown = {}, {}
    local b = barrier.new(2, { action = function()
      error(thrown)
    end })
    b:wait(function(err)
      add(log, err.reason)
    end)
    local results = pack(b:deregister())
    assert.are.equal(2, results.n)
    assert.is_nil(results[1])
    assert.is_true(rawequal(thrown, results[2]))
    assert.are.equal(1, b.parties)
    assert.is_true(b.broken)
    run_loop()
    assert.are.same({ thrown }, log)
  end)

  it("does not have its error reported, since deregister returns it", function()
    local b = barrier.new(2, { action = function()
      error("returned", 0)
    end })
    b:arrive()
    assert.are.same({ n = 2, nil, "returned" }, pack(b:deregister()))
    run_loop()
  end)

  it("that resets or aborts makes it return that error", function()
    for method, expected in pairs { reset = RESET, abort = ABORTED .. ": why" } do
      local log = {}
      local b = barrier.new(2, { action = function(self)
        self[method](self, method == "abort" and "why" or nil)
      end })
      b:wait(listener(log, "w"))
      local passed, err = b:deregister()
      assert.is_nil(passed)
      assert.are.equal(expected, " " .. tostring(err))
      assert.are.equal(0, b.generation)
      run_loop()
      assert.are.same({ "w" .. expected }, log)
    end
  end)
end)

describe("in an action", function()
  ---Two parties, the second of which trips the barrier with an action that is `f` once.
  local function acting(log, f, arrive)
    local calls = 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        f(self)
      end
    end })
    b:wait(listener(log, "w1"))
    if arrive then
      b:arrive()
    else
      b:wait(listener(log, "w2"))
    end
    return b
  end

  it("register counts from the next phase on", function()
    local log = {}
    local b = acting(log, function(self)
      self:register(2)
      assert.are.equal(4, self.parties)
      assert.are.equal("filling", self.state)
    end)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    for _ = 1, 3 do
      b:arrive()
    end
    assert.are.equal(1, b.generation)
    b:arrive()
    assert.are.equal(2, b.generation)
  end)

  it("deregister may remove all parties of the next phase, and trips nothing", function()
    local log = {}
    local b = acting(log, function(self)
      refused(self, "deregister", 3)
      assert.are.same({ n = 1, true }, pack(self:deregister(2)))
      assert.are.equal(0, self.parties)
      assert.are.equal(0, self.generation)
      assert.are.equal(2, self.n_waiting)
    end)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(1, b.generation)
  end)

  it("deregister counts from the next phase on, also if a party is taken out", function()
    local log = {}
    local b = acting(log, function(self)
      self:waiters()[1]:close()
      self:deregister()
    end)
    assert.are.equal(1, b.generation)
    assert.are.equal(1, b.parties)
    run_loop()
    assert.are.same({ "w2 0" }, log)
  end)

  it("register counts from the next phase on, also if a party is taken out", function()
    local log = {}
    local b = acting(log, function(self)
      self:register()
      self:waiters()[1]:close()
    end, true)
    assert.are.equal(1, b.generation)
    assert.are.equal(3, b.parties)
    assert.are.equal(0, b.n_arrived)
    run_loop()
    b:arrive()
    b:arrive()
    assert.are.equal(1, b.generation)
    b:arrive()
    assert.are.equal(2, b.generation)
  end)
end)

describe("a barrier without parties", function()
  ---A barrier that had one, with an action that counts its trips.
  local function without(action)
    local b = barrier.new(1, { action = action })
    assert.is_true(b:deregister())
    assert.are.equal(0, b.parties)
    assert.are.equal(1, b.generation)
    return b
  end

  it("was tripped by the last deregister, and its action has run", function()
    local calls = 0
    local b = without(function(self)
      calls = calls + 1
      assert.are.equal(0, self.n_arrived)
      assert.are.equal("filling", self.state)
    end)
    assert.are.equal(1, calls)
    assert.are.equal("filling", b.state)
    assert.is_truthy(tostring(b):find("[filling, waiters:0/0]", 1, true))
    run_loop()
    assert.is_false(uv.loop_alive())
  end)

  it("has no party to remove", function()
    refused(without(), "deregister")
  end)

  it("lets each arrival pass alone, in every style", function()
    local b, log = without(), {}
    party(b, "coroutine", log)
    assert.are.same({ "coroutine 0" }, log)
    assert.are.equal(2, b.generation)
    assert.is_true(b:arrive())
    assert.are.equal(3, b.generation)
    b:wait(listener(log, "callback 1"))
    assert.are.equal("draining", b.state)
    b:wait(listener(log, "callback 2"))
    run_loop()
    assert.are.same({ "coroutine 0", "callback 1 0", "callback 2 0" }, log)
    assert.are.equal(5, b.generation)
  end)

  it("lets the blocked pass one by one, a turn each", function()
    local b, turns = support.counted(2)
    local log = {}
    for i = 1, 5 do
      b:wait(function(_, position)
        add(log, i .. " " .. position .. " in turn " .. turns())
      end)
    end
    b:deregister(2)
    run_loop()
    assert.are.same({
      "1 0 in turn 1", "2 1 in turn 1", "3 0 in turn 2", "4 0 in turn 3", "5 0 in turn 4",
    }, log)
  end)

  it("waits for parties again once some register", function()
    local b = without()
    b:register(2)
    b:arrive()
    assert.are.equal(1, b.generation)
    assert.are.equal(1, b.n_arrived)
    b:arrive()
    assert.are.equal(2, b.generation)
  end)

  it("cannot be made", function()
    assert.is_false((pcall(barrier.new, 0)))
  end)

  it("can be reset and aborted", function()
    local b, log = without(), {}
    b:abort("why")
    patient(b, "w", log)
    run_loop()
    assert.are.same({ "w" .. ABORTED .. ": why" }, log)
    b:reset()
    assert.is_true(b:arrive())
    assert.are.equal(2, b.generation)
  end)
end)

describe("the number of parties that register and deregister take", function()
  it("must be an integer >= 1: anything else is an error that says so", function()
    for _, method in ipairs { "register", "deregister" } do
      local b = barrier.new(3)
      b:arrive()
      for _, bad in ipairs { 0, -1, 0.5, 1 / 0, -1 / 0, 0 / 0, "1", true, false, {}, print } do
        local message = refused(b, method, bad)
        assert.is_truthy(message:find("an integer >= 1", 1, true), message)
        assert.is_truthy(message:find("got " .. (type(bad) == "number" and tostring(bad)
          or type(bad)), 1, true), message)
      end
      local ok, message = pcall(function()
        b[method](b, 0)
      end)
      assert.is_false(ok)
      assert.is_truthy(message:find("^%S*register_spec%.lua:%d+: bad argument"), message)
    end
  end)

  it("may not make more than 2^31 - 1 parties", function()
    local b = barrier.new(MOST)
    refused(b, "register")
    refused(b, "register", MOST)
    assert.is_true(b:deregister(2))
    b:register()
    refused(b, "register", 2)
    b:register()
    assert.are.equal(MOST, b.parties)
    b = barrier.new(1)
    refused(b, "register", 2 ^ 31)
    refused(b, "register", 2 ^ 32)
    refused(b, "register", 2 ^ 53)
    refused(b, "register", MOST)
    b:register(MOST - 1)
    assert.are.equal(MOST, b.parties)
  end)
end)
