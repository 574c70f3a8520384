local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local patient, timed_out = support.patient, support.timed_out
local it_catches, it_closes, it_nests = support.it_catches, support.it_closes, support.it_nests

local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"

local function nobody() end

---Waits in a new coroutine as the last arrival, which passes. Returns how the wait ended.
local function last_arrival(b)
  return coroutine.resume(coroutine.create(function()
    return b:wait()
  end))
end

describe("the action", function()
  it("is called with the barrier, once for each trip", function()
    local calls, args = 0, nil
    local b = barrier.new(2, { action = function(...)
      calls = calls + 1
      args = { n = select("#", ...), ... }
    end })
    for trip = 1, 3 do
      b:wait(nobody)
      assert.are.equal(trip - 1, calls)
      b:wait(nobody)
      assert.are.equal(trip, calls)
      assert.are.same({ n = 1, b }, args)
      run_loop()
      assert.are.equal(trip, calls)
    end
  end)

  it("runs before anyone is let out, while all are waiting and the barrier is filling", function()
    local log = {}
    local b = barrier.new(3, { action = function(self)
      add(log, self.state .. " " .. self.n_waiting .. " " .. self.generation)
      assert.are.equal(3, #self:waiters())
      assert.is_false(self.broken)
      assert.is_truthy(tostring(self):find("[filling, waiters:3/3]", 1, true))
    end })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    co(function()
      add(log, "last " .. b:wait())
      assert.are.equal("draining", b.state)
      assert.are.equal(1, b.generation)
    end)
    run_loop()
    assert.are.same({ "filling 3 0", "last 2", "w1 0", "w2 1" }, log)
  end)

  it("runs in the last arrival", function()
    local runner
    local b = barrier.new(2, { action = function()
      runner = coroutine.running()
    end })
    b:wait(nobody)
    local x = co(function()
      b:wait()
    end)
    assert.are.equal(x, runner)
    run_loop()
    runner = nil
    b:wait(nobody)
    x = co(function()
      b:wait(nobody)
    end)
    assert.are.equal(x, runner)
    run_loop()
  end)

  it("runs within the wait of a last arrival in callback style", function()
    local log = {}
    local b = barrier.new(2, { action = function()
      add(log, "action")
    end })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    add(log, "returned")
    run_loop()
    assert.are.same({ "action", "returned", "w1 0", "w2 1" }, log)
  end)

  it("runs when a blocked waiter is let in as the last arrival", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      add(log, "action " .. self.state .. " " .. self.n_waiting .. " " .. #self:waiters())
    end })
    for i = 1, 5 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({
      "action filling 2 2",
      "w1 0",
      "w2 1",
      "action filling 2 3",
      "w3 0",
      "w4 1",
    }, log)
    assert.are.equal(2, b.generation)
  end)

  it("runs for each trip of a barrier for one party", function()
    local calls = 0
    local b = barrier.new(1, { action = function(self)
      calls = calls + 1
      assert.are.equal(1, self.n_waiting)
    end })
    co(function()
      for _ = 1, 3 do
        assert.are.equal(0, b:wait())
      end
    end)
    assert.are.equal(3, calls)
    assert.are.equal(3, b.generation)
  end)

  it("does not run after reset, abort or cancel, or on a broken barrier", function()
    local calls = 0
    local b = barrier.new(2, { action = function()
      calls = calls + 1
    end })
    b:wait(nobody)
    b:reset()
    run_loop()
    b:wait(nobody):close()
    b:wait(nobody)
    b:abort()
    b:wait(nobody)
    b:wait(nobody)
    run_loop()
    assert.are.equal(0, calls)
  end)

  it("may be anything callable, and its results are ignored", function()
    local calls = {}
    local b = barrier.new(1, { action = setmetatable({}, { __call = function(_, ...)
      add(calls, { ... })
      return false, "ignored"
    end }) })
    assert.are.same({ true, 0 }, { last_arrival(b) })
    assert.are.same({ { b } }, calls)
  end)

  it("may not yield", function()
    local b, log = barrier.new(1, { action = function()
      coroutine.yield()
    end }), {}
    patient(b, "last", log)
    assert.is_true(b.broken)
    run_loop()
    assert.are.equal(1, #log)
    assert.is_truthy(log[1]:find("^last .*yield"), log[1])
  end)

  it("may not wait in coroutine style", function()
    local b
    b = barrier.new(1, { action = function()
      local ok, err = pcall(b.wait, b)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find("cannot wait here", 1, true))
    end })
    assert.are.same({ true, 0 }, { last_arrival(b) })
  end)
end)

describe("an action that raises", function()
  it("breaks the barrier: the last arrival gets the error, the others get a reason", function()
    local errors, thrown = {}, { "thrown" }
    local b = barrier.new(3, { action = function()
      error(thrown)
    end })
    local function keep(err)
      add(errors, err)
    end
    b:wait(keep)
    b:wait(keep)
    patient(b, "last", {})
    assert.is_true(b.broken)
    assert.are.equal(0, b.generation)
    assert.are.same({}, errors)
    support.last_error = nil
    run_loop()
    assert.is_true(rawequal(thrown, support.last_error))
    assert.are.equal(2, #errors)
    patient(b, "late", {})
    run_loop()
    add(errors, support.last_error)
    for i = 1, 3 do
      assert.is_true(getmetatable(errors[i]) == barrier.BrokenBarrierError)
      assert.is_true(rawequal(thrown, errors[i].reason))
      assert.are.equal(b, errors[i].barrier)
    end
    assert.is_false(rawequal(errors[1], errors[2]))
  end)

  it("passes its error to the callback of a last arrival", function()
    local errors, thrown = {}, { "thrown" }
    local b = barrier.new(2, { action = function()
      error(thrown)
    end })
    for i = 1, 2 do
      b:wait(function(...)
        assert.are.equal(1, select("#", ...))
        errors[i] = ...
      end)
    end
    assert.is_true(b.broken)
    assert.are.same({}, errors)
    run_loop()
    assert.are.equal(thrown, errors[2])
    assert.are.equal(thrown, errors[1].reason)
    assert.are.equal(0, b.generation)
  end)

  it("passes its error to a callback that is let in as the last arrival", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function()
      calls = calls + 1
      if calls == 2 then
        error("second", 0)
      end
    end })
    for i = 1, 5 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({
      "w1 0",
      "w2 1",
      "w3" .. ABORTED .. ": second",
      "w4 second",
      "w5" .. ABORTED .. ": second",
    }, log)
    assert.are.equal(1, b.generation)
  end)

  it_catches("raises its error in a coroutine that is let in as the last arrival", function()
    local log, calls, thrown, got = {}, 0, {}, nil
    local b = barrier.new(2, { action = function()
      calls = calls + 1
      if calls == 2 then
        error(thrown)
      end
    end })
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    co(function()
      local _, err = pcall(b.wait, b)
      got = err
    end)
    run_loop()
    assert.is_true(rawequal(thrown, got))
    assert.are.equal(3, #log)
    assert.are.equal("w1 0", log[1])
    assert.is_truthy(log[3]:find("w3" .. ABORTED, 1, true))
  end)

  it("fails the blocked too", function()
    local log, blocked = {}, nil
    local b = barrier.new(2, { action = function(self)
      blocked = self:wait(listener(log, "blocked"))
      error("thrown", 0)
    end })
    b:wait(listener(log, "w"))
    patient(b, "last", log)
    assert.is_truthy(blocked)
    run_loop()
    assert.are.same({
      "w" .. ABORTED .. ": thrown", "last thrown", "blocked" .. ABORTED .. ": thrown",
    }, log)
  end)

  it("may raise nil, or the error of a wait on another barrier", function()
    local b, log = barrier.new(1, { action = function()
      error(nil)
    end }), {}
    patient(b, "last", log)
    assert.is_true(b.broken)
    run_loop()
    assert.are.equal(1, #log)
    local other, thrown = barrier.new(1), nil
    other:abort("other")
    other:wait(function(err)
      thrown = err
    end)
    run_loop()
    b, log = barrier.new(2, { action = function()
      error(thrown)
    end }), {}
    b:wait(listener(log, "w"))
    patient(b, "last", log)
    run_loop()
    assert.are.same({
      "w" .. ABORTED .. ": BrokenBarrierError: barrier aborted: other",
      "last BrokenBarrierError: barrier aborted: other",
    }, log)
    assert.is_true(rawequal(thrown, support.last_error))
  end)

  it("may raise nil or false: every callback still gets an error", function()
    for _, raised in pairs { "nil", "false" } do
      local b = barrier.new(2, { action = function()
        error(raised == "false" and false or nil)
      end })
      local log = {}
      for i = 1, 2 do
        b:wait(listener(log, "w" .. i))
      end
      b:wait(listener(log, "broken"))
      run_loop()
      b:reset()
      for i = 1, 4 do -- the last two come to a broken barrier
        b:wait(listener(log, "w" .. i))
      end
      run_loop()
      assert.are.equal(7, #log)
      for _, line in ipairs(log) do
        -- Lua 5.5 turns a nil error into a string.
        assert.is_truthy(line:find(ABORTED, 1, true) or line:find "<no error object>$", line)
      end
    end
  end)

  it("runs again after a reset", function()
    local calls, log = 0, {}
    local b = barrier.new(1, { action = function()
      calls = calls + 1
      if calls == 1 then
        error("thrown", 0)
      end
    end })
    patient(b, "last", log)
    patient(b, "late", log)
    assert.are.equal(1, calls)
    run_loop()
    b:reset()
    b:wait(listener(log, "w"))
    run_loop()
    assert.are.same({ "late" .. ABORTED .. ": thrown", "last thrown", "w 0" }, log)
    assert.are.equal(1, b.generation)
  end)

  it("breaks the barrier even after it has called reset", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      self:reset()
      error("thrown", 0)
    end })
    b:wait(listener(log, "w"))
    patient(b, "last", log)
    assert.is_true(b.broken)
    run_loop()
    assert.are.same({ "w" .. ABORTED .. ": thrown", "last thrown" }, log)
  end)

  it("keeps the reason of its own abort", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      self:abort "why"
      error("thrown", 0)
    end })
    b:wait(listener(log, "w"))
    patient(b, "last", log)
    run_loop()
    b:wait(listener(log, "late"))
    run_loop()
    assert.are.same({
      "w" .. ABORTED .. ": why", "last thrown", "late" .. ABORTED .. ": why",
    }, log)
  end)

  it_catches("does not change the CancelledError of a last arrival that it cancelled", function()
    local log = {}
    local b = barrier.new(2, { action = function(self)
      self:cancel((coroutine.running()))
      error("thrown", 0)
    end })
    b:wait(listener(log, "w"))
    support.party(b, "last", log)
    run_loop()
    assert.are.same({
      "last CancelledError: wait cancelled", "w" .. ABORTED .. ": thrown",
    }, log)
    assert.is_true(b.broken)
  end)

  it("does not have its error reported if a party gets it as the reason", function()
    local enter = {
      function(b, log)
        b:register()
        b:wait(listener(log, "w"))
      end,
      function(b, log)
        b:await_trip(listener(log, "w"))
      end,
      nobody, -- the action itself begins a wait, which is blocked
    }
    for i = 1, 3 do
      local log = {}
      local b = barrier.new(1, { action = function(self)
        if i == 3 then
          self:wait(listener(log, "w"))
        end
        self:waiters()[self.parties]:close() -- the last arrival
        error("thrown", 0)
      end })
      enter[i](b, log)
      b:wait(nobody)
      run_loop()
      assert.are.same({ "w" .. ABORTED .. ": thrown" }, log)
    end
  end)

  it("has its error reported if the last arrival has left and nobody gets it", function()
    local result = support.chunk [[
      local calls, last = 0, nil
      local b = barrier.new(1, { action = function()
        calls = calls + 1
        if calls == 2 then
          last:close()
          error "nobody's"
        end
      end })
      b:wait(function(_, position) print(position) end)
      last = b:wait(print)
      uv.run()
    ]]
    assert.are.equal("0\n", result.out)
    assert.is_truthy(result.err:find("nobody's", 1, true))
  end)
end)

describe("an action that cancels the last arrival and raises", function()
  it("has its error reported, since nobody gets it", function()
    local err = support.report_of [[
      local b = barrier.new(1, { action = function(self)
        self:cancel((coroutine.running()))
        error "nobody's"
      end })
      coroutine.wrap(function() b:wait() end)()
      print "reached"
      uv.run()
    ]]
    assert.is_truthy(err:find("nobody's", 1, true), err)
    assert.is_nil(err:find("CancelledError", 1, true), err)
  end)
end)

describe("an action that closes the last arrival's Waiter and raises", function()
  it("has its error reported, since nobody gets it", function()
    local result = support.chunk [[
      local b = barrier.new(1, { action = function(self)
        self:waiters()[1]:close()
        error "nobody's"
      end })
      b:wait(print)
      uv.run()
    ]]
    assert.are.equal("", result.out)
    assert.is_truthy(result.err:find("nobody's", 1, true))
  end)
end)

describe("a party that arrives while the action runs", function()
  it("is blocked, and let in after the trip", function()
    local log = {}
    local b
    b = barrier.new(2, { action = function(self)
      if b.generation > 0 then
        return
      end
      for i = 1, 2 do
        self:wait(listener(log, "late" .. i))
      end
      co(function()
        add(log, "coroutine " .. self:wait())
      end)
      assert.are.equal("filling", self.state)
      assert.are.equal(2, self.n_waiting)
      assert.are.equal(5, #self:waiters())
    end })
    b:wait(listener(log, "w1"))
    assert.are.same({ true, 1 }, { last_arrival(b) })
    assert.are.equal("draining", b.state)
    run_loop()
    assert.are.same({ "w1 0", "late1 0", "late2 1" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it("is let in even if the trip lets no party out", function()
    local log = {}
    local b
    b = barrier.new(1, { action = function(self)
      if b.generation == 0 then
        self:wait(listener(log, "late"))
      end
    end })
    assert.are.same({ true, 0 }, { last_arrival(b) })
    assert.are.equal("filling", b.state)
    run_loop()
    assert.are.same({ "late 0" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("is let in on the next turn at the earliest", function()
    local log, calls = {}, 0
    local b = barrier.new(1, { action = function(self)
      calls = calls + 1
      add(log, "action " .. calls)
      if calls == 2 then
        self:wait(listener(log, "late"))
        self:reset()
      end
    end })
    b:wait(function()
      patient(b, "last", log)
    end)
    barrier.new(1):wait(listener(log, "another"))
    run_loop()
    assert.are.same({
      "action 1", "action 2", "another 0", "last" .. RESET, "action 3", "late 0",
    }, log)
  end)

  it("is let in on the next turn even if the trip of the others lets no party out", function()
    local seen, calls, first = {}, 0, nil
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 2 then
        first:close()
        self:arrive()
      end
    end })
    b:wait(nobody)
    b:wait(function()
      first = b:wait(nobody)
      b:arrive()
      add(seen, b.n_arrived)
    end)
    barrier.new(1):wait(function()
      add(seen, b.n_arrived)
    end)
    run_loop()
    assert.are.same({ 0, 0 }, seen)
    assert.are.equal(1, b.n_arrived)
    assert.are.equal(2, b.generation)
    assert.are.equal(2, calls)
  end)

  it("is let in behind those whose trip was decided", function()
    local log, first = {}, nil
    local b = barrier.new(2, { action = function(self)
      if first then
        first:close()
        first = nil
        self:wait(listener(log, "late 1"))
        self:wait(listener(log, "late 2"))
        self:wait(listener(log, "late 3"))
      end
    end })
    first = b:wait(nobody)
    b:wait(listener(log, "last"))
    run_loop()
    assert.are.same({ "last 0", "late 1 0", "late 2 1" }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal(2, b.generation)
  end)

end)

describe("an action that calls", function()
  for method, expected in pairs { abort = ABORTED .. ": why", reset = RESET } do
    it(method .. " fails everybody, including the last arrival", function()
      local log = {}
      local b = barrier.new(3, { action = function(self)
        self[method](self, method == "abort" and "why" or nil)
      end })
      b:wait(listener(log, "w1"))
      b:wait(listener(log, "w2"))
      patient(b, "last", log)
      run_loop()
      assert.are.same({ "w1" .. expected, "w2" .. expected, "last" .. expected }, log)
      assert.are.equal(0, b.generation)
      assert.are.equal(method == "abort" and "broken" or "filling", b.state)
    end)

    it(method .. " fails everybody, including a last arrival with a callback", function()
      local log = {}
      local b = barrier.new(2, { action = function(self)
        self[method](self, method == "abort" and "why" or nil)
      end })
      b:wait(listener(log, "w1"))
      b:wait(listener(log, "w2"))
      run_loop()
      assert.are.same({ "w1" .. expected, "w2" .. expected }, log)
      assert.are.equal(0, b.generation)
    end)

    it(method .. " fails everybody, including a last arrival that was blocked", function()
      local log = {}
      local b = barrier.new(2, { action = function(self)
        if #log > 0 then
          self[method](self, method == "abort" and "why" or nil)
        end
      end })
      for i = 1, 4 do
        b:wait(listener(log, "w" .. i))
      end
      run_loop()
      assert.are.same({ "w1 0", "w2 1", "w3" .. expected, "w4" .. expected }, log)
      assert.are.equal(1, b.generation)
    end)
  end

  it("abort and then reset fails all parties and leaves a working barrier", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        self:abort("why")
        self:reset()
      end
    end })
    b:wait(listener(log, "w1"))
    patient(b, "last", log)
    run_loop()
    assert.are.same({ "w1" .. RESET, "last" .. RESET }, log)
    b:wait(listener(log, "w2"))
    b:wait(listener(log, "w3"))
    run_loop()
    assert.are.same({ "w2 0", "w3 1" }, { log[3], log[4] })
    assert.are.equal(1, b.generation)
  end)

  it("abort and reset gives all parties the later call's error", function()
    for _, order in ipairs { { "abort", "reset", RESET }, { "reset", "abort", ABORTED } } do
      local b = barrier.new(2, { action = function(self)
        self[order[1]](self)
        self[order[2]](self)
      end })
      local log = {}
      b:wait(listener(log, "w"))
      patient(b, "last", log)
      run_loop()
      assert.are.same({ "w" .. order[3], "last" .. order[3] }, log)
    end
  end)

  it("abort does not decide yet what a last arrival gets", function()
    for method, expected in pairs { reset = RESET, abort = ABORTED .. ": why" } do
      local log = {}
      local b = barrier.new(1, { action = function(self)
        self:abort("why")
      end })
      b:wait(listener(log, "w"))
      b[method](b)
      run_loop()
      assert.are.same({ "w" .. expected }, log)
    end
  end)

  it("reset or abort stops counting the last arrival as waiting", function()
    local seen, log = {}, {}
    local b = barrier.new(1, { action = function(self)
      self:abort()
      add(seen, self.state .. " " .. self.n_waiting .. " " .. #self:waiters())
      self:reset()
      add(seen, self.state .. " " .. self.n_waiting .. " " .. #self:waiters())
    end })
    patient(b, "last", log)
    assert.are.same({ "broken 0 1", "resetting 0 1" }, seen)
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "last" .. RESET }, log)
  end)

  it("reset on a barrier for one party fails that party", function()
    local b, log = barrier.new(1, { action = function(self)
      self:reset()
    end }), {}
    patient(b, "last", log)
    assert.are.equal("resetting", b.state)
    run_loop()
    assert.are.same({ "last" .. RESET }, log)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(0, b.generation)
  end)

  it("close on another party's Waiter lets the others pass, by rank among them", function()
    local log, calls, first = {}, 0, nil
    local b = barrier.new(3, { action = function(self)
      calls = calls + 1
      first:close()
      assert.are.equal(2, self.n_waiting)
      assert.are.equal(2, self.n_arrived)
      assert.are.equal("filling", self.state)
    end })
    first = b:wait(listener(log, "first"))
    b:wait(listener(log, "second"))
    b:wait(listener(log, "last"))
    assert.are.equal("draining", b.state)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "second 0", "last 1" }, log)
    assert.are.equal(1, calls)
  end)

  it("close on another party's Waiter lets a coroutine that is the last pass at once", function()
    local first
    local b = barrier.new(2, { action = function()
      first:close()
    end })
    first = b:wait(nobody)
    assert.are.same({ true, 0 }, { last_arrival(b) })
    assert.are.equal(1, b.generation)
    assert.are.equal("filling", b.state)
  end)

  it("closing every Waiter trips the barrier all the same", function()
    local log, calls = {}, 0
    local b = barrier.new(3, { action = function(self)
      calls = calls + 1
      for _, waiter in ipairs(self:waiters()) do
        waiter:close()
      end
      assert.are.equal(0, self.n_waiting)
      self:wait(listener(log, "late"))
    end })
    b:await_trip(listener(log, "watcher"))
    for _ = 1, 3 do
      b:wait(nobody)
    end
    assert.are.equal(1, b.generation)
    assert.are.equal("filling", b.state)
    run_loop()
    assert.are.same({ "watcher 1" }, log)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal(1, calls)
  end)

  it("close on another party's Waiter leaves no timeout to the others", function()
    local log, first = {}, nil
    local b = barrier.new(3, { timeout = 1000000, action = function()
      first:close()
    end })
    first = b:wait(1000000, nobody)
    b:wait(1000000, listener(log, "second"))
    b:wait(1000000, listener(log, "last"))
    uv.run "nowait"
    assert.are.same({ "second 0", "last 1" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it_catches("cancel on another party takes out that party alone", function()
    local log, first, calls = {}, nil, 0
    local b = barrier.new(3, { action = function(self)
      calls = calls + 1
      assert.is_true(self:cancel(first))
      assert.is_false(self:cancel(first))
    end })
    first = support.party(b, "first", log)
    support.party(b, "second", log)
    support.party(b, "last", log)
    assert.are.same({ "last 1" }, log)
    run_loop()
    assert.are.same({ "last 1", "first CancelledError: wait cancelled", "second 0" }, log)
    assert.are.equal(1, calls)
  end)

  it_closes("coroutine.close on another party does so too", function()
    local log, first = {}, nil
    local b = barrier.new(3, { action = function()
      assert(coroutine.close(first))
    end })
    first = support.party(b, "first", log)
    support.party(b, "second", log)
    support.party(b, "last", log)
    run_loop()
    assert.are.same({ "last 1", "second 0" }, log)
    assert.are.equal(1, b.generation)
  end)

  it_catches("coroutine.resume, as a stranger, on another party does so too", function()
    local log, first = {}, nil
    local b = barrier.new(3, { action = function()
      assert(coroutine.resume(first, "strange"))
    end })
    first = support.party(b, "first", log)
    support.party(b, "second", log)
    support.party(b, "last", log)
    run_loop()
    assert.are.same({
      "last 1", "first CancelledError: wait cancelled: resumed by somebody else", "second 0",
    }, log)
    assert.are.equal(1, b.generation)
  end)

  it_catches("cancel on the last arrival takes it out, and the others pass", function()
    local results, log, calls = {}, {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      for i = 1, 2 do
        results[i] = self:cancel(coroutine.running())
      end
      add(log, self.state .. " " .. self.n_waiting .. " " .. #self:waiters())
    end })
    b:wait(listener(log, "first"))
    support.party(b, "last", log)
    assert.are.same({ true, false }, results)
    assert.are.same({ "filling 1 2" }, log)
    assert.are.equal("draining", b.state)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "filling 1 2", "last CancelledError: wait cancelled", "first 0" }, log)
    assert.are.equal(1, calls)
  end)

  it("close on the last arrival's own Waiter takes it out, and the others pass", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      local list = self:waiters()
      list[#list]:close(listener(log, "closed"))
      assert.are.equal(1, self.n_waiting)
    end })
    b:wait(listener(log, "first"))
    b:wait(listener(log, "last"))
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "closed nil", "first 0" }, log)
    assert.are.equal(1, calls)
  end)

  it("close on the Waiter of a last arrival that was blocked takes it out", function()
    local log, last = {}, nil
    local b = barrier.new(2, { action = function(self)
      if #log > 0 and last then
        last:close()
        last = nil
        assert.are.equal(1, self.n_waiting)
      end
    end })
    for i = 1, 3 do
      b:wait(listener(log, "w" .. i))
    end
    last = b:wait(listener(log, "last"))
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "w3 0" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("wait joins another barrier", function()
    local log = {}
    local inner = barrier.new(2, { action = function()
      add(log, "inner action")
    end })
    local b = barrier.new(1, { action = function()
      inner:wait(listener(log, "inner"))
    end })
    b:wait(listener(log, "w1"))
    assert.are.same({ true, 1 }, { last_arrival(inner) })
    run_loop()
    assert.are.same({ "inner action", "w1 0", "inner 0" }, log)
  end)
end)

describe("an action that runs the loop", function()
  it("gets on_close called for a Waiter that it closed", function()
    local log, first = {}, nil
    local b = barrier.new(2, { action = function()
      first:close(listener(log, "closed"))
      uv.run "nowait"
      add(log, "action")
    end })
    first = b:wait(listener(log, "first"))
    b:wait(listener(log, "last"))
    assert.are.same({ "closed nil", "action" }, log)
    run_loop()
    assert.are.same({ "closed nil", "action", "last 0" }, log)
  end)

  it("lets no party out or in until it ends", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        for i = 1, 2 do
          self:wait(listener(log, "late" .. i))
        end
        for _ = 1, 3 do
          uv.run "nowait"
        end
        assert.are.equal(2, self.n_waiting)
      end
      add(log, "action " .. calls)
    end })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "action 1", "w1 0", "w2 1", "action 2", "late1 0", "late2 1" }, log)
  end)

  it("lets no timeout of the parties pass meanwhile, nor that of the phase", function()
    local log, calls = {}, 0
    local b = barrier.new(3, { timeout = 1, action = function(self)
      calls = calls + 1
      self:await_trip(1, listener(log, "watcher"))
      self:wait(1, listener(log, "blocked"))
      while #log < 2 do
        uv.run "nowait" -- "once" would sleep until the next timeout if this one has passed
      end
    end })
    b:wait(1, listener(log, "w1"))
    support.party(b, "w2", log, 1)
    b:wait(1, listener(log, "last"))
    assert.are.same({
      "watcher" .. timed_out(1, 3, 3), "blocked" .. timed_out(1, 3, 3),
    }, log)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.same({ "w1 0", "w2 1", "last 2" }, { log[3], log[4], log[5] })
    assert.are.equal(1, calls)
  end)

  it("lets no timeout of a last arrival in coroutine style pass either", function()
    local log = {}
    local b = barrier.new(2, { action = function()
      support.pass_time(5)
      uv.run "nowait"
    end })
    b:wait(1, listener(log, "first"))
    support.party(b, "last", log, 1)
    assert.are.same({ "last 1" }, log)
    run_loop()
    assert.are.same({ "last 1", "first 0" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it("fails the waiters that it has reset or aborted before it goes on", function()
    for method, expected in pairs { abort = ABORTED, reset = RESET } do
      local log = {}
      local b = barrier.new(2, { action = function(self)
        self[method](self)
        uv.run "nowait"
        add(log, "action " .. self.n_waiting)
      end })
      b:wait(listener(log, "w"))
      patient(b, "last", log)
      assert.are.same({ "w" .. expected, "action 0" }, log)
      run_loop()
      assert.are.equal("last" .. expected, log[3])
      assert.are.equal(method == "abort" and "broken" or "filling", b.state)
    end
  end)

  it("lets nobody in while it runs, even if a party has left", function()
    local log, calls, first = {}, 0, nil
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        first:close(listener(log, "closed"))
        self:wait(listener(log, "late"))
        run_loop()
        add(log, "action " .. self.n_waiting)
      end
    end })
    first = b:wait(nobody)
    b:wait(listener(log, "last"))
    assert.are.same({ "closed nil", "action 1" }, log)
    run_loop()
    assert.are.same({ "closed nil", "action 1", "last 0" }, log)
    assert.are.equal(1, b.n_waiting)
  end)

  it_catches("can run it until nothing is left to do, whatever it did before", function()
    local left = { wait = 3, arrive = 2, reset = 1, abort = 1, cancel = 2 }
    for method, waiters in pairs(left) do
      local seen
      local b = barrier.new(2, { action = function(self)
        if not seen then
          seen = true
          local arguments = { wait = nobody, cancel = coroutine.running() }
          self[method](self, arguments[method])
          run_loop()
          seen = #self:waiters()
        end
      end })
      b:wait(nobody)
      support.party(b, "last", {})
      assert.are.equal(waiters, seen, method)
      run_loop()
    end
  end)

  it_nests("has its error reported if the last arrival has failed and nobody waits", function()
    local err, out = support.report_of [[
      local calls = 0
      local b = barrier.new(2, { action = function(self)
        calls = calls + 1
        if calls == 2 then
          self:reset()
          uv.run "nowait"
          error("nobody's", 0)
        end
      end })
      for i = 1, 4 do
        b:wait(function(e, position) print(i, tostring(e or position)) end)
      end
      uv.run()
    ]]
    local RESET_ERROR = "BrokenBarrierError: barrier reset\n"
    assert.are.equal("1\t0\n2\t1\n3\t" .. RESET_ERROR .. "4\t" .. RESET_ERROR, out)
    assert.is_truthy(err:find("nobody's", 1, true), err)
  end)

  it_nests("may fail a last arrival that was blocked; nobody else gets its error", function()
    local log, calls = {}, 0
    local b = barrier.new(2, { action = function(self)
      calls = calls + 1
      if calls == 2 then
        self:reset()
        uv.run "nowait"
        self:wait(listener(log, "new 1"))
        self:wait(listener(log, "new 2"))
        error("boom", 0)
      end
    end })
    for i = 1, 4 do
      b:wait(listener(log, "w" .. i))
    end
    run_loop()
    assert.are.same({
      "w1 0", "w2 1", "w3" .. RESET, "w4" .. RESET,
      "new 1" .. ABORTED .. ": boom", "new 2" .. ABORTED .. ": boom",
    }, log)
  end)

  it_nests("may be called by the loop itself", function()
    local log, calls = {}, 0
    local b = barrier.new(1, { action = function()
      calls = calls + 1
      uv.run "nowait"
      add(log, "action " .. calls)
    end })
    b:wait(listener(log, "w1"))
    b:wait(listener(log, "w2"))
    run_loop()
    assert.are.same({ "action 1", "w1 0", "action 2", "w2 0" }, log)
  end)

  it_nests("does not trip the barrier a second time for parties that arrived meanwhile", function()
    local log, calls = {}, 0
    local b
    b = barrier.new(1, { action = function(self)
      calls = calls + 1
      if calls == 1 then
        self:wait(listener(log, "late"))
        self:wait(listener(log, "gone")):close(listener(log, "closed"))
        uv.run "nowait"
        assert.are.same({ "closed nil" }, log)
        assert.are.equal(1, calls)
      end
    end })
    assert.are.same({ true, 0 }, { last_arrival(b) })
    run_loop()
    assert.are.same({ "closed nil", "late 0" }, log)
    assert.are.equal(2, calls)
  end)

  it("may collect garbage, and drop the barrier's last reference", function()
    local log, calls = {}, 0
    do
      local b = barrier.new(2, { action = function()
        calls = calls + 1
        for _ = 1, 3 do
          collectgarbage()
        end
        uv.run "nowait"
      end })
      b:wait(listener(log, "w1"))
      b:wait(listener(log, "w2"))
    end
    run_loop()
    assert.are.same({ "w1 0", "w2 1" }, log)
    assert.are.equal(1, calls)
  end)
end)
