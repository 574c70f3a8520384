-- Errors of a wait come from a turn of the loop, never from the call itself. So the barrier
-- reports uncaught ones, as text with a traceback.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local keeping, pack, party, patient = support.keeping, support.pack, support.party, support.patient
local it_catches, it_closes = support.it_catches, support.it_closes

local CANCELLED = " CancelledError: wait cancelled"
local RESET = " BrokenBarrierError: barrier reset"
local ABORTED = " BrokenBarrierError: barrier aborted"
local LONG = 1000000

local function nobody() end

local function broken()
  local b, drains = keeping(2)
  b:abort "why"
  return b, drains
end

local function acting(action)
  return function()
    return keeping(1, { action = action })
  end
end

-- The ways in which a wait fails that would not have to wait: what makes the
-- barrier, and the error.
local FAILING = {
  ["on a broken barrier"] = { broken, ABORTED .. ": why" },
  ["whose action raises"] = {
    acting(function()
      error("boom", 0)
    end),
    " boom",
  },
  ["whose action aborts"] = {
    acting(function(self)
      self:abort "why"
    end),
    ABORTED .. ": why",
  },
  ["whose action resets"] = {
    acting(function(self)
      self:reset()
    end),
    RESET,
  },
}

for name, way in pairs(FAILING) do
  describe("a wait " .. name, function()
    local make, expected = way[1], way[2]

    it("suspends its coroutine, which fails when the loop resumes it", function()
      for _, timeout in ipairs { false, LONG } do
        local b, drains = make()
        local x = coroutine.create(function()
          b:wait(timeout or nil)
        end)
        assert.are.same({ n = 1, true }, pack(coroutine.resume(x)))
        assert.are.equal("suspended", coroutine.status(x))
        run_loop()
        assert.are.equal("suspended", coroutine.status(x))
        assert.are.equal(1, #drains)
        local ok, report = pcall(drains[1])
        assert.is_false(ok)
        assert.is_truthy(report:find(expected:sub(2) .. "\nstack traceback:", 1, true), report)
        assert.are.equal("dead", coroutine.status(x))
        assert.is_false(uv.loop_alive())
      end
    end)

    it("suspends it in `with` too, whose body is not called", function()
      local b, drains = make()
      local called = false
      local x = co(function()
        b:with(function()
          called = true
        end)
      end)
      assert.are.equal("suspended", coroutine.status(x))
      run_loop()
      assert.is_false((pcall(drains[1])))
      assert.is_false(called)
    end)

    it_catches("raises an error that can be caught, once", function()
      local b, drains = make()
      local log = {}
      co(function()
        add(log, "x " .. tostring(select(2, pcall(b.wait, b))))
        add(log, "goes on")
        coroutine.yield()
      end)
      assert.are.same({}, log)
      run_loop()
      drains[1]()
      assert.are.same({ "x" .. expected, "goes on" }, log)
      run_loop()
      assert.are.equal(1, #drains)
    end)

    it_catches("keeps the barrier and the coroutine alive until it fails", function()
      local log, seen = {}, setmetatable({}, { __mode = "v" })
      local function tell()
        local b, drains = make()
        seen.barrier = b
        seen.coroutine = party(b, "x", log)
        run_loop()
        return drains[1]
      end
      local drain = tell()
      support.collect_garbage()
      assert.is_truthy(seen.barrier)
      assert.is_truthy(seen.coroutine)
      drain()
      assert.are.same({ "x" .. expected }, log)
      support.last_error = nil
      support.collect_garbage()
      assert.is_nil(seen.barrier)
      assert.is_nil(seen.coroutine)
      drain()
    end)

    it_closes("can be closed before it fails", function()
      local b = make()
      local log = {}
      local x = party(b, "x", log)
      assert.is_true(coroutine.close(x))
      assert.are.same({}, b:waiters())
      run_loop()
      assert.are.same({}, log)
    end)
  end)
end

describe("a coroutine that waits on a broken barrier", function()
  it_catches("has failed for good: a reset before its turn changes nothing", function()
    local b, log = barrier.new(1), {}
    b:abort "why"
    party(b, "x", log)
    b:reset()
    b:abort "another"
    run_loop()
    assert.are.same({ "x" .. ABORTED .. ": why" }, log)
  end)

  it_catches("is not in the barrier, and cannot be cancelled", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "w"))
    b:abort "why"
    local x = party(b, "x", log)
    assert.are.equal(1, #b:waiters())
    assert.are_not.equal(x, b:waiters()[1])
    assert.are.equal(0, b.n_waiting)
    assert.is_false(b:cancel(x))
    run_loop()
    assert.are.same({ "x" .. ABORTED .. ": why", "w" .. ABORTED .. ": why" }, log)
  end)

  it_catches("fails among those that left early, in order of leaving", function()
    local b, log = barrier.new(4), {}
    local x1, x2 = party(b, "x1", log), party(b, "x2", log)
    b:wait(listener(log, "w"))
    b:cancel(x2)
    b:abort()
    party(b, "late 1", log)
    b:cancel(x1)
    b:wait(listener(log, "late 2"))
    party(b, "late 3", log)
    run_loop()
    assert.are.same({
      "x2" .. CANCELLED, "late 1" .. ABORTED, "x1" .. CANCELLED, "late 2" .. ABORTED,
      "late 3" .. ABORTED, "w" .. ABORTED,
    }, log)
  end)

  it_catches("stays suspended if other code resumes it", function()
    local b, log = barrier.new(2), {}
    b:abort "why"
    local x = party(b, "x", log)
    for _ = 1, 3 do
      assert.are.same({ n = 1, true }, pack(coroutine.resume(x, 1, 2)))
      assert.are.equal("suspended", coroutine.status(x))
    end
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "x" .. ABORTED .. ": why" }, log)
  end)

  it_catches("may wait there again and again, a turn each time", function()
    local b, turns = support.counted(1)
    local log = {}
    b:abort()
    co(function()
      for _ = 1, 3 do
        pcall(b.wait, b)
        add(log, turns())
      end
    end)
    run_loop()
    assert.are.same({ 1, 2, 3 }, log)
  end)

  it_catches("gets a new error each time", function()
    local b, errors = barrier.new(1), {}
    b:abort()
    for i = 1, 2 do
      co(function()
        errors[i] = select(2, pcall(b.wait, b))
      end)
    end
    run_loop()
    assert.are.equal(b, errors[1].barrier)
    assert.is_false(rawequal(errors[1], errors[2]))
  end)
end)

describe("a last arrival whose action fails", function()
  it("gets its error in order of arrival", function()
    local log = {}
    local b = barrier.new(3, { action = function()
      error("boom", 0)
    end })
    b:wait(listener(log, "w1"))
    patient(b, "w2", log)
    local last = patient(b, "last", log)
    assert.are.equal(last, b:waiters()[3])
    run_loop()
    assert.are.same({ "w1" .. ABORTED .. ": boom", "w2" .. ABORTED .. ": boom", "last boom" }, log)
  end)

  it("gets what is decided when it leaves if the action did not raise", function()
    for _, order in ipairs { { "reset", "abort", ABORTED }, { "abort", "reset", RESET } } do
      local log = {}
      local b = barrier.new(2, { action = function(self)
        self[order[1]](self)
      end })
      b:wait(listener(log, "w"))
      patient(b, "last", log)
      b[order[2]](b)
      run_loop()
      assert.are.same({ "w" .. order[3], "last" .. order[3] }, log)
    end
  end)

  it("gets the action's own error even if a reset follows", function()
    local log = {}
    local b = barrier.new(2, { action = function()
      error("boom", 0)
    end })
    b:wait(listener(log, "w"))
    patient(b, "last", log)
    b:reset()
    run_loop()
    assert.are.same({ "w" .. RESET, "last boom" }, log)
    assert.are.equal("filling", b.state)
  end)

  it_catches("can be cancelled before it gets its error", function()
    local b, log = barrier.new(2, { action = function(self)
      self:abort()
    end }), {}
    b:wait(listener(log, "w"))
    local last = party(b, "last", log)
    assert.is_true(b:cancel(last))
    assert.is_false(b:cancel(last))
    run_loop()
    assert.are.same({ "last" .. CANCELLED, "w" .. ABORTED }, log)
  end)

  it("passes at once if the action does not fail", function()
    local b = barrier.new(2, { action = nobody })
    b:wait(nobody)
    local position
    local x = co(function()
      position = b:wait()
    end)
    assert.are.equal("dead", coroutine.status(x))
    assert.are.equal(1, position)
    run_loop()
  end)
end)

describe("a luv callback", function()
  ---Runs `code` in a timer's callback, where a coroutine fails; what is reported.
  local function report_of(code)
    local err, out = support.report_of(([[
      local function start(f)
        coroutine.wrap(function()
          local function waiting_place() f() end
          waiting_place()
        end)()
      end
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        timer:close()
        %s
        print "the callback has ended"
      end)
      uv.run()
      print "not reached"
    ]]):format(code))
    assert.are.equal("the callback has ended\n", out)
    assert.is_nil(err:find("(null)", 1, true))
    assert.is_truthy(err:find("waiting_place", 1, true), err)
    return err
  end

  local cases = {
    ["finds a broken barrier"] = { "BrokenBarrierError: barrier aborted: disk full", [[
      local b = barrier.new(2)
      b:abort "disk full"
      start(function() b:wait() end)
    ]] },
    ["awaits a trip of a broken barrier"] = { "BrokenBarrierError: barrier aborted: disk full", [[
      local b = barrier.new(2)
      b:abort "disk full"
      start(function() b:await_trip() end)
    ]] },
    ["is the last arrival when the action aborts"] = {
      "BrokenBarrierError: barrier aborted: why", [[
      local b = barrier.new(1, { action = function(self) self:abort "why" end })
      start(function() b:wait() end)
    ]] },
    ["is the last arrival when the action resets"] = { "BrokenBarrierError: barrier reset", [[
      local b = barrier.new(1, { action = function(self) self:reset() end })
      start(function() b:wait() end)
    ]] },
    ["is the last arrival when the action raises a table"] = { "told by its tostring", [[
      local mt = { __tostring = function() return "told by its tostring" end }
      local thrown = setmetatable({}, mt)
      local b = barrier.new(1, { action = function() error(thrown) end })
      start(function() b:with(print) end)
    ]] },
    ["is resumed by a stale callback"] = {
      "CancelledError: wait cancelled: resumed by somebody else", [[
      local b, x = barrier.new(2), nil
      start(function() x = coroutine.running() b:wait() end)
      assert(coroutine.resume(x))
    ]] },
    ["is resumed by a stale callback while it awaits a trip"] = {
      "CancelledError: wait cancelled: resumed by somebody else", [[
      local b, x = barrier.new(2), nil
      start(function() x = coroutine.running() b:await_trip() end)
      assert(coroutine.resume(x))
    ]] },
  }
  for name, case in pairs(cases) do
    it("ends well when a coroutine that it started " .. name, function()
      local err = report_of(case[2])
      local report = "Uncaught Error: " .. case[1] .. "\nstack traceback:"
      assert.is_truthy(err:find(report, 1, true), err)
    end)
  end
end)

describe("the CancelledError that cancel made", function()
  it("is not reported when the coroutine dies of it", function()
    local out = support.output_of [[
      local b = barrier.new(2)
      for _, method in ipairs { "wait", "await_trip", "with" } do
        local x = coroutine.create(function() b[method](b, method == "with" and print or nil) end)
        coroutine.resume(x)
        assert(b:cancel(x))
        uv.run()
        print(coroutine.status(x), b.n_waiting)
      end
    ]]
    assert.are.equal(("dead\t0\n"):rep(3), out)
  end)

  it("is not raised by drain either", function()
    local b, drains = keeping(2)
    local x = co(function()
      b:wait()
    end)
    b:cancel(x)
    run_loop()
    drains[1]()
    assert.are.equal("dead", coroutine.status(x))
  end)

  it("does not hide what others die of", function()
    local err, out = support.report_of [[
      local b = barrier.new(4)
      local function start(f)
        local c = coroutine.create(function() b:wait() f() end)
        coroutine.resume(c)
        return c
      end
      local x = start(print)
      start(function() error "boom" end)
      start(function() print "goes on" end)
      b:cancel(x)
      for _ = 1, 2 do b:wait(function() end) end
      uv.run()
    ]]
    assert.are.equal("goes on\n", out)
    assert.is_truthy(err:find("boom", 1, true), err)
    assert.is_nil(err:find("CancelledError", 1, true), err)
  end)

  it_catches("is not reported even if it is caught and raised again", function()
    assert.are.equal("caught\n", support.output_of [[
      local b = barrier.new(2)
      local x = coroutine.create(function()
        local ok, err = pcall(b.wait, b)
        print(ok or "caught")
        error(err, 0)
      end)
      coroutine.resume(x)
      b:cancel(x)
      uv.run()
    ]])
  end)

  it_catches("is reported as text, or if another coroutine dies of it", function()
    local prelude = [[
      local b = barrier.new(9)
      local caught
      local x = coroutine.create(function()
        local ok, err = pcall(b.wait, b)
        caught = err
      end)
      coroutine.resume(x)
      b:cancel(x)
      uv.run()
    ]]
    local err = support.report_of(prelude .. [[
      local y = coroutine.create(function() pcall(b.wait, b) error(tostring(caught), 0) end)
      coroutine.resume(y)
      b:cancel(y)
      uv.run()
    ]])
    assert.is_truthy(err:find("CancelledError: wait cancelled\nstack traceback:", 1, true), err)
    err = support.report_of(prelude .. [[
      local y = coroutine.create(function() pcall(b.wait, b) error(caught, 0) end)
      coroutine.resume(y)
      b:cancel(y)
      uv.run()
    ]])
    assert.is_truthy(err:find("CancelledError: wait cancelled\nstack traceback:", 1, true), err)
  end)

  it_catches("is reported if a coroutine that has passed dies of it", function()
    local err = support.report_of [[
      local b = barrier.new(2)
      local x = coroutine.create(function()
        local _, err = pcall(b.wait, b)
        local y = coroutine.create(function() b:wait() error(err, 0) end)
        coroutine.resume(y)
        b:wait()
      end)
      coroutine.resume(x)
      b:cancel(x)
      uv.run()
    ]]
    assert.is_truthy(err:find("CancelledError: wait cancelled\nstack traceback:", 1, true), err)
  end)

  it_catches("is reported if another coroutine at the same address dies of it", function()
    local b, caught, reports = barrier.new(2), nil, 0
    local function cancelled()
      local x = co(function()
        caught = select(2, pcall(b.wait, b))
      end)
      b:cancel(x)
      run_loop()
    end
    cancelled()
    support.collect_garbage()
    for _ = 1, 50 do -- one of them gets the memory of the first
      local other, drains = keeping(2)
      co(function()
        other:wait()
        error(caught, 0)
      end)
      other:wait(nobody)
      run_loop()
      if not pcall(drains[1]) then
        reports = reports + 1
      end
    end
    assert.are.equal(50, reports)
  end)

  ---True if __close gets the error that a coroutine died of: from Lua 5.4.3 on.
  local closing_tells = coroutine.close and load [[
    local told
    local co = coroutine.create(function()
      local _ <close> = setmetatable({}, { __close = function(_, err) told = err end })
      error {}
    end)
    coroutine.resume(co)
    coroutine.close(co)
    return told ~= nil
  ]]()

  it_closes("does not stop its variables from being closed, nor reports of that", function()
    local body = [=[
      local b = barrier.new(2)
      local x = coroutine.create(load [[
        local b, f = ...
        local x <close> = setmetatable({}, { __close = f })
        b:wait()
      ]])
      coroutine.resume(x, b, function(_, e) print("closed", e) %s end)
      b:cancel(x)
      uv.run()
    ]=]
    local told = closing_tells and "CancelledError: wait cancelled" or "nil"
    local closed = "closed\t" .. told .. "\n"
    assert.are.equal(closed, support.output_of(body:format ""))
    local err, out = support.report_of(body:format "error 'while closing'")
    assert.are.equal(closed, out)
    assert.is_truthy(err:find("while closing", 1, true), err)
  end)

  it("is not reported, though other errors are", function()
    local err = support.report_of [[
      local b = barrier.new(3)
      coroutine.wrap(function() b:wait(1) end)()
      uv.run()
    ]]
    assert.is_truthy(err:find("TimeoutError: wait timed out after 1 ms, 1 of 3 had arrived\n"
      .. "stack traceback:", 1, true), err)
    err = support.report_of [[
      local b = barrier.new(2)
      local x = coroutine.create(function() b:wait() end)
      coroutine.resume(x)
      b:reset()
      uv.run()
    ]]
    assert.is_truthy(err:find("BrokenBarrierError: barrier reset\nstack traceback:", 1, true), err)
  end)
end)

describe("a call on a broken barrier", function()
  it("raises errors of its arguments and of its place at once", function()
    local b, log = barrier.new(2), {}
    b:abort()
    for _, call in ipairs {
      function() b:wait(-1) end,
      function() b:wait {} end,
      function() b:with() end,
      function() b:await_trip(0.5) end,
      function() ("x"):gsub("x", function() b:wait() end) end,
      function() ("x"):gsub("x", function() b:await_trip() end) end,
      function() ("x"):gsub("x", function() b:with(print) end) end,
    } do
      local ok, message = coroutine.resume(coroutine.create(call))
      assert.is_false(ok)
      assert.are.equal("string", type(message))
      add(log, message)
    end
    assert.are.equal(7, #log)
    assert.is_false(uv.loop_alive())
  end)
end)
