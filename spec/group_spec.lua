-- Groups: adding jobs, what a job gives, and waiting. Other files have what is about stopping
-- (group_stop_spec.lua), starting (group_start_spec.lua), names (group_name_spec.lua), and calls
-- in between (group_hook_spec.lua).
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local it_catches, it_closes = support.it_catches, support.it_closes
local later, finish, raises, recorder = support.later, support.finish, support.raises,
  support.recorder

local function nothing() end

describe("barrier.group", function()
  it("is complete when wait was called and every job is done", function()
    local group, log = barrier.group(), {}
    local done = { group:add "a", group:add "b", group:add "c" }
    group:wait(recorder(log))
    for i = 1, 3 do
      run_loop()
      assert.are.same({}, log)
      assert.is_false(group:is_closing())
      done[i](nil, i)
    end
    assert.is_true(group:is_closing())
    assert.are.same({}, log) -- never from inside `done`
    run_loop()
    assert.are.same({ { n = 3, results = { a = 1, b = 2, c = 3 }, errors = {} } }, log)
  end)

  it("suspends a coroutine, and returns nil, the results and the errors to it", function()
    local group, log = barrier.group(), {}
    later(group:add "timer")
    uv.fs_stat(".", group:add "stat")
    co(function()
      local err, results, errors = group:wait()
      add(log, { err, results.timer, results.stat.type, errors == group.errors })
    end)
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ { nil, true, "directory", true } }, log)
  end)

  it("gives the results and the errors by key, which are the group's own tables", function()
    local group = barrier.group()
    assert.are.same({ {}, {}, {} }, { group.results, group.errors, group.late })
    for _, path in ipairs { ".", "/no/such/file", "/" } do
      uv.fs_stat(path, group:add(path))
    end
    local err, results, errors = finish(group)
    assert.are.equal(barrier.GroupError, getmetatable(err))
    assert.are.equal(group.results, results)
    assert.are.equal(group.errors, errors)
    assert.are.equal("directory", results["."].type)
    assert.are.equal("directory", results["/"].type)
    assert.is_nil(results["/no/such/file"])
    assert.are.same({
      ["/no/such/file"] = "ENOENT: no such file or directory: /no/such/file",
    }, errors)
  end)

  it("has the numbers of jobs, and which are pending, in order of adding", function()
    local group, done, keys = barrier.group(), {}, {}
    assert.are.same({}, group:pending())
    for i = 1, 100 do
      keys[i] = (i * 37 % 101) .. "th"
      done[i] = group:add(keys[i])
    end
    assert.are.same(keys, group:pending())
    for i = 99, 1, -2 do
      done[i](i % 4 == 1 and "failed")
      table.remove(keys, i)
    end
    assert.are.same(keys, group:pending())
    assert.are.same({ 100, 50, 50, 25 },
      { group.n_jobs, group.n_pending, group.n_running, group.n_errors })
    group:pending()[1] = nil -- it is a copy
    assert.are.equal(50, #group:pending())
  end)

  it("has properties that cannot be assigned to, and is nil for other names", function()
    local group = barrier.group()
    for _, name in ipairs { "n_jobs", "n_pending", "n_running", "n_errors", "results", "errors",
      "late", "other" } do
      raises("cannot assign to '" .. name .. "': the members of a group are read-only", function()
        group[name] = 0
      end)
    end
    assert.is_nil(group.other)
    assert.are.equal("barrier.Group", getmetatable(group))
  end)

  it("has a text with its name and its numbers", function()
    local group = barrier.group()
    assert.is_truthy(tostring(group):find "^<barrier%.Group %S+ %[0/0 done%]>$", tostring(group))
    group:add()()
    group:add() "failed"
    group:add()
    assert.is_truthy(tostring(group):find " %[2/3 done, 1 failed%]>$", tostring(group))
    group = barrier.group { name = "a name" }
    assert.is_truthy(tostring(group):find '^<barrier%.Group "a name" %S+ %[0/0 done%]>$')
  end)

  it("names a wrong option and those that there are", function()
    assert.is_truthy(barrier.group {})
    raises("bad argument #1 to 'group' (unknown option 'limits'; there are limit, stop_on_error, "
      .. "stop_on_result, timeout, schedule, expect and name. The timeout of one wait belongs to "
      .. "wait)", barrier.group, { limits = 1 })
    raises("bad argument #1 to 'group' (options must be a table, got number)", barrier.group, 3)
    for option, wrong in pairs {
      stop_on_error = { "yes", "must be a boolean, got string" },
      stop_on_result = { 1, "must be a boolean, got number" },
      limit = { 0, "must be an integer >= 1, got 0" },
      timeout = { -1, "must be an integer >= 0, in milliseconds, got -1" },
      schedule = { true, "must be callable or false, got boolean" },
      expect = { "key", "must be an array of keys, got string" },
      name = { 1, "must be a string, got number" },
    } do
      raises("bad argument #1 to 'group' (option '" .. option .. "' " .. wrong[2] .. ")",
        barrier.group, { [option] = wrong[1] })
    end
    raises("(option 'limit' must be an integer >= 1, got 1.5)", barrier.group, { limit = 1.5 })
    raises("an array of keys, none of them nil or NaN", barrier.group, { expect = { key = 1 } })
    raises("an array of keys, none of them nil or NaN", barrier.group, { expect = { 0 / 0 } })
    raises("each of them once; it has 'a' twice", barrier.group, { expect = { "a", "a" } })
    local odd = setmetatable({}, { __tostring = function() error "no text" end })
    raises("must be an integer >= 1, got table", barrier.group, { limit = odd })
    raises("must be an integer >= 0, in milliseconds, got table", barrier.group, { timeout = odd })
    raises("unknown option 'table'", barrier.group, { [odd] = 1 })
    raises("it has 'table' twice", barrier.group, { expect = { odd, odd } })
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() barrier.group(false) end)
    assert.is_truthy(err:find("group_spec.lua:" .. line .. ": bad argument", 1, true), err)
  end)

  it("leaves no handle behind, and no barrier, when it is over", function()
    for _ = 1, 3 do
      local group = barrier.group()
      later(group:add())
      finish(group)
    end
    assert.is_false(uv.loop_alive())
  end)
end)

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
    assert.are.same({ { n = 3, results = { first = "a value", second = true }, errors = {} } }, log)
  end)

  it("calls back if there is no job at all, on the next turn", function()
    local group, log = barrier.group(), {}
    group:wait(recorder(log))
    co(function()
      local err = group:wait()
      add(log, { err, "coroutine" })
    end)
    assert.are.same({}, log)
    assert.is_false(group:is_closing())
    uv.run "nowait"
    assert.are.same({ { n = 3, results = {}, errors = {} }, { nil, "coroutine" } }, log)
    assert.is_true(group:is_closing())
  end)

  it("waits for a job that is added in the turn of a wait that found none", function()
    local group, log = barrier.group(), {}
    group:wait(recorder(log))
    local done = group:add "key"
    run_loop()
    assert.are.same({}, log)
    done(nil, 1)
    run_loop()
    assert.are.same({ { n = 3, results = { key = 1 }, errors = {} } }, log)
  end)

  it("is not complete when a job is done inside the loop that starts the jobs", function()
    local group = barrier.group()
    for i = 1, 3 do
      local done = group:add()
      done(i == 2 and "failed at once", i)
      run_loop()
    end
    local err, results, errors = finish(group)
    assert.are.equal("GroupError: 1 of 3 jobs failed: 2: failed at once", tostring(err))
    assert.are.same({ 1, [3] = 3 }, results)
    assert.are.same({ [2] = "failed at once" }, errors)
  end)

  it("waits for the jobs that jobs add", function()
    local group = barrier.group()
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
    local _, results = finish(group)
    assert.are.equal(31, group.n_jobs)
    assert.are.equal(31, #results)
  end)

  it("calls no callback whose Waiter was closed", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    local waiter = group:wait(error)
    waiter:close(function()
      add(log, "closed")
    end)
    assert.is_true(waiter:is_closing())
    done()
    run_loop()
    assert.are.same({ "closed" }, log)
  end)
end)

describe("done", function()
  ---What `done(...)` gives.
  local function outcome_of(...)
    local group = barrier.group()
    group:add "key"(...)
    local _, results, errors = finish(group)
    return errors.key, results.key
  end

  it("keeps one value as it is, a nil too, and no value as true", function()
    local value = {}
    assert.are.equal(value, (select(2, outcome_of(nil, value))))
    assert.are.same({ nil, false }, { outcome_of(nil, false) })
    assert.are.same({ nil, true }, { outcome_of() })
    assert.are.same({ nil, true }, { outcome_of(nil) })
    assert.are.same({ nil, true }, { outcome_of(false) })
    assert.are.same({ n = 2 }, support.pack(outcome_of(nil, nil)))
  end)

  it("packs several values, with nils among them", function()
    assert.are.same({ nil, { n = 2, 1, 2 } }, { outcome_of(nil, 1, 2) })
    assert.are.same({ nil, { n = 4, nil, 2, nil, nil } }, { outcome_of(nil, nil, 2, nil, nil) })
    assert.are.same({ nil, { n = 2 } }, { outcome_of(nil, nil, nil) })
    assert.are.same({ nil, { n = 2, 1 } }, { outcome_of(nil, 1, nil) })
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
    local err, results = finish(group)
    assert.is_nil(err)
    assert.are.equal(true, results.before)
    assert.are.equal(1, results.coroutine)
  end)

  it("lets go what the job was given", function()
    local group = barrier.group()
    assert.is_true(support.collected(function()
      local stop = setmetatable({}, { __index = { close = nothing } })
      group:add("key", stop)()
      return stop
    end))
    assert.is_true(support.collected(function()
      local state = {}
      group:start("start", function(done)
        state.done = done
        return function() return state end
      end)
      state.done()
      return state
    end))
    assert.are.equal(2, group.n_jobs)
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
    local _, results, errors = finish(group)
    for i = 1, #keys do
      assert.are.equal(i % 2 == 1 and i or nil, results[keys[i]])
      assert.are.equal(i % 2 == 0 and "error " .. i or nil, errors[keys[i]])
    end
  end)

  it("takes a key that looks like a field of an error", function()
    local group = barrier.group()
    group:add "name" "failed"
    local err, _, errors = finish(group)
    assert.are.equal("GroupError", err.name)
    assert.are.same({ name = "failed" }, errors)
  end)

  it("gives the job its number as a key if there is none, nil included", function()
    local group = barrier.group()
    group:add()
    group:add "named"
    group:add(nil)
    assert.are.same({ 1, "named", 3 }, group:pending())
  end)

  it("refuses NaN", function()
    local group = barrier.group()
    for _, method in ipairs { "add", "start" } do
      raises("bad argument #1 to '" .. method .. "' (key must not be NaN)", group[method], group,
        0 / 0, method == "start" and nothing or nil)
    end
    assert.are.equal(0, group.n_jobs)
  end)

  it("refuses a key that it has had, done or not, names it, and changes nothing", function()
    local group = barrier.group()
    local done = group:add "key"
    for _ = 1, 2 do
      for _, method in ipairs { "add", "start" } do
        raises("bad argument #1 to '" .. method .. "' (the group has had a job with the key key)",
          group[method], group, "key", method == "start" and nothing or nil)
      end
      assert.are.equal(1, group.n_jobs)
      done(nil, "value")
    end
    group:add(3)
    raises("(the group has had a job with the key 3)", group.add, group)
    assert.are.equal(2, group.n_jobs)
    group:add "nil"(nil, nil)
    raises("(the group has had a job with the key nil)", group.add, group, "nil")
    assert.are.same({ key = "value" }, group.results)
    raises("(the group has had a job with the key table)", function()
      local key = setmetatable({}, { __tostring = error })
      group:add(key)
      group:add(key)
    end)
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
    raises("bad argument #1 to 'add' (the group is complete)", group.add, group, "key")
    raises("bad argument #1 to 'start' (the group is complete)", group.start, group, nothing)
    assert.are.equal(3, group.n_jobs)
  end)

  it("says at whose line the mistake is, and what is no group", function()
    local group = barrier.group()
    group:add "key"
    local line = debug.getinfo(1, "l").currentline
    for i, f in ipairs {
      function() group:add(0 / 0) end,
      function() group:add(1, 2) end,
      function() group:add("key") end,
      function() group:start("key", nothing) end,
      function() group:start(1) end,
      function() group.add("key") end,
      function() group.abort() end,
      function() group:wait("x") end,
      function() group:close(1) end,
    } do
      local _, err = pcall(f)
      assert.is_truthy(err:find("group_spec.lua:" .. line + 1 + i .. ": ", 1, true), err)
    end
    for _, name in ipairs { "add", "start", "wait", "join", "abort", "pending", "close",
      "is_closing" } do
      for _, self in ipairs { "key", 100, {} } do
        raises(("calling '%s' on bad self (group expected, got %s)"):format(name, type(self)),
          group[name], self)
      end
    end
  end)
end)

describe("wait", function()
  it("serves every party, before and after the end, in order", function()
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
    wait "third" -- complete, but no party has been notified yet
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

  it("lets every party go in one turn, however many come after the end", function()
    local group, n, pass, passes = barrier.group(), 0, 0, {}
    local prepare = uv.new_prepare()
    prepare:start(function()
      pass = pass + 1
    end)
    prepare:unref()
    for _ = 1, 1000 do
      group:wait(function()
        n = n + 1
        passes[#passes + 1] = passes[#passes] ~= pass and pass or nil
      end)
    end
    run_loop()
    assert.are.same({ 1000, 1 }, { n, #passes })
    prepare:close()
    run_loop()
    assert.is_false(uv.loop_alive())
  end)

  it("returns a Waiter if it is given a callback, anything callable", function()
    local group, log = barrier.group(), {}
    local callable = setmetatable({}, { __call = function(_, ...)
      add(log, { n = select("#", ...), ... })
    end, __metatable = false })
    local waiter = group:wait(callable)
    assert.is_truthy(tostring(waiter):find("barrier.Waiter", 1, true))
    group:wait(1000, callable)
    run_loop()
    assert.are.same({ { n = 3, nil, {}, {} }, { n = 3, nil, {}, {} } }, log)
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

  it("may be called by a party that was let go", function()
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

  it("is not mixed up with that of another group, made by a party that was let go", function()
    local log = {}
    local first, second = barrier.group(), nil
    for i = 1, 3 do
      first:wait(function()
        add(log, "first " .. i)
        if i == 1 then
          second = barrier.group()
          second:add()
          second:wait(recorder(log))
        end
      end)
    end
    run_loop()
    assert.are.same({ "first 1", "first 2", "first 3" }, log)
    first:wait(nothing)
    run_loop()
    assert.are.equal(3, #log)
    assert.are.equal(1, second.n_pending)
  end)

  it("refuses what is no timeout and no callback, and does not count then", function()
    local group = barrier.group()
    for _, name in ipairs { "wait", "join" } do
      local wait = group[name]
      for _, timeout in ipairs { -1, 1.5, math.huge, 0 / 0, 1e300, 2 ^ 63, "10", {}, true } do
        raises("bad argument #1 to '" .. name .. "' (", wait, group, timeout)
        co(function()
          raises("bad argument #1 to '" .. name .. "' (", wait, group, timeout)
        end)
      end
      raises("bad argument #2 to '" .. name .. "' (callback must be callable", wait, group, 1, 2)
      raises("(nothing comes after the callback", wait, group, nothing, nothing)
      raises("bad argument", wait, group, 1, nothing, 1)
    end
    group:add()()
    group:add() -- not complete
    assert.is_false(uv.loop_alive())
  end)

  it("refuses where it cannot suspend, and does not count then", function()
    local out = support.output_of [[
      local group = barrier.group()
      print(pcall(group.wait, group))
      print(select(2, pcall(function() group:wait() end)))
      coroutine.wrap(function()
        print(select(2, pcall(table.sort, { 1, 2 }, function() group:wait() end)))
      end)()
      group:add()()
      group:add() -- not complete
    ]]
    local first, second, third = out:match("(.-\n)(.-\n)(.-\n)$")
    assert.is_truthy(first:find("cannot wait outside a coroutine; give wait a callback", 1, true))
    assert.is_truthy(second:find("cannot wait outside a coroutine", 1, true), second)
    assert.is_nil(second:find("group.lua", 1, true), second)
    assert.is_truthy(third:find("the coroutine cannot yield across a C function", 1, true), third)
  end)

  it("yields nothing to the code that resumed the coroutine", function()
    local group = barrier.group()
    local thread = coroutine.create(function()
      group:wait()
    end)
    assert.are.equal(1, select("#", coroutine.resume(thread)))
    run_loop()
    assert.are.equal("dead", coroutine.status(thread))
  end)

  it("goes on for others when a callback raises an error, which is reported", function()
    local report, out = support.report_of [[
      local group = barrier.group()
      local done = group:add()
      group:wait(function() error "in the callback" end)
      coroutine.wrap(function() group:wait() error "in the coroutine" end)()
      group:wait(function(err, results) print(err, results[1]) end)
      done(nil, "result")
      uv.run()
    ]]
    assert.are.equal("nil\tresult\n", out)
    assert.is_truthy(report:find("in the callback", 1, true), report)
    assert.is_truthy(report:find("in the coroutine", 1, true), report)
  end)

  it("leaves nothing behind in the group, however often it is called", function()
    local group = barrier.group()
    group:add()
    local function poll()
      for _ = 1, 200 do
        group:wait(0, nothing)
        run_loop()
        group:wait(nothing):close()
        run_loop()
      end
      support.collect_garbage()
      return collectgarbage "count"
    end
    poll()
    local before = poll()
    assert.is_true(poll() < before + 4)
  end)
end)

describe("the error of a group", function()
  it("names five of the jobs that failed, in order of adding, and how many more", function()
    local group = barrier.group()
    local done = {}
    for i = 1, 9 do
      done[i] = group:add("job " .. i)
    end
    for i = 9, 1, -1 do
      done[i](i ~= 2 and "bad " .. i or nil)
    end
    local err = finish(group)
    assert.are.equal(barrier.GroupError, getmetatable(err))
    assert.are.equal("GroupError", err.name)
    assert.are.equal("8 of 9 jobs failed: job 1: bad 1; job 3: bad 3; job 4: bad 4; job 5: bad 5; "
      .. "job 6: bad 6 and 3 more", err.message)
    assert.are.equal("GroupError: " .. err.message, tostring(err))
    assert.are.equal("(" .. tostring(err) .. ")", "(" .. err .. ")")
    assert.are.equal(group, err.group)
    assert.are.equal(group.errors, err.errors)
    assert.are.equal(group.results, err.results)
    assert.are.equal(group.late, err.late)
    assert.are.same({}, err.pending)
  end)

  it("names a key or an error by its type whose __tostring raises", function()
    local group = barrier.group()
    local bad = setmetatable({}, { __tostring = function() error "no" end })
    local none = setmetatable({}, { __tostring = function() return nil end })
    group:add(bad)(none)
    assert.are.equal("1 of 1 jobs failed: table: table", finish(group).message)
    group = barrier.group()
    group:add(bad)
    local log = {}
    group:wait(1, recorder(log))
    run_loop()
    assert.are.equal("wait timed out after 1 ms, 0 of 1 jobs were done, pending: table",
      log[1].err.message)
  end)

  it("is a table of its own for each party", function()
    local group, log = barrier.group(), {}
    group:add "a" "failed"
    group:wait(recorder(log))
    group:wait(recorder(log))
    run_loop()
    assert.are_not.equal(log[1].err, log[2].err)
    assert.are.equal(log[1].errors, log[2].errors)
  end)
end)

describe("a group in the report of stuck", function()
  it("is shown with the keys that are pending, and nothing of the barrier behind it", function()
    local function barriers() -- of other specs too, until they are collected
      return select(2, (barrier.stuck() or ""):gsub("barrier%.Barrier", ""))
    end
    support.collect_garbage()
    local others = barriers()
    local group = barrier.group { name = "stuck", timeout = 1000000 }
    local done = { group:add "a", group:add "b", group:add "c" }
    group:wait(nothing)
    done[2]()
    co(function()
      local _ = group:join()
    end)
    local report = barrier.stuck()
    local first = report:find('<barrier.Group "stuck"', 1, true)
    assert.is_truthy(first, report)
    report = report:sub(first)
    assert.is_truthy(report:find("[1/3 done]>, pending: a, c\n", 1, true), report)
    assert.is_truthy(report:find("group_spec.lua", 1, true), report)
    assert.are.equal(others, barriers(), report)
    group:abort()
    done[1]()
    done[3]()
    run_loop()
    assert.is_nil((barrier.stuck() or ""):find("barrier.Group", 1, true))
  end)
end)

describe("wait with a timeout", function()
  it("gives a TimeoutError that names the late jobs, and the group goes on", function()
    local group, log = barrier.group(), {}
    local done = {}
    for i = 1, 8 do
      done[i] = group:add("job " .. i)
    end
    done[2](nil, "in time")
    group:wait(1, recorder(log))
    run_loop()
    local err = log[1].err
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal("TimeoutError", err.name)
    assert.are.equal(1, err.timeout)
    assert.are.equal(group, err.group)
    assert.are.equal("TimeoutError: wait timed out after 1 ms, 1 of 8 jobs were done, pending: "
      .. "job 1, job 3, job 4, job 5, job 6 and 2 more", tostring(err))
    assert.are.equal(7, #err.pending)
    assert.are.equal("job 1", err.pending[1])
    assert.are.same({ ["job 2"] = "in time" }, log[1].results) -- what came in time
    assert.are.same({}, log[1].errors)
    for i = 1, 8 do
      done[i](i == 4 and "failed" or nil)
    end
    assert.are.equal("1 of 8 jobs failed: job 4: failed", finish(group).message)
  end)

  it("raises nothing in a coroutine, on every Lua", function()
    local group, log = barrier.group(), {}
    group:add(false)
    co(function()
      local err, results, errors = group:wait(1)
      add(log, { getmetatable(err) == barrier.TimeoutError, err.pending, results, errors })
    end)
    run_loop()
    assert.are.same({ { true, { false }, {}, {} } }, log)
  end)

  it("does not time out when the group is complete, not even after 0 ms", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    group:wait(0, recorder(log))
    done()
    group:wait(0, recorder(log))
    co(function()
      local err = group:wait(0)
      add(log, { err = err })
    end)
    run_loop()
    assert.are.equal(3, #log)
    for _, outcome in ipairs(log) do
      assert.is_nil(outcome.err)
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

  it_catches("gets a CancelledError if a stranger resumes it, or it is cancelled", function()
    local group, log = barrier.group(), {}
    local done = group:add()
    local function wait()
      return co(function()
        local ok, err = pcall(group.wait, group)
        add(log, { ok, tostring(err), err.group == group, err.barrier })
      end)
    end
    coroutine.resume(wait(), "stranger")
    assert.is_true(barrier.cancel(wait()))
    run_loop()
    assert.are.same({
      { false, "CancelledError: wait cancelled: resumed by somebody else", true },
      { false, "CancelledError: wait cancelled", true },
    }, log)
    assert.are.equal(1, group.n_pending) -- the jobs go on
    done()
    assert.is_nil((finish(group)))
  end)
end)
