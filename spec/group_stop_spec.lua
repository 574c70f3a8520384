-- Groups that are stopped: by an error, a result, a timeout, abort or close.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local later, finish, raises, recorder = support.later, support.finish, support.raises,
  support.recorder

local function nothing() end

---A stop that notes in `log` that it was called.
local function stopper(log, name)
  return function(...)
    add(log, name .. select("#", ...))
  end
end

describe("stop_on_error", function()
  it("stops the group at the first error, whose table the wait gives", function()
    local group, log, stopped = barrier.group { stop_on_error = true }, {}, {}
    local done = {}
    for _, key in ipairs { "a", "b", "c", "d" } do
      done[key] = group:add(key, stopper(stopped, key))
    end
    group:wait(recorder(log))
    done.a(nil, "value")
    done.c "failed"
    assert.are.same({ "b0", "d0" }, stopped) -- at once, in order of adding
    assert.is_true(group:is_closing())
    assert.are.same({ "b", "d" }, group:pending()) -- so it is known which jobs to wait for
    assert.are.same({ 4, 2, 2, 1 }, { group.n_jobs, group.n_pending, group.n_running,
      group.n_errors })
    assert.are.same({}, log)
    run_loop()
    local err = log[1].err
    assert.are.equal("GroupError: 1 of 4 jobs failed: c: failed", tostring(err))
    assert.are.same({ "b", "d" }, err.pending)
    done.b(nil, "late")
    done.d "late"
    done.d "later"
    assert.are.same({ a = "value" }, group.results)
    assert.are.same({ c = "failed" }, group.errors)
    assert.are.same({ d = "late" }, group.late)
    assert.are.equal(group.late, err.late)
    assert.are.same({}, group:pending())
    assert.are.equal(1, group.n_errors)
    assert.are.same({ "b0", "d0" }, stopped)
    assert.are.equal(1, #log)
  end)

  it("stops nothing if there is no error", function()
    local group, stopped = barrier.group { stop_on_error = true }, {}
    local first, second = group:add(1, stopper(stopped, "1")), group:add(2, stopper(stopped, "2"))
    first()
    second(nil, "two")
    assert.is_nil((finish(group)))
    assert.are.same({}, stopped)
  end)

  it("stops before any party waits, and the wait ends on the next turn", function()
    local group = barrier.group { stop_on_error = true }
    local other = group:add "other"
    group:add "bad" "failed"
    local err = finish(group)
    assert.are.same({ "other" }, err.pending)
    other()
  end)
end)

describe("stop_on_result", function()
  it("stops the group at the first job without an error, and there is no error then", function()
    local group, stopped = barrier.group { stop_on_result = true }, {}
    local done = {}
    for i = 1, 4 do
      done[i] = group:add(i, stopper(stopped, "stop "))
    end
    done[2] "failed"
    done[3](nil, "won")
    done[1](nil, "late")
    done[4] "late"
    assert.are.same({ "stop 0", "stop 0" }, stopped)
    local err, results, errors = finish(group)
    assert.is_nil(err)
    assert.are.same({ [3] = "won" }, results)
    assert.are.same({ [2] = "failed" }, errors)
    assert.are.same({ [4] = "late" }, group.late)
  end)

  it("gives a GroupError if every job has failed, and if there was none", function()
    local group = barrier.group { stop_on_result = true }
    group:add "a" "bad"
    assert.are.equal("GroupError: 1 of 1 jobs failed: a: bad", tostring((finish(group))))
    group = barrier.group { stop_on_result = true }
    local err = finish(group)
    assert.are.equal("GroupError: no job had a result", tostring(err))
    assert.are.equal(barrier.GroupError, getmetatable(err))
    assert.are.same({}, err.pending)
  end)
end)

describe("the option timeout", function()
  it("stops the group with a TimeoutError when it has passed", function()
    local group, stopped = barrier.group { timeout = 5 }, {}
    group:add "quick" (nil, 1)
    local slow = group:add("slow", stopper(stopped, "slow"))
    local err, results = finish(group)
    assert.are.equal("TimeoutError: group timed out after 5 ms, 1 of 2 jobs were done, "
      .. "pending: slow", tostring(err))
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal(5, err.timeout)
    assert.are.same({ "slow" }, err.pending)
    assert.are.same({ quick = 1 }, results)
    assert.are.same({ "slow0" }, stopped)
    slow "killed"
    assert.are.same({ slow = "killed" }, group.late)
  end)

  it("counts from the making of the group", function()
    local group, log = barrier.group { timeout = 30 }, {}
    support.pass_time(20)
    local done = group:add()
    later(function()
      add(log, "timer")
    end, 20)
    group:wait(function(err)
      add(log, err.name)
      done()
    end)
    run_loop()
    assert.are.same({ "TimeoutError", "timer" }, log)
  end)

  it("keeps the loop alive while a job is pending, and only then", function()
    local group = barrier.group { timeout = 1000000 }
    run_loop() -- it ends
    local done = group:add()
    assert.is_true(uv.loop_alive())
    done()
    run_loop()
    done = group:add()
    assert.is_true(uv.loop_alive())
    group:wait(nothing)
    done()
    run_loop()
    assert.is_false(uv.loop_alive())
    group = barrier.group { timeout = 1000000 }
    group:add()
    group:abort()
    run_loop()
  end)

  it("changes nothing if the last job was done", function()
    local group, log = barrier.group { timeout = 2 }, {}
    local done = group:add()
    group:wait(recorder(log))
    support.pass_time(10)
    done(nil, "in time")
    group:abort "too late"
    run_loop()
    assert.is_nil(log[1].err)
    assert.are.same({ "in time" }, log[1].results)
  end)
end)

describe("abort", function()
  it("stops the group with its reason, once", function()
    local group, log, stopped = barrier.group(), {}, {}
    local done = group:add("key", stopper(stopped, "stop"))
    group:add "done"(nil, 1)
    group:wait(recorder(log))
    group:wait(100000, recorder(log))
    group:abort "a reason"
    group:abort "another"
    assert.are.same({ "stop0" }, stopped)
    group:wait(recorder(log))
    run_loop()
    assert.are.equal(3, #log)
    for _, outcome in ipairs(log) do
      assert.are.equal(barrier.BrokenBarrierError, getmetatable(outcome.err))
      assert.are.equal("BrokenBarrierError: group aborted: a reason", tostring(outcome.err))
      assert.are.equal("a reason", outcome.err.reason)
      assert.are.same({ "key" }, outcome.err.pending)
      assert.are.same({ done = 1 }, outcome.results)
    end
    done()
    assert.are.same({ done = 1 }, group.results)
    assert.are.equal("BrokenBarrierError: group aborted", (function()
      local other = barrier.group()
      other:abort()
      return tostring((finish(other)))
    end)())
  end)

  it("does nothing when the group is complete", function()
    local group, log = barrier.group(), {}
    group:wait(recorder(log))
    run_loop()
    group:abort "late"
    group:wait(recorder(log))
    run_loop()
    assert.are.same({ { n = 3, results = {}, errors = {} }, { n = 3, results = {}, errors = {} } },
      log)
  end)

  it("ends a wait in a coroutine without raising anything", function()
    local group, log = barrier.group(), {}
    group:add()
    co(function()
      local err = group:wait()
      add(log, tostring(err))
    end)
    group:abort(false)
    run_loop()
    assert.are.same({ "BrokenBarrierError: group aborted: false" }, log)
  end)
end)

describe("a stop", function()
  it("is a function, or has a method kill, cancel or close: the first of these", function()
    local log, group = {}, barrier.group()
    local function object(...)
      local methods = {}
      for _, name in ipairs { ... } do
        methods[name] = function(self, ...)
          add(log, { name, self == methods, ... })
        end
      end
      return methods
    end
    group:add(1, stopper(log, "function"))
    group:add(2, object("close", "cancel", "kill"))
    group:add(3, object("close", "cancel"))
    group:add(4, object "close")
    local timer = uv.new_timer()
    group:add(5, timer)
    group:add(6, setmetatable({}, { __call = function(...)
      add(log, "callable" .. select("#", ...))
    end }))
    local odd = object "close"
    odd.kill, odd.cancel = 5, true
    group:add(7, odd)
    group:abort()
    assert.are.same({ "function0", { "kill", true, "sigterm" }, { "cancel", true },
      { "close", true }, "callable1", { "close", true } }, log)
    assert.is_true(timer:is_closing())
    for _, wrong in ipairs { 1, "text", true, {}, { kill = 5 } } do
      raises("bad argument #2 to 'add' (stop must be a function, or have a method kill, cancel or "
        .. "close, got " .. type(wrong) .. ")", group.add, barrier.group(), "key", wrong)
    end
    run_loop()
  end)

  it("may be a handle that is closing, a request, a Waiter and a group", function()
    local group, inner, b = barrier.group(), barrier.group(), barrier.new(2)
    local timer = uv.new_timer()
    group:add("timer", timer)
    timer:close()
    group:add("request", uv.fs_stat(".", nothing))
    local waiter = b:wait(error)
    group:add("waiter", waiter)
    inner:add()
    group:add("group", inner)
    group:abort()
    assert.is_true(waiter:is_closing())
    assert.is_true(inner:is_closing())
    run_loop()
  end)

  it("is not called when its job is done, or done by another stop", function()
    local group, log = barrier.group(), {}
    group:add("done", stopper(log, "done"))()
    local second
    group:add("first", function()
      add(log, "first")
      second()
    end)
    second = group:add("second", stopper(log, "second"))
    group:abort()
    assert.are.same({ "first" }, log)
  end)

  it("whose error is reported does not keep the others from being stopped", function()
    local report, out = support.report_of [[
      local group = barrier.group()
      group:add(1, function() error "in the stop" end)
      group:add(2, function() print "stopped" end)
      group:wait(function(err) print(err) end)
      group:abort()
      uv.run()
    ]]
    assert.are.equal("stopped\nBrokenBarrierError: group aborted\n", out)
    assert.is_truthy(report:find("in the stop", 1, true), report)
  end)

  it("comes before any party is notified, and may call anything", function()
    local group, log = barrier.group(), {}
    local done
    done = group:add("job", function()
      add(log, "stop")
      group:wait(function()
        add(log, "inner")
      end)
      group:abort "again"
      group:add("key", stopper(log, "at once"))
      done "from the stop"
    end)
    group:wait(function(err)
      add(log, tostring(err))
    end)
    group:abort "first"
    run_loop()
    assert.are.same({ "stop", "at once0", "BrokenBarrierError: group aborted: first", "inner" },
      log)
    assert.are.same({ job = "from the stop" }, group.late)
  end)
end)

describe("a group that was stopped", function()
  it("calls the stop of a job that is added, and ignores the job", function()
    local group, log = barrier.group(), {}
    group:abort()
    local done = group:add("key", stopper(log, "stop"))
    assert.are.same({ "stop0" }, log)
    assert.are.equal(0, select("#", done("ignored")))
    group:add()()
    group:start("key", error)
    assert.are.same({ 0, 0, {}, {} }, { group.n_jobs, group.n_pending, group.late, group.errors })
  end)

  it("never begins the jobs that had to queue, and they leave pending()", function()
    local group, log, running = barrier.group { limit = 1 }, {}, nil
    for i = 1, 3 do
      group:start("job " .. i, function(done)
        add(log, i)
        running = done
        return stopper(log, "stop")
      end)
    end
    assert.are.same({ "job 1", "job 2", "job 3" }, group:pending())
    assert.are.equal(1, group.n_running)
    group:abort()
    assert.are.same({ "job 1" }, group:pending())
    local err = finish(group)
    assert.are.same({ "job 1", "job 2", "job 3" }, err.pending)
    running()
    run_loop()
    assert.are.same({ 1, "stop0" }, log)
    assert.is_truthy(tostring(group):find("[1/3 done]", 1, true), tostring(group))
  end)

  it("lets join wait until pending() is empty, and wait does not", function()
    local group, log = barrier.group(), {}
    local first, second = group:add "first", group:add "second"
    group:join(function(err)
      add(log, "join " .. tostring(err.reason))
    end)
    group:wait(function()
      add(log, "wait")
    end)
    co(function()
      local err = group:join()
      add(log, "coroutine " .. #err.pending)
    end)
    group:abort "stop"
    run_loop()
    assert.are.same({ "wait" }, log)
    first()
    run_loop()
    second "late"
    assert.are.equal(1, #log)
    run_loop()
    assert.are.same({ "wait", "join stop", "coroutine 2" }, log)
    group:join(function()
      add(log, "at once")
    end)
    run_loop()
    assert.are.equal("at once", log[4])
  end)

  it("lets a join time out while a job is pending, also after a result has stopped it", function()
    local group, log = barrier.group { stop_on_result = true, limit = 2 }, {}
    local slow
    group:start("slow", function(done) slow = done end)
    group:add "quick"()
    group:join(1, support.recorder(log))
    run_loop()
    local err = log[1].err
    assert.are.equal("TimeoutError", err.name)
    assert.are.equal("wait timed out after 1 ms, 1 of 2 jobs were done, pending: slow", err.message)
    assert.are.equal(1, err.timeout)
    slow()
    group:join(1, support.recorder(log))
    run_loop()
    assert.are.equal(2, #log)
    assert.is_nil(log[2].err)
  end)

  it("joins as it waits if it was not stopped", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    group:join(recorder(log))
    done(nil, 1)
    run_loop()
    assert.are.same({ { n = 3, results = { 1 }, errors = {} } }, log)
    group = barrier.group()
    assert.is_nil((finish(group, "join")))
  end)
end)

describe("close", function()
  it("stops the group with the reason 'closed', and calls on_close from the loop", function()
    local group, log = barrier.group(), {}
    group:add("key", stopper(log, "stop"))
    group:close(function(...)
      add(log, "closed" .. select("#", ...))
    end)
    group:close()
    group:close(function()
      add(log, "again")
    end)
    assert.are.same({ "stop0" }, log)
    run_loop()
    assert.are.same({ "stop0", "closed0", "again" }, log)
    assert.are.equal("closed", finish(group).reason)
    assert.is_true(group:is_closing())
  end)

  it("changes nothing when the group is complete", function()
    local group = barrier.group()
    group:add()()
    finish(group)
    group:close()
    assert.is_nil((finish(group)))
  end)

  it("makes a group a job of another one", function()
    local outer, inner, log = barrier.group(), barrier.group(), {}
    local done = inner:add("job", stopper(log, "stop"))
    inner:join(outer:add("inner", inner))
    outer:wait(recorder(log))
    outer:abort()
    assert.are.equal("stop0", log[1])
    run_loop()
    assert.are.equal(2, #log)
    assert.are.same({ "inner" }, outer:pending())
    done "killed"
    run_loop()
    assert.are.same({}, outer:pending())
    assert.are.same({ job = "killed" }, inner.late)
    assert.are.same({}, outer.late) -- the stop closed it: no fault
    local other = barrier.group()
    inner = barrier.group { stop_on_error = true }
    inner:join(other:add("inner", inner))
    inner:add "bad" "failed"
    local err = finish(other)
    assert.are.equal("1 of 1 jobs failed: inner: GroupError: 1 of 1 jobs failed: bad: failed",
      err.message)
  end)

  support.it_closes("is called when the block is left", function()
    local log = {}
    local chunk = assert(load [[
      local group, stop = ...
      local closing <close> = group
      group:add("key", stop)
    ]])
    chunk(barrier.group(), stopper(log, "stop"))
    assert.are.same({ "stop0" }, log)
  end)
end)
