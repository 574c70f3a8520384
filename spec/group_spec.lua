local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local it_catches, it_closes = support.it_catches, support.it_closes

local function nothing() end

---Calls `f` once, from a timer's callback.
local function later(f)
  local timer = uv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    f()
  end)
end

---A callback that appends to `log` how its wait ended: a table with n, errors and results.
local function recorder(log)
  return function(...)
    add(log, { n = select("#", ...), errors = (...), results = (select(2, ...)) })
  end
end

---Runs the loop until the group is complete. Returns the errors and the results.
local function finish(group)
  local log = {}
  group:wait(recorder(log))
  run_loop()
  assert.are.equal(1, #log)
  return log[1].errors, log[1].results
end

---Expects an error of `f` that contains `text`.
local function raises(text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
end

describe("barrier.group", function()
  it("is complete when wait was called and every job is done", function()
    local group, log = barrier.group(), {}
    local done = { group:add "a", group:add "b", group:add "c" }
    group:wait(recorder(log))
    for i = 1, 3 do
      run_loop()
      assert.are.same({}, log)
      done[i](nil, i)
    end
    assert.are.same({}, log) -- never from inside `done`
    run_loop()
    assert.are.same({ { n = 2, results = { a = 1, b = 2, c = 3 } } }, log)
  end)

  it("suspends a coroutine, and returns nil and the results to it", function()
    local group, log = barrier.group(), {}
    later(group:add "timer")
    uv.fs_stat(".", group:add "stat")
    co(function()
      local errors, results = group:wait()
      add(log, { errors, results.timer, results.stat.type })
    end)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ { nil, true, "directory" } }, log)
  end)

  it("gives the errors and the results by key", function()
    local group = barrier.group()
    for _, path in ipairs { ".", "/no/such/file", "/", "/no/such/folder" } do
      uv.fs_stat(path, group:add(path))
    end
    local errors, results = finish(group)
    assert.are.equal("directory", results["."].type)
    assert.are.equal("directory", results["/"].type)
    results["."], results["/"] = nil, nil
    assert.are.same({}, results)
    assert.are.same({
      ["/no/such/file"] = "ENOENT: no such file or directory: /no/such/file",
      ["/no/such/folder"] = "ENOENT: no such file or directory: /no/such/folder",
    }, errors)
  end)

  it("gives nil, not an empty table, if there was no error", function()
    local group = barrier.group()
    group:add()(false, "value")
    local errors, results = finish(group)
    assert.is_nil(errors)
    assert.are.same({ "value" }, results)
  end)

  it("tells the numbers of jobs, and which are pending, in order of adding", function()
    local group, done, keys = barrier.group(), {}, {}
    assert.are.same({}, group:pending())
    for i = 1, 100 do
      keys[i] = (i * 37 % 101) .. "th"
      done[i] = group:add(keys[i])
    end
    assert.are.same(keys, group:pending())
    for i = 99, 1, -2 do
      done[i]()
      table.remove(keys, i)
    end
    assert.are.same(keys, group:pending())
    assert.are.equal(100, group.n_jobs)
    assert.are.equal(50, group.n_pending)
    group:pending()[1] = nil -- it is a copy
    assert.are.equal(50, #group:pending())
  end)

  it("takes one option", function()
    assert.is_truthy(barrier.group {})
    assert.is_truthy(barrier.group { stop_on_error = false })
    raises("bad argument #1 to 'group' (unknown option 'timeout')", barrier.group, { timeout = 1 })
    raises("bad argument #1 to 'group' (options must be a table, got number)", barrier.group, 3)
    raises("bad argument #1 to 'group' (option 'stop_on_error' must be a boolean, got string)",
      barrier.group, { stop_on_error = "yes" })
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() barrier.group(false) end)
    assert.is_truthy(err:find("group_spec.lua:" .. line .. ": bad argument", 1, true), err)
  end)
end)

-- What goes wrong where callbacks are counted by hand.
describe("a group, unlike a counter,", function()
  it("counts a job once that calls back twice", function()
    local group, log = barrier.group(), {}
    local first, second = group:add "first", group:add "second"
    group:wait(recorder(log))
    first(nil, "a value")
    first(nil, "another")
    first "an error"
    run_loop()
    assert.are.same({}, log)
    assert.are.equal(1, group.n_pending)
    second()
    run_loop()
    first "after the end"
    assert.are.same({ { n = 2, results = { first = "a value", second = true } } }, log)
  end)

  it("counts a job that fails down too, in the same call", function()
    local group = barrier.group()
    group:add "bad" "failed"
    assert.are.equal(0, group.n_pending)
    local errors, results = finish(group)
    assert.are.same({ bad = "failed" }, errors)
    assert.are.same({}, results)
  end)

  it("names a job that never calls back", function()
    local group, log = barrier.group(), {}
    group:add "silent"
    later(group:add "honest")
    group:wait(10, recorder(log))
    run_loop()
    assert.are.equal(barrier.TimeoutError, getmetatable(log[1].errors))
    assert.are.same({ "silent" }, log[1].errors.pending)
    assert.are.equal("wait timed out after 10 ms, 1 of 2 jobs were done, pending: silent",
      log[1].errors.message)
  end)

  it("calls back if there is no job at all, on the next turn", function()
    local group, log = barrier.group(), {}
    group:wait(recorder(log))
    assert.are.same({}, log)
    uv.run "nowait"
    assert.are.same({ { n = 2, results = {} } }, log)
  end)

  it("suspends a coroutine if there is no job at all, until the next turn", function()
    local group, log = barrier.group(), {}
    co(function()
      local errors, results = group:wait()
      add(log, { errors = errors, results = results })
    end)
    assert.are.same({}, log)
    uv.run "nowait"
    assert.are.same({ { results = {} } }, log)
  end)

  it("is not complete when a job is done inside the loop that starts the jobs", function()
    local group, log = barrier.group(), {}
    for i = 1, 3 do
      local done = group:add()
      done(i == 2 and "failed at once", i)
      run_loop()
    end
    group:wait(recorder(log))
    run_loop()
    assert.are.same({ { n = 2, errors = { [2] = "failed at once" },
      results = { 1, [3] = 3 } } }, log)
  end)

  it("waits for the jobs that jobs start", function()
    local group, log = barrier.group(), {}
    local function visit(depth)
      local done = group:add()
      later(function()
        if depth > 0 then
          visit(depth - 1)
          visit(depth - 1)
        end
        done(nil, depth)
      end)
    end
    visit(4)
    group:wait(recorder(log))
    run_loop()
    assert.are.equal(31, group.n_jobs)
    assert.are.equal(31, #log[1].results)
  end)

  it("gives the errors once, however many there are", function()
    for _, stop_on_error in ipairs { true, false } do
      local group, log = barrier.group { stop_on_error = stop_on_error }, {}
      local done = { group:add(), group:add(), group:add() }
      group:wait(recorder(log))
      for i = 1, 3 do
        done[i]("error " .. i)
        run_loop()
      end
      assert.are.equal(1, #log)
    end
  end)

  it("stores a result under its job's key, in whatever order they come", function()
    local group, done = barrier.group(), {}
    for i = 1, 10 do
      done[i] = group:add()
    end
    for _, i in ipairs { 7, 2, 10, 1, 9, 3, 8, 4, 6, 5 } do
      done[i](nil, "result " .. i)
    end
    local _, results = finish(group)
    for i = 1, 10 do
      assert.are.equal("result " .. i, results[i])
    end
  end)

  it("calls nobody who has closed its Waiter", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    local waiter = group:wait(error)
    waiter:close(function()
      add(log, "closed")
    end)
    assert.is_true(waiter:is_closing())
    done()
    run_loop()
    waiter:close()
    assert.are.same({ "closed" }, log)
  end)
end)

describe("done", function()
  ---What `done(...)` gives.
  local function outcome_of(...)
    local group = barrier.group()
    group:add "key"(...)
    local errors, results = finish(group)
    return errors and errors.key, results.key
  end

  it("keeps one value as it is, and no value as true", function()
    local value = {}
    assert.are.same({ nil, value }, { outcome_of(nil, value) })
    assert.are.equal(value, (select(2, outcome_of(nil, value))))
    assert.are.same({ nil, false }, { outcome_of(nil, false) })
    assert.are.same({ nil, true }, { outcome_of() })
    assert.are.same({ nil, true }, { outcome_of(nil) })
    assert.are.same({ nil, true }, { outcome_of(false) })
    assert.are.same({ nil, true }, { outcome_of(nil, nil) })
  end)

  it("packs several values, with nils among them", function()
    assert.are.same({ nil, { n = 2, 1, 2 } }, { outcome_of(nil, 1, 2) })
    assert.are.same({ nil, { n = 4, nil, 2, nil, nil } }, { outcome_of(nil, nil, 2, nil, nil) })
    assert.are.same({ nil, { n = 2 } }, { outcome_of(nil, nil, nil) })
  end)

  it("keeps any true error as it is, and drops the values after it", function()
    for _, err in ipairs { "text", 0, true, {}, print } do
      local errors, results = outcome_of(err, "value")
      assert.are.equal(err, errors)
      assert.is_nil(results)
    end
  end)

  it("returns nothing", function()
    local done = barrier.group():add()
    assert.are.equal(0, select("#", done(nil, 1)))
    assert.are.equal(0, select("#", done(nil, 1)))
  end)

  it("may be called before anyone waits, in a coroutine, and by the garbage collector", function()
    local group = barrier.group()
    group:add "before"()
    co(group:add "coroutine", nil, 1)
    if _VERSION ~= "Lua 5.1" then -- where tables have no finalizers
      local done = group:add "finalizer"
      setmetatable({}, { __gc = function() done(nil, 2) end })
      support.collect_garbage()
    end
    local errors, results = finish(group)
    assert.is_nil(errors)
    assert.are.equal(true, results.before)
    assert.are.equal(1, results.coroutine)
  end)
end)

describe("add", function()
  it("takes keys of any type", function()
    local keys = { "text", 1.5, -1, true, false, {}, print, co(nothing), io.stdout }
    local group, done = barrier.group(), {}
    for i = 1, #keys do
      done[i] = group:add(keys[i])
    end
    assert.are.same(keys, group:pending())
    for i = 1, #keys do
      done[i](i % 2 == 0 and "error " .. i, i)
    end
    local errors, results = finish(group)
    for i = 1, #keys do
      assert.are.equal(i % 2 == 1 and i or nil, results[keys[i]])
      assert.are.equal(i % 2 == 0 and "error " .. i or nil, errors[keys[i]])
    end
  end)

  it("takes false as a key that has the only error", function()
    local group = barrier.group()
    group:add(false) "failed"
    assert.are.same({ [false] = "failed" }, (finish(group)))
  end)

  it("gives the job its number as a key if there is none, nil included", function()
    local group = barrier.group()
    group:add()
    group:add(nil)
    group:add()
    assert.are.same({ 1, 2, 3 }, group:pending())
  end)

  it("refuses NaN", function()
    local group = barrier.group()
    raises("bad argument #1 to 'add' (key must not be NaN)", group.add, group, 0 / 0)
    assert.are.equal(0, group.n_jobs)
  end)

  it("refuses a key that is pending, and changes nothing", function()
    local group = barrier.group()
    local done = group:add "key"
    raises("bad argument #1 to 'add' (a job with this key is pending)", group.add, group, "key")
    assert.are.equal(1, group.n_jobs)
    assert.are.equal(1, group.n_pending)
    done(nil, "value")
    assert.are.same({ key = "value" }, (select(2, finish(group))))
  end)

  it("takes a key again that is done: the last outcome counts", function()
    local group = barrier.group()
    local first = group:add "a"
    first "failed"
    local second = group:add "a"
    first "once more"
    assert.are.same({ "a" }, group:pending())
    second(nil, "better")
    group:add "b"(nil, "good")
    group:add "b" "failed"
    local errors, results = finish(group)
    assert.are.same({ b = "failed" }, errors)
    assert.are.same({ a = "better" }, results)
  end)

  it("refuses jobs when the group is complete", function()
    local group = barrier.group()
    local done = group:add()
    group:wait(nothing)
    local last = group:add()
    done()
    group:add()() -- one was still pending
    last()
    raises("bad argument #1 to 'add' (the group is complete)", group.add, group)
    run_loop()
    raises("bad argument #1 to 'add' (the group is complete)", group.add, group)
    assert.are.equal(3, group.n_jobs)
  end)

  it("is refused after a wait that found no job", function()
    local group = barrier.group()
    group:wait(nothing)
    raises("(the group is complete)", group.add, group)
  end)

  it("says at whose line the mistake is, and who is no group", function()
    local group = barrier.group()
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() group:add(0 / 0) end)
    assert.is_truthy(err:find("group_spec.lua:" .. line .. ": bad argument", 1, true), err)
    raises("calling 'add' on bad self (group expected)", group.add, "key")
    raises("calling 'wait' on bad self (group expected)", group.wait, 100)
  end)
end)

describe("wait", function()
  it("serves whoever comes, before and after the end, in order", function()
    local group, log = barrier.group(), {}
    local function wait(name)
      co(function()
        group:wait()
        add(log, name .. " coroutine")
      end)
      group:wait(function()
        add(log, name .. " callback")
      end)
    end
    local done = group:add()
    wait "first"
    wait "second"
    done()
    wait "third" -- complete, but nobody has been told yet
    assert.are.same({}, log)
    run_loop()
    local expected = {}
    for _, name in ipairs { "first", "second", "third" } do
      add(expected, name .. " coroutine")
      add(expected, name .. " callback")
    end
    assert.are.same(expected, log)
    for _ = 1, 2 do
      log = {}
      wait "late"
      assert.are.same({}, log)
      uv.run "nowait"
      assert.are.same({ "late coroutine", "late callback" }, log)
    end
  end)

  it("lets everybody go in one turn, however many come after the end", function()
    local group, n = barrier.group(), 0
    for _ = 1, 1000 do
      group:wait(function()
        n = n + 1
      end)
    end
    uv.run "nowait"
    assert.are.equal(1000, n)
    assert.is_false(uv.loop_alive())
  end)

  it("gives everybody the same tables", function()
    local group, log = barrier.group(), {}
    group:add "a" "failed"
    group:wait(recorder(log))
    group:wait(recorder(log))
    run_loop()
    assert.are.equal(log[1].errors, log[2].errors)
    assert.are.equal(log[1].results, log[2].results)
  end)

  it("returns a Waiter to who gives a callback, anything callable", function()
    local group, log = barrier.group(), {}
    local callable = setmetatable({}, { __call = function(_, ...)
      add(log, { n = select("#", ...), ... })
    end, __metatable = false })
    local waiter = group:wait(callable)
    assert.is_truthy(tostring(waiter):find("barrier.Waiter", 1, true))
    group:wait(1000, callable)
    run_loop()
    assert.are.same({ { n = 2, nil, {} }, { n = 2, nil, {} } }, log)
    assert.is_true(waiter:is_closing())
  end)

  it("counts if it was closed, or has timed out", function()
    for _, leave in ipairs { "close", "timeout" } do
      local group = barrier.group()
      local done = group:add()
      local waiter = group:wait(1, nothing)
      if leave == "close" then
        waiter:close()
      end
      run_loop()
      group:add()()
      done()
      raises("(the group is complete)", group.add, group)
    end
  end)

  it("may be called by whoever was let go", function()
    local group, log = barrier.group(), {}
    group:wait(function()
      group:wait(function()
        add(log, "inner")
      end)
      add(log, "outer")
    end)
    run_loop()
    assert.are.same({ "outer", "inner" }, log)
  end)

  it("refuses what is no timeout and no callback, and does not count then", function()
    local group = barrier.group()
    for _, timeout in ipairs { -1, 1.5, math.huge, 0 / 0, 1e300, "10", {}, true } do
      raises("bad argument #1 to 'wait' (", group.wait, group, timeout)
      co(function()
        raises("bad argument #1 to 'wait' (", group.wait, group, timeout)
      end)
    end
    raises("bad argument #2 to 'wait' (callback must be callable", group.wait, group, 1, 2)
    raises("bad argument #2 to 'wait' (nothing comes after the callback", group.wait, group,
      nothing, nothing)
    raises("bad argument #1 to 'wait' (timeout must be", group.wait, group, -1, nothing)
    group:add() -- not complete
    assert.is_false(uv.loop_alive())
  end)

  it("refuses where it cannot suspend, and does not count then", function()
    local result = support.chunk [[
      local group = barrier.group()
      print(pcall(group.wait, group))
      print(pcall(group.wait, group, 10))
      print(select(2, pcall(function() group:wait() end)))
      coroutine.wrap(function()
        print(select(2, pcall(table.sort, { 1, 2 }, function() group:wait() end)))
      end)()
      group:add() -- not complete
    ]]
    assert.are.equal("", result.err)
    local outside = "cannot wait outside a coroutine; give wait a callback, or call it in one\n"
    local first, second, third, fourth = result.out:match("(.-\n)(.-\n)(.-\n)(.-\n)$")
    assert.are.equal("false\t" .. outside, first)
    assert.are.equal("false\t" .. outside, second)
    assert.is_truthy(third:find("^.-:%d+: cannot wait outside a coroutine"), third)
    assert.is_nil(third:find("group.lua", 1, true), third)
    assert.is_truthy(fourth:find("the coroutine cannot yield across a C function", 1, true), fourth)
  end)

  it("yields nothing to whoever resumed the coroutine", function()
    local group = barrier.group()
    local thread = coroutine.create(function()
      group:wait()
    end)
    assert.are.equal(1, select("#", coroutine.resume(thread)))
    run_loop()
    assert.are.equal("dead", coroutine.status(thread))
  end)

  it("goes on for others when a callback raises an error, which is reported", function()
    local result = support.chunk [[
      local group = barrier.group()
      local done = group:add()
      group:wait(function() error "in the callback" end)
      coroutine.wrap(function() group:wait() error "in the coroutine" end)()
      group:wait(function(errors, results) print(errors, results[1]) end)
      done(nil, "result")
      uv.run()
    ]]
    assert.are.equal("nil\tresult\n", result.out)
    assert.is_truthy(result.err:find("in the callback", 1, true), result.err)
    assert.is_truthy(result.err:find("in the coroutine", 1, true), result.err)
  end)
end)

describe("wait with a timeout", function()
  it("passes a TimeoutError, and the group goes on", function()
    local group, log = barrier.group(), {}
    local done = {}
    for i, key in ipairs { "a", "b", "c", "d" } do
      done[i] = group:add(key)
    end
    done[2]()
    group:wait(1, recorder(log))
    run_loop()
    local err = log[1].errors
    assert.are.equal(1, log[1].n)
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal("TimeoutError", err.name)
    assert.are.same({ "a", "c", "d" }, err.pending)
    assert.are.equal("TimeoutError: wait timed out after 1 ms, 1 of 4 jobs were done, " ..
      "pending: a, ...", tostring(err))
    group:wait(1, recorder(log))
    done[1]()
    run_loop()
    assert.are.same({ "c", "d" }, log[2].errors.pending)
    done[3](nil, "late")
    done[4] "failed"
    local errors, results = finish(group)
    assert.are.same({ d = "failed" }, errors)
    assert.are.same({ a = true, b = true, c = "late" }, results)
  end)

  it_catches("raises it in a coroutine", function()
    local group, log = barrier.group(), {}
    group:add(false)
    co(function()
      local ok, err = pcall(group.wait, group, 1)
      add(log, { ok, getmetatable(err) == barrier.TimeoutError, err.pending, tostring(err) })
    end)
    run_loop()
    assert.are.same({ { false, true, { false },
      "TimeoutError: wait timed out after 1 ms, 0 of 1 jobs were done, pending: false" } }, log)
  end)

  it("reports it if nobody catches it, with the traceback", function()
    local result = support.chunk [[
      local group = barrier.group()
      group:add "slow"
      local function patient() group:wait(5) return "not a tail call" end
      coroutine.wrap(function() local _ = patient() end)()
      uv.run()
    ]]
    local text = "TimeoutError: wait timed out after 5 ms"
    assert.is_truthy(result.err:find(text, 1, true), result.err)
    assert.is_truthy(result.err:find("patient", 1, true), result.err)
    if support.pcall_yields then
      assert.is_truthy(result.err:find("pending: slow", 1, true), result.err)
    end
  end)

  it("does not time out when the group is complete, not even after 0 ms", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    group:wait(0, recorder(log))
    done()
    group:wait(0, recorder(log))
    co(function()
      local errors = group:wait(0)
      add(log, { errors = errors })
    end)
    run_loop()
    assert.are.equal(3, #log)
    for _, outcome in ipairs(log) do
      assert.is_nil(outcome.errors)
    end
  end)

  it("leaves no handle behind when the group completes", function()
    local group, n = barrier.group(), 0
    local done = group:add()
    group:wait(1000000, function()
      n = n + 1
    end)
    co(function()
      group:wait(1000000)
      n = n + 1
    end)
    done()
    run_loop()
    assert.are.equal(2, n)
    assert.is_false(uv.loop_alive())
  end)
end)

describe("a coroutine that waits for a group", function()
  it_closes("leaves it when it is closed, and leaves no handle behind", function()
    local group = barrier.group()
    local done = group:add()
    local thread = co(function()
      group:wait(1000000)
    end)
    assert.is_true(coroutine.close(thread))
    run_loop()
    assert.is_false(uv.loop_alive())
    done()
    finish(group)
  end)

  it_catches("gets a CancelledError if a stranger resumes it", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    local thread = co(function()
      local ok, err = pcall(group.wait, group)
      add(log, { ok, getmetatable(err) == barrier.CancelledError })
    end)
    coroutine.resume(thread, "stranger")
    run_loop()
    assert.are.same({ { false, true } }, log)
    done()
    assert.is_nil((finish(group)))
  end)
end)

describe("stop_on_error", function()
  it("completes the group at the first error; what is pending is in neither table", function()
    local group, log = barrier.group { stop_on_error = true }, {}
    local done = { group:add "a", group:add "b", group:add "c", group:add "d" }
    group:wait(recorder(log))
    done[1](nil, "value")
    done[3] "failed"
    assert.are.equal(0, group.n_pending)
    assert.are.equal(4, group.n_jobs)
    assert.are.same({}, group:pending())
    done[2](nil, "late")
    done[4] "late"
    run_loop()
    done[2](nil, "later")
    assert.are.same({ { n = 2, errors = { c = "failed" }, results = { a = "value" } } }, log)
    raises("(the group is complete)", group.add, group)
  end)

  it("waits for all if there is no error", function()
    local group, log = barrier.group { stop_on_error = true }, {}
    local done = { group:add(), group:add() }
    group:wait(recorder(log))
    done[1]()
    run_loop()
    assert.are.same({}, log)
    done[2]()
    run_loop()
    assert.are.same({ { n = 2, results = { true, true } } }, log)
  end)

  it("ignores jobs that are added after the error, before anyone waits", function()
    local group = barrier.group { stop_on_error = true }
    local first = group:add()
    group:add() "failed at once"
    local third = group:add()
    assert.are.equal(3, group.n_jobs)
    assert.are.equal(0, group.n_pending)
    third "ignored"
    first "ignored"
    local errors, results = finish(group)
    third "ignored"
    assert.are.same({ [2] = "failed at once" }, errors)
    assert.are.same({}, results)
  end)
end)

describe("abort", function()
  it("fails whoever waits, and whoever comes to wait, with the reason", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    group:wait(recorder(log))
    group:wait(1000000, recorder(log))
    group:abort "the buffer was closed"
    group:abort "another reason"
    group:wait(recorder(log))
    run_loop()
    done()
    group:wait(recorder(log))
    run_loop()
    assert.are.equal(4, #log)
    for _, outcome in ipairs(log) do
      assert.are.equal(1, outcome.n)
      assert.are.equal(barrier.BrokenBarrierError, getmetatable(outcome.errors))
      assert.are.equal("the buffer was closed", outcome.errors.reason)
    end
    assert.is_false(uv.loop_alive())
  end)

  it_catches("raises it in a coroutine", function()
    local group, log = barrier.group(), {}
    group:add()
    co(function()
      add(log, tostring(select(2, pcall(group.wait, group))))
    end)
    group:abort "why"
    run_loop()
    assert.are.same({ "BrokenBarrierError: barrier aborted: why" }, log)
  end)

  it("fails who has not been told yet that the group is complete", function()
    local log = {}
    local group = barrier.group()
    group:wait(recorder(log)) -- no job
    group:abort()
    group = barrier.group()
    local done = group:add()
    group:wait(recorder(log))
    done()
    group:abort()
    run_loop()
    for i = 1, 2 do
      assert.are.equal(barrier.BrokenBarrierError, getmetatable(log[i].errors))
    end
    assert.are.equal(2, #log)
  end)

  it("lets jobs add others, and be done", function()
    local group = barrier.group()
    local done = group:add()
    group:wait(nothing)
    group:abort()
    group:add()()
    assert.are.same({ 1 }, group:pending())
    done()
    assert.are.equal(0, group.n_pending)
    run_loop()
  end)
end)

describe("garbage", function()
  it("is a group that nobody can reach, with its callbacks and coroutines", function()
    assert.is_true(support.collected(function()
      local group, kept = barrier.group(), {}
      local done = group:add()
      co(function()
        group:wait()
        kept.touch = done
      end)
      group:wait(function()
        kept.touch = group
      end)
      return kept
    end))
  end)

  it("is the group when it has completed, with its results", function()
    local n = 0
    assert.is_true(support.collected(function()
      local group, result = barrier.group(), {}
      local done = group:add()
      group:wait(function()
        n = n + 1
      end)
      done(nil, result)
      run_loop()
      return result
    end))
    assert.are.equal(1, n)
  end)

  it("is no group of which a pending callback can be reached", function()
    local log, callbacks = {}, {}
    do
      local group = barrier.group()
      callbacks.done = group:add()
      co(function()
        add(log, (select(2, group:wait())))
      end)
    end
    support.collect_garbage()
    callbacks.done(nil, "value")
    callbacks.done = nil
    support.collect_garbage() -- it has to tell the coroutine first
    run_loop()
    assert.are.same({ { "value" } }, log)
  end)
end)

describe("a group of a hundred thousand jobs", function()
  it("is complete after all of them, in any order", function()
    local N = 100000
    local group, done, log = barrier.group(), {}, {}
    for i = 1, N do
      done[i] = group:add()
    end
    group:wait(recorder(log))
    for i = 1, N do
      local k = i * 7919 % N + 1 -- 7919 is prime: each once
      done[k](k % 10 == 0 and k, k)
    end
    assert.are.equal(0, group.n_pending)
    run_loop()
    local n_errors = 0
    for key, err in pairs(log[1].errors) do
      assert(key == err and err % 10 == 0)
      n_errors = n_errors + 1
    end
    assert.are.equal(N / 10, n_errors)
    for key, value in pairs(log[1].results) do
      assert(key == value and value % 10 ~= 0)
    end
  end)

  it("stops at the first error, whoever is pending", function()
    local group, done = barrier.group { stop_on_error = true }, {}
    for i = 1, 100000 do
      done[i] = group:add()
    end
    done[50000] "failed"
    assert.are.same({ [50000] = "failed" }, (finish(group)))
  end)
end)

describe("barrier.stuck", function()
  it("tells of a group that somebody waits for, and how many jobs are missing", function()
    local result = support.chunk [[
      local group = barrier.group()
      group:add() group:add() group:add()()
      local function forgotten() group:wait() return "not a tail call" end
      coroutine.wrap(function() local _ = forgotten() end)()
      uv.run()
      print(barrier.stuck())
    ]]
    assert.are.equal("", result.err)
    assert.is_truthy(result.out:find("2 missing", 1, true), result.out)
    assert.is_truthy(result.out:find("forgotten", 1, true), result.out)
  end)
end)
