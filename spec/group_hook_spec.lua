-- Groups whose functions are called in between: by finalizers, and by hooks at each instruction.
local barrier = require "barrier"
local support = require "spec.support"

local finish = support.finish

---Calls `f`, and `interrupt` once, before the n-th instruction of Lua that `f` executes. False if
---it has fewer.
local function interrupted(n, f, interrupt)
  local called = false
  debug.sethook(function()
    debug.sethook()
    called = true
    interrupt()
  end, "", n)
  f()
  debug.sethook()
  return called
end

---Does that for each instruction of what `make` returns: f, interrupt, and a check.
local function at_each_instruction(make)
  local n = 0
  repeat
    n = n + 1
    local f, interrupt, check = make()
    local called = interrupted(n, f, interrupt)
    if not called then
      interrupt()
    end
    check(n)
  until not called
  assert.is_true(n > 10, "there were only " .. n .. " instructions")
end

-- With LuaJIT's compiler no hook is called.
if jit then
  setup(function() jit.off() end)
  teardown(function() jit.on() end)
end

describe("at each instruction of done", function()
  it("another call of it counts the job once", function()
    for _, options in ipairs { {}, { limit = 2 }, { stop_on_result = true } } do
      at_each_instruction(function()
        local group = barrier.group(options)
        local done = group:add "a"
        local other = group:add "b"
        return function()
          done(nil, 1, 2)
        end, function()
          done "again"
        end, function(n)
          assert.are.equal(1, group.n_pending, n)
          assert.are.same({ "b" }, group:pending())
          assert.are.equal(1, group.n_errors + (group.results.a and 1 or 0))
          other()
          finish(group)
        end
      end)
    end
  end)

  it("another job's is counted too", function()
    for _, options in ipairs { {}, { limit = 2 }, { timeout = 100000 } } do
      at_each_instruction(function()
        local group, log = barrier.group(options), {}
        local first, second, third = group:add "a", group:add "b", group:add "c"
        group:wait(support.recorder(log))
        return function()
          first(nil, 1)
        end, function()
          second(nil, 2)
        end, function(n)
          assert.are.equal(1, group.n_pending, n)
          third "failed"
          support.run_loop()
          assert.are.equal(1, #log)
          assert.are.same({ a = 1, b = 2 }, log[1].results)
          assert.are.same({ c = "failed" }, log[1].errors)
          assert.are.equal("1 of 3 jobs failed: c: failed", log[1].err.message)
        end
      end)
    end
  end)

  it("the last job's completes the group once", function()
    at_each_instruction(function()
      local group, log = barrier.group(), {}
      local first, second = group:add "a", group:add "b"
      group:wait(support.recorder(log))
      return function()
        first "bad"
      end, function()
        second "worse"
      end, function(n)
        assert.are.equal(0, group.n_pending, n)
        assert.are.equal(2, group.n_errors, n)
        support.run_loop()
        assert.are.equal(1, #log, n)
      end
    end)
  end)

  it("add, wait and pending do what they do", function()
    at_each_instruction(function()
      local group, log, late = barrier.group(), {}, nil
      local done = group:add "a"
      local other = group:add "b"
      return function()
        done()
      end, function()
        late = group:add "late"
        group:wait(support.recorder(log))
        assert(#group:pending() >= 2)
      end, function(n)
        assert.are.equal(2, group.n_pending, n)
        other()
        late()
        support.run_loop()
        assert.are.equal(1, #log, n)
        assert.is_nil(log[1].err)
      end
    end)
  end)

  it("an abort stops the other jobs once", function()
    at_each_instruction(function()
      local group, stops = barrier.group { stop_on_error = true }, 0
      local done = group:add "a"
      group:add("b", function()
        stops = stops + 1
      end)
      return function()
        done "failed"
      end, function()
        group:abort "between"
      end, function(n)
        assert.are.equal(1, stops, n)
        assert.is_truthy(finish(group))
      end
    end)
  end)
end)

describe("at each instruction of add", function()
  it("another add gets a job of its own", function()
    for _, options in ipairs { {}, { expect = { "x" } } } do
      at_each_instruction(function()
        local group = barrier.group(options)
        local before, dones = group.n_jobs, {}
        return function()
          local done = group:add()
          table.insert(dones, done) -- that is a function of C
        end, function()
          table.insert(dones, (group:add()))
          table.insert(dones, (group:add "named"))
          group:add "done"()
        end, function(n)
          assert.are.equal(before + 4, group.n_jobs, n)
          assert.are.equal(before + 3, group.n_pending, n)
          assert.are.equal(before + 3, #group:pending(), n)
          for i = 1, #dones do
            dones[i](nil, i)
          end
          assert.are.equal(before, group.n_pending, n)
          group:close()
        end
      end)
    end
  end)
end)

describe("at each instruction of start", function()
  it("another one is started once, and the limit kept", function()
    for _, limit in ipairs { 1, 2, 5 } do
      at_each_instruction(function()
        local group, dones, begun = barrier.group { limit = limit }, {}, {}
        local function start(name)
          group:start(name, function(done)
            begun[name] = (begun[name] or 0) + 1
            table.insert(dones, done) -- that is a function of C
          end)
        end
        return function()
          start "a"
          start "b"
        end, function()
          start "c"
          start "d"
        end, function(n)
          assert.is_true(group.n_running <= limit, n)
          for _ = 1, 4 do
            assert.is_true(group.n_running <= limit)
            for i = #dones, 1, -1 do
              table.remove(dones, i)()
            end
            support.run_loop()
          end
          assert.are.same({ a = 1, b = 1, c = 1, d = 1 }, begun, n)
          assert.is_nil((finish(group)))
        end
      end)
    end
  end)
end)

---What is called, and called in between: each notes in `log` how often it has called back.
local calls = {
  wait = function(group, log) group:wait(function() log.wait = log.wait + 1 end) end,
  join = function(group, log) group:join(100000, function() log.join = log.join + 1 end) end,
  coroutine = function(group, log)
    coroutine.wrap(function()
      group:wait()
      log.coroutine = log.coroutine + 1
    end)()
  end,
  abort = function(group) group:abort "stop" end,
  done = function(_, log) log.done() end,
  add = function(group, log)
    local _, done = pcall(group.add, group, nil, function() log.stop = log.stop + 1 end)
    table.insert(log, done)
  end,
  start = function(group, log)
    group:start(function(done)
      log.start = log.start + 1
      done()
    end)
  end,
}

---Calls one, and another one in between, while two jobs are pending.
local function call_both(outer, inner, options)
  at_each_instruction(function()
    local group = barrier.group(options)
    local log = { wait = 0, join = 0, coroutine = 0, start = 0, stop = 0, stopped = 0 }
    log.done = group:add("first", function() log.stopped = log.stopped + 1 end)
    local last = group:add "last"
    return function()
      calls[outer](group, log)
    end, function()
      calls[inner](group, log)
    end, function(n)
      local function expected(name)
        return (outer == name and 1 or 0) + (inner == name and 1 or 0)
      end
      log.done()
      for _, done in ipairs(log) do
        done()
      end
      last()
      finish(group, "join")
      for _, name in ipairs { "wait", "join", "coroutine" } do
        assert.are.equal(expected(name), log[name], name .. n)
      end
      local aborts = expected "abort" > 0
      assert.is_true(log.start <= expected "start" and log.stop <= expected "add", n)
      assert.is_true(aborts or log.start == expected "start" and log.stop == 0, n)
      assert.is_true(log.stopped <= 1 and (not aborts or expected "done" > 0 or log.stopped == 1))
      assert.are.same({}, group:pending(), n)
      assert.are.equal(0, group.n_running, n)
    end
  end)
end

describe("at each instruction of", function()
  for outer in pairs(calls) do
    support.it_in_c(outer .. " any other call does what it does", function()
      for inner in pairs(calls) do
        if not (jit and inner == "coroutine") then -- no coroutine of LuaJIT yields in a hook
          call_both(outer, inner, { limit = 1, timeout = 1000000 })
        end
      end
    end)
  end
end)

describe("a finalizer", function()
  if _VERSION == "Lua 5.1" then
    return -- where tables have none
  end

  it("counts a job once, though it runs in its done", function()
    local generational = pcall(collectgarbage, "generational")
    for i = 1, 20000 do
      local group = barrier.group()
      local done, other = group:add "a", group:add "b"
      setmetatable({}, { __gc = function() done "collected" end })
      done(nil, 1, 2)
      assert.are.equal(1, group.n_pending, i)
      assert(group:pending()[1] == "b")
      other()
    end
    if generational then
      collectgarbage "incremental"
    end
  end)
end)

it("nothing of a group does anything when the Lua state closes", function()
  local out = support.output_of [[
    local group = barrier.group { stop_on_error = true, limit = 1, timeout = 100000 }
    barrier.group():wait(function() print "called" end)
    uv.fs_stat(".", group:add "request")
    local timer = uv.new_timer()
    timer:start(0, 0, group:add("timer", function() print "stopped" end))
    group:start("started", function(done) uv.fs_stat("/no/file", done) end)
    group:start("queued", function(done) print "started" end)
    group:wait(function() print "called" end)
    coroutine.wrap(function() barrier.await(uv.fs_stat, ".") print "resumed" end)()
    coroutine.wrap(function() group:join() print "resumed" end)()
    print "end"
  ]]
  assert.are.equal("end\n", out)
end)
