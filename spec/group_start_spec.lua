-- Groups that start their jobs: start, run and the option limit.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local it_catches = support.it_catches
local later, finish, raises = support.later, support.finish, support.raises

local function nothing() end

describe("start", function()
  it("calls its function at once, and the job is done when `done` is called", function()
    local group, log = barrier.group(), {}
    group:start("key", function(done, ...)
      add(log, select("#", ...))
      later(function()
        done(nil, "result")
      end)
    end)
    group:start(function(done)
      done "failed at once"
    end)
    assert.are.same({ 0 }, log)
    local err, results, errors = finish(group)
    assert.are.equal("GroupError", err.name)
    assert.are.same({ key = "result" }, results)
    assert.are.same({ [2] = "failed at once" }, errors)
  end)

  it("takes what it raises as the job's error, nil and false too", function()
    local group, err = barrier.group(), {}
    group:start("a", function() error(err) end)
    group:start("b", function() error(nil) end)
    group:start("c", function() error(false) end)
    finish(group)
    assert.are.equal(err, group.errors.a)
    assert.is_truthy(group.errors.b:find("nil", 1, true), group.errors.b)
    assert.is_truthy(group.errors.c:find("false", 1, true), group.errors.c)
  end)

  it("takes nil or false and an error as the job's error", function()
    local group = barrier.group()
    group:start("a", function() return nil, "ENOENT", "name" end)
    group:start("b", function() return false, "failed" end)
    group:start("c", function(done) done(nil, 1) return nil, "done before" end)
    group:start("d", function(done) later(done) return nil, nil end)
    group:start("e", function(done) later(done) return 12 end) -- a number of a job, as in Neovim
    finish(group)
    assert.are.same({ a = "ENOENT", b = "failed" }, group.errors)
    assert.are.same({ c = 1, d = true, e = true }, group.results)
  end)

  it("says why a table that it returns after nil is an error", function()
    local group = barrier.group()
    group:start("stat", function() return nil, { size = 1 } end)
    group:start("named", function()
      return nil, setmetatable({}, { __tostring = function() return "an error" end })
    end)
    local err = finish(group)
    assert.is_truthy(err.message:find("^2 of 2 jobs failed: stat: table: %S+ %(what comes after "
      .. "nil or false is an error%); named: an error$"), err.message)
  end)

  it("keeps what it returns as the job's stop", function()
    local group, log = barrier.group(), {}
    local dones = {}
    for i = 1, 2 do
      group:start(i, function(done)
        dones[i] = done
        return function()
          add(log, i)
        end
      end)
    end
    dones[1]()
    group:abort()
    assert.are.same({ 2 }, log)
  end)

  it("calls the stop that it returns if the group was stopped meanwhile", function()
    local group, log = barrier.group(), {}
    group:start("key", function()
      group:abort()
      add(log, "aborted")
      return function()
        add(log, "stop")
      end
    end)
    assert.are.same({ "aborted", "stop" }, log)
    assert.are.same({ "key" }, group:pending())
  end)

  it("stops a process that it has spawned", function()
    if support.on_windows then
      return
    end
    local group = barrier.group { stop_on_error = true }
    group:start("sleep", function(done)
      local process
      process = uv.spawn("sleep", { args = { "1000" } }, function(_, signal)
        process:close()
        done("signal " .. signal)
      end)
      return process
    end)
    group:start("none", function(done)
      return uv.spawn("/no/such/program", {}, done)
    end)
    local err = finish(group, "join")
    assert.is_truthy(err.message:find("^1 of 2 jobs failed: none: ENOENT"), err.message)
    assert.are.same({ sleep = "signal 15" }, group.late)
  end)

  it("reports an error that it raises after its `done` was called", function()
    local report, out = support.report_of [[
      local group = barrier.group()
      group:start("key", function(done) done(nil, "result") error "after done" end)
      group:wait(function(err, results) print(err, results.key) end)
      uv.run()
    ]]
    assert.are.equal("nil\tresult\n", out)
    assert.is_truthy(report:find("after done", 1, true), report)
  end)

  it("is no recursion, however many jobs are done at once", function()
    for _, limit in ipairs { 1, 3, false } do
      local group, n = barrier.group { limit = limit or nil }, 0
      group:start("first", function(done)
        later(done)
      end)
      for i = 1, 10000 do
        group:start(i, function(done)
          n = n + 1
          done(nil, i)
        end)
      end
      assert.is_nil((finish(group)))
      assert.are.equal(10000, n)
      assert.are.equal(10001, group.n_jobs)
    end
  end)

  it("refuses what cannot be called", function()
    local group = barrier.group()
    raises("bad argument #1 to 'start' (start must be callable, got number)", group.start, group, 1)
    raises("bad argument #2 to 'start' (start must be callable, got table)", group.start, group, 1,
      {})
    raises("bad argument #1 to 'start' (start must be callable, got nil)", group.start, group)
    assert.are.equal(0, group.n_jobs)
  end)
end)

describe("the option limit", function()
  it("starts so many at a time, first come, first served, in a turn of the loop", function()
    local group, log, dones = barrier.group { limit = 2 }, {}, {}
    for i = 1, 5 do
      group:start(i, function(done)
        add(log, i)
        dones[i] = done
      end)
    end
    assert.are.same({ 1, 2 }, log)
    assert.are.same({ 5, 2 }, { group.n_pending, group.n_running })
    dones[2]()
    assert.are.same({ 1, 2 }, log)
    group:start(6, function() -- behind those that came before
      add(log, 6)
    end)
    assert.are.same({ 1, 2 }, log)
    run_loop()
    assert.are.same({ 1, 2, 3 }, log)
    dones[1]()
    dones[3] "failed"
    run_loop()
    assert.are.same({ 1, 2, 3, 4, 5 }, log)
    dones[4]()
    run_loop()
    assert.are.same({ 1, 2, 3, 4, 5, 6 }, log)
  end)

  it("does not count the jobs that run already", function()
    local group, log = barrier.group { limit = 1 }, {}
    group:add()
    group:add()
    group:start(function()
      add(log, "started")
    end)
    assert.are.same({ "started" }, log)
    assert.are.equal(3, group.n_running)
  end)

  it("goes on when jobs fail to start, and when a job starts others", function()
    local group, log = barrier.group { limit = 1 }, {}
    group:start("a", function(done)
      group:start("b", function() error "cannot" end)
      group:start("c", function() return nil, "cannot either" end)
      group:start("d", function(done_d)
        add(log, group.n_running)
        later(done_d)
      end)
      later(done)
    end)
    finish(group)
    assert.are.same({ 1 }, log)
    assert.are.same({ a = true, d = true }, group.results)
    assert.are.equal("cannot either", group.errors.c)
  end)

  support.it_nests("goes on in the loop that a job runs while it is started", function()
    local group, log = barrier.group { limit = 1 }, {}
    group:start("first", function(done)
      later(done)
    end)
    group:start("runs the loop", function(done)
      add(log, "begins")
      local over
      group:start("inner", function(inner)
        add(log, "inner")
        over = true
        inner()
      end)
      done()
      while not over do
        uv.run "once"
      end
      add(log, "ends")
    end)
    finish(group)
    assert.are.same({ "begins", "inner", "ends" }, log)
  end)

  it("starts queued jobs where waiters go on", function()
    local turns, drains = 0, {}
    local group, log = barrier.group { limit = 1, schedule = function(drain)
      turns = turns + 1
      add(drains, drain)
    end }, {}
    local done
    group:start(1, function(first)
      done = first
    end)
    group:start(2, function(second)
      add(log, "second")
      second()
    end)
    done()
    run_loop()
    assert.are.same({}, log)
    assert.are.equal(1, turns)
    table.remove(drains)()
    assert.are.same({ "second" }, log)
    group:wait(function()
      add(log, "over")
    end)
    run_loop()
    assert.are.same({ "second" }, log)
    while drains[1] do
      table.remove(drains)()
      run_loop()
    end
    assert.are.same({ "second", "over" }, log)
  end)

  it("is kept at any time", function()
    local group, running, most = barrier.group { limit = 7 }, 0, 0
    for i = 1, 100 do
      group:start(i, function(done)
        running = running + 1
        most = math.max(most, running)
        later(function()
          running = running - 1
          done()
        end, i % 3)
      end)
    end
    finish(group)
    assert.are.equal(7, most)
  end)
end)

describe("run", function()
  if not support.pcall_yields then
    it("is refused in Lua 5.1, whose pcall cannot yield", function()
      raises("a group has no 'run' in Lua 5.1", barrier.group().run, barrier.group(), nothing)
    end)
    return
  end

  it("runs coroutines, what they return is their result", function()
    local group, b = barrier.group(), barrier.new(2)
    for i = 1, 2 do
      group:run(i, function()
        b:wait()
        return "result " .. i
      end)
    end
    group:run("none", nothing)
    group:run("nil", function() return nil end)
    group:run("two", function() return 1, 2 end)
    group:run(function() return (select(2, barrier.await(uv.fs_stat, "."))) end)
    local err, results = finish(group)
    assert.is_nil(err)
    assert.are.equal("directory", results[6].type)
    results[6] = nil
    assert.are.same({ "result 1", "result 2", none = true, two = { n = 2, 1, 2 } }, results)
  end)

  it("takes what they raise, or return after nil, as their error", function()
    local group, err = barrier.group(), {}
    group:run("a", function() barrier.await(uv.fs_stat, ".") error(err) end)
    group:run("b", function() error(false) end)
    group:run("c", function() error() end)
    group:run("d", function() return nil, "failed" end)
    group:run("e", function() return false, "failed too" end)
    group:run("f", function() assert(nil, nil) end)
    finish(group)
    assert.are.equal(err, group.errors.a)
    assert.are.equal("string", type(group.errors.b))
    assert.are.equal("string", type(group.errors.c))
    assert.are.equal("failed", group.errors.d)
    assert.are.equal("failed too", group.errors.e)
    assert.is_truthy(group.errors.f)
    assert.are.same({}, group.results)
  end)

  it("queues as start does", function()
    local group, running, most = barrier.group { limit = 2 }, 0, 0
    for i = 1, 10 do
      group:run(i, function()
        running = running + 1
        most = math.max(most, running)
        barrier.await(later)
        running = running - 1
      end)
    end
    finish(group)
    assert.are.equal(2, most)
  end)

  it("is stopped by cancelling the coroutine", function()
    local group, b, log = barrier.group(), barrier.new(9), {}
    group:run("at a barrier", function()
      local ok, err = pcall(b.wait, b)
      add(log, tostring(err))
      barrier.await(later) -- clean-up may wait
      add(log, ok)
    end)
    group:run("dies", function() b:wait() end)
    group:run("fault", function()
      pcall(b.wait, b)
      error("in the clean-up", 0)
    end)
    group:run("in another group", function() barrier.group():run(function() b:wait() end) end)
    group:abort()
    assert.are.equal(1, b.n_waiting)
    finish(group, "join")
    assert.are.same({ "CancelledError: wait cancelled", false }, log)
    assert.are.same({ fault = "in the clean-up" }, group.late)
    assert.are.same({}, group:pending())
    b:reset()
    run_loop()
  end)

  it("has its next wait cancelled, once, if it waits nowhere when it is stopped", function()
    local b, one, other, shut = barrier.new(2), barrier.new(1), barrier.group(), barrier.new(1)
    shut:abort()
    local waits = {
      wait = function() b:wait() end,
      timed = function() b:wait(100000) end,
      ["last arrival"] = function() one:wait() end,
      ["await_trip"] = function() b:await_trip() end,
      with = function() b:with(error) end,
      broken = function() shut:wait() end,
      group = function() other:wait() end,
      join = function() other:join(10) end,
      await = function() barrier.await(error) end,
      shared = support.implementation == "C" and function()
        barrier.shared("stopped", 1):wait()
      end or nil,
    }
    for name, wait in pairs(waits) do
      local group, log, resume = barrier.group(), {}, nil
      group:run(name, function()
        resume = coroutine.running()
        coroutine.yield()
        local ok, err = pcall(wait)
        add(log, ok)
        add(log, tostring(err))
        add(log, barrier.await(function(callback) callback "goes on" end))
        barrier.await(later)
      end)
      group:abort()
      assert(coroutine.resume(resume))
      assert.are.same({}, log)
      finish(group, "join")
      assert.are.same({ false, "CancelledError: wait cancelled", "goes on" }, log, name)
      assert.are.same({}, group.late)
    end
    assert.are.same({ 0, 0, 0 }, { b.n_waiting, b.generation, one.generation })
    other:add() -- it is not complete
  end)

  it("may stop its own group", function()
    local group, b, log = barrier.group(), barrier.new(2), {}
    group:run(function()
      group:abort()
      add(log, "aborted")
      b:wait()
    end)
    finish(group, "join")
    assert.are.same({ "aborted" }, log)
    assert.are.same({}, group.late)
    assert.are.equal(0, b.n_waiting)
    group = barrier.group()
    group:run(function()
      group:abort()
    end)
    finish(group, "join")
  end)

  it("is not stopped by a job that was cancelled by hand", function()
    local group, b, co_a = barrier.group { stop_on_error = true }, barrier.new(3), nil
    group:run("a", function()
      co_a = coroutine.running()
      b:wait()
    end)
    group:run("b", function() return barrier.await(later) end)
    assert.is_true(barrier.cancel(co_a))
    local err = finish(group)
    assert.are.equal("1 of 2 jobs failed: a: CancelledError: wait cancelled", err.message)
    assert.are.same({}, err.pending)
  end)

  it("is stopped by the CancelledError of another coroutine, which is an error", function()
    local group = barrier.group { stop_on_error = true }
    group:run("a", function()
      barrier.await(later)
      error(setmetatable({ name = "CancelledError", message = "" }, barrier.CancelledError))
    end)
    group:add "b"
    assert.are.same({ "b" }, finish(group).pending)
  end)

  it("refuses what cannot be called", function()
    local group = barrier.group()
    raises("bad argument #1 to 'run' (body must be callable, got number)", group.run, group, 1)
    raises("bad argument #2 to 'run' (body must be callable, got boolean)", group.run, group, 1,
      true)
    raises("calling 'run' on bad self", group.run, 1, nothing)
  end)
end)

it_catches("a party that is cancelled can stop a group that is its own", function()
  local inner, log, done = barrier.group(), {}, nil
  local thread = co(function()
    done = inner:add("job", function()
      add(log, "stop")
      later(function()
        done "stopped"
      end)
    end)
    local ok, err = pcall(inner.wait, inner)
    inner:abort()
    inner:join()
    add(log, inner.late.job)
    if not ok then
      support.rethrow(err, 0)
    end
  end)
  barrier.cancel(thread)
  run_loop()
  assert.are.same({ "stop", "stopped" }, log)
  assert.are.equal("dead", coroutine.status(thread))
end)
