local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co, collect = support.co, support.collect_garbage

---A weak table that holds only this value.
local function watch(value)
  return setmetatable({ value }, { __mode = "v" })
end

describe("a barrier that nobody can reach", function()
  it("is collected with the coroutines that wait in it", function()
    local seen
    do
      local b = barrier.new(2)
      seen = watch(co(function()
        b:wait()
      end))
    end
    collect()
    assert.is_nil(seen[1])
  end)

  it("is collected with its Waiters", function()
    local seen = watch(barrier.new(2):wait(function() end))
    collect()
    assert.is_nil(seen[1])
  end)

  it("is collected when only its waiting coroutines refer to it", function()
    local seen
    do
      local b = barrier.new(3)
      for _ = 1, 2 do
        co(function()
          b:wait()
          return b
        end)
      end
      seen = watch(b)
    end
    collect()
    assert.is_nil(seen[1])
  end)

  it("is kept until it has drained", function()
    local passed = 0
    do
      local b = barrier.new(2)
      for _ = 1, 2 do
        co(function()
          b:wait()
          passed = passed + 1
        end)
      end
    end
    collect()
    assert.are.equal(1, passed)
    uv.run()
    assert.are.equal(2, passed)
  end)

  it("is collected when it has drained", function()
    local seen
    do
      local b = barrier.new(3)
      seen = watch(b)
      co(function()
        b:wait()
      end)
      b:wait(function() end)
      co(function()
        b:wait()
      end)
    end
    collect()
    assert.is_truthy(seen[1])
    uv.run()
    collect()
    assert.is_nil(seen[1])
  end)

  it("is kept until the waiters that failed or were cancelled have resumed", function()
    local throw_out = {
      reset = function(b)
        b:reset()
      end,
      abort = function(b)
        b:abort()
      end,
      cancel = function(b)
        for _, party in ipairs(b:waiters()) do
          if type(party) == "thread" then
            b:cancel(party)
          else
            b:reset()
          end
        end
      end,
    }
    for how, f in pairs(throw_out) do
      local log = {}
      local seen
      do
        local b = barrier.new(3)
        support.patient(b, "a", log)
        f(b)
        seen = watch(b)
      end
      collect()
      assert.is_truthy(seen[1], how)
      uv.run()
      assert.are.equal(1, #log, how)
      support.last_error = nil
      collect()
      assert.is_nil(seen[1], how)
    end
  end)

  it("is collected even if its options, its reason and its callbacks refer to it", function()
    local seen
    do
      local b
      b = barrier.new(2, {
        action = function()
          return b
        end,
        schedule = function(drain)
          drain(b)
        end,
      })
      b:wait(function()
        return b
      end)
      b:wait(function()
        return b
      end)
      uv.run()
      b:abort { b }
      seen = watch(b)
    end
    collect()
    assert.is_nil(seen[1])
  end)

  it("is collected by a generational collector too", function()
    local has_generational, mode = pcall(collectgarbage, "generational")
    if not has_generational then
      pending "this Lua has no generational collector"
    end
    collectgarbage(mode == 0 and "incremental" or mode) -- 0: Lua 5.2
    local result = support.chunk [[
      collectgarbage "generational"
      local seen, passed = setmetatable({}, { __mode = "k" }), 0
      for round = 1, 200 do
        local b = barrier.new(3)
        for i = 1, round % 2 == 0 and 2 or 3 do
          local c = coroutine.create(function() b:wait() passed = passed + 1 end)
          seen[c] = true
          coroutine.resume(c)
          collectgarbage "step"
        end
      end
      uv.run()
      collectgarbage() collectgarbage()
      print(passed, next(seen))
    ]]
    assert.are.equal("300\tnil\n", result.out, result.err)
  end)

  it("keeps its options and its reason after a crowd", function()
    local acted, drains = 0, 0
    local b = barrier.new(300, {
      action = function() acted = acted + 1 end,
      schedule = function(drain)
        drains = drains + 1
        drain()
      end,
    })
    for _ = 1, 300 do
      b:wait(function() end)
    end
    support.run_loop()
    for _ = 1, 3 do -- each time fewer nodes are used, until the memory is given back
      b:await_trip(function() end)
      b:arrive(300)
      support.run_loop()
    end
    assert.are.equal(4, acted)
    assert.are.equal(4, drains)
    b:abort "why"
    local reason
    b:wait(function(err) reason = err.reason end)
    support.run_loop()
    assert.are.equal("why", reason)
  end)

  it("does not keep the process from ending", function()
    local result = support.chunk [[
      for i = 1, 5 do
        local b = barrier.new(2)
        _G["b" .. i] = b
        coroutine.wrap(function() b:wait() end)()
      end
      uv.run()
      b2:wait(function() end)
      b3:reset()
      b4:abort()
      print "end"
    ]]
    assert.are.equal("end\n", result.out, result.err)
    assert.are.equal("", result.err)
    assert.are.equal(0, result.code)
  end)
end)

describe("a waiting coroutine", function()
  it("is kept by its barrier", function()
    local b = barrier.new(2)
    local passed = false
    co(function()
      b:wait()
      passed = true
    end)
    collect()
    b:wait(function() end)
    uv.run()
    assert.is_true(passed)
  end)

  support.it_nests("is released once it has left, even if it ran the loop meanwhile", function()
    local b = barrier.new(4)
    local seen, left = setmetatable({}, { __mode = "v" }), 0
    for i = 1, 3 do
      seen[i] = co(function()
        b:wait()
        for _ = 1, 100 do
          if left < 3 - i then
            uv.run "nowait"
          end
        end
        left = left + 1
      end)
    end
    b:wait(function() end)
    uv.run()
    assert.are.equal(3, left)
    collect()
    assert.is_nil(next(seen))
    assert.are.same({}, b:waiters())
  end)

  it("is let go once it has left", function()
    local b = barrier.new(2)
    local seen = watch(co(function()
      b:wait()
    end))
    b:wait(function() end)
    uv.run()
    collect()
    assert.is_nil(seen[1])
    assert.are.equal(0, b.n_waiting)
  end)

  support.it_catches("is let go when it is cancelled, even if its error is kept", function()
    local b = barrier.new(2)
    local seen = setmetatable({}, { __mode = "v" })
    seen[1] = support.party(b, "p", {})
    b:cancel(seen[1])
    uv.run()
    local err = support.last_error
    collect()
    assert.is_nil(seen[1])
    assert.are.equal("wait cancelled", err.message)
  end)

  support.it_catches("is let go when it is cancelled or resumed by a stranger", function()
    local b = barrier.new(3)
    local seen = setmetatable({}, { __mode = "v" })
    for i = 1, 2 do
      seen[i] = support.party(b, "p", {})
    end
    b:cancel(seen[1])
    coroutine.resume(seen[2])
    uv.run()
    support.last_error = nil
    collect()
    assert.is_nil(seen[1])
    assert.is_nil(seen[2])
  end)
end)

describe("what a barrier no longer needs", function()
  it("is not kept by it: coroutines that went on, Waiters, callbacks, errors, reasons", function()
    local b, seen = barrier.new(2), setmetatable({}, { __mode = "k" })
    for round = 1, 3 do
      seen[co(function()
        b:wait()
        b:wait()
        coroutine.yield()
      end)] = true
      seen[co(function()
        b:wait()
        b:wait()
      end)] = true
      uv.run()
      local function callback(err)
        seen[err] = round
      end
      seen[callback] = true
      seen[b:wait(callback)] = true
      local reason = {}
      seen[reason] = true
      b:abort(reason)
      uv.run()
      b:reset()
    end
    uv.run()
    collect()
    assert.is_nil(next(seen))
    assert.are.equal(6, b.generation)
  end)

  it("is given back: very many barriers leave nothing behind", function()
    local function make()
      for _ = 1, 20 do
        for _ = 1, 1000 do
          barrier.new(2)
        end
        collect()
      end
      return collectgarbage "count"
    end
    local before = make()
    assert.is_true(make() - before < 100) -- kilobytes
  end)

  it("is not kept by it: a last arrival that ran the action", function()
    local b = barrier.new(2, { action = function() end })
    local seen = setmetatable({}, { __mode = "v" })
    b:wait(function() end)
    seen[1] = co(function()
      b:wait()
    end)
    for i = 2, 3 do
      seen[i] = b:wait(function() end)
    end
    uv.run()
    collect()
    assert.are.same({}, seen)
    assert.are.equal(2, b.generation)
  end)

  it("is not kept by it: the error of an action that failed", function()
    local function last(b)
      support.patient(b, "last", {})
    end
    local function callback(b)
      b:wait(function() end)
    end
    local function let_in(way)
      return function(b)
        callback(b)
        way(b) -- it is blocked
      end
    end
    local ways = {
      last,
      callback,
      function(b)
        b:arrive()
      end,
      function(b)
        b:register()
        b:arrive()
        b:deregister()
      end,
      let_in(last),
      let_in(callback),
    }
    for i, way in ipairs(ways) do
      local seen, calls = setmetatable({}, { __mode = "v" }), 0
      local b = barrier.new(1, { action = function()
        calls = calls + 1
        if calls == (i <= 4 and 1 or 2) then
          seen[1] = {}
          error(seen[1])
        end
      end })
      way(b)
      uv.run()
      assert.is_true(b.broken)
      support.last_error = nil
      collect()
      assert.is_truthy(seen[1]) -- it is the reason
      b:reset()
      collect()
      assert.is_nil(seen[1], "way " .. i)
    end
  end)

  it("is not kept by it: the error of a wait that was closed before its turn", function()
    local b, seen = barrier.new(2), setmetatable({}, { __mode = "k" })
    local waiters = {}
    for i = 1, 3 do
      local reason = {}
      seen[reason] = true
      b:abort(reason)
      waiters[i] = b:wait(function() end)
      b:reset()
    end
    for i = 1, 3 do
      waiters[i]:close()
    end
    uv.run()
    collect()
    assert.is_nil(next(seen))
  end)

  it("is not kept by a Waiter that other code holds: another Waiter", function()
    local b = barrier.new(3)
    local first = b:wait(function() end)
    local others = setmetatable({ b:wait(function() end), b:wait(function() end) },
      { __mode = "v" })
    uv.run()
    collect()
    assert.is_nil(next(others))
    assert.is_true(first:is_closing())
  end)

  it("is not kept by a Waiter that other code holds", function()
    local b, seen = barrier.new(2), setmetatable({}, { __mode = "k" })
    local function callback()
      local upvalue = {}
      seen[upvalue] = true
      return function()
        return upvalue
      end
    end
    local waiters = { b:wait(callback()) }
    waiters[1]:close()
    for i = 2, 3 do
      waiters[i] = b:wait(callback())
    end
    uv.run()
    collect()
    assert.is_nil(next(seen))
    assert.are.equal(3, #waiters)
  end)
end)

describe("an idle barrier", function()
  it("leaves no more handles behind, however many barriers there have been", function()
    local result = support.chunk [[
      local function handles()
        local n, active = 0, 0
        uv.walk(function(handle)
          n = n + 1
          if uv.is_active(handle) then active = active + 1 end
        end)
        return n .. " " .. active
      end
      local counts = {}
      for round = 1, 3 do
        for i = 1, 300 do
          local b = barrier.new(2)
          b:wait(1000, function() end)
          b:wait(1000, function() end)
          b:wait(function() end)
          if i % 2 == 0 then b:reset() else b:abort() end
        end
        uv.run()
        collectgarbage()
        counts[round] = handles()
      end
      print(counts[1] == counts[2] and counts[2] == counts[3], counts[1])
    ]]
    assert.is_truthy(result.out:find("^true\t%d+ 0\n$"), result.out .. result.err)
  end)

  it("lets the loop end after a reset or an abort", function()
    for _, how in ipairs { "reset", "abort" } do
      local b = barrier.new(2)
      b:wait(function() end)
      b[how](b)
      uv.run()
      assert.is_false(uv.loop_alive())
      b[how](b)
      uv.run()
      b:wait(function() end)
      uv.run()
      assert.is_false(uv.loop_alive())
    end
  end)

  it("holds no active handle", function()
    local b = barrier.new(2)
    b:wait(function() end)
    assert.is_false(uv.loop_alive())
    b:wait(function() end)
    assert.is_true(uv.loop_alive())
    uv.run()
    assert.is_false(uv.loop_alive())
    b:wait(function() end)
    assert.is_false(uv.loop_alive())
  end)
end)
