-- Shared barriers against what finalizers, hooks and the debug library may do at any call.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local it = support.it_in_c
local it_on_unix = support.on_windows and support.it_on_unix or it

local used = 0

local function new(parties)
  used = used + 1
  return barrier.shared("hostile " .. used, parties)
end

---Calls `f` in a finalizer, at the next allocations and again at each collection, until `stop` is
---called.
local function finalize_often(f)
  local stopped = false
  local function make()
    local function finalize()
      if stopped then return end
      make()
      f()
    end
    if newproxy then
      getmetatable(newproxy(true)).__gc = finalize
    else
      setmetatable({}, { __gc = finalize })
    end
  end
  make()
  return function()
    stopped = true
  end
end

---Runs `f` with a collector that is always at work. Those of Lua 5.2 and 5.3 would take minutes.
local function eagerly(f)
  local is_slow = _VERSION == "Lua 5.2" or _VERSION == "Lua 5.3"
  local pause, step = collectgarbage("setpause", is_slow and 20 or 0),
    collectgarbage("setstepmul", is_slow and 200 or 4000)
  local ok, err = pcall(f)
  collectgarbage("setpause", pause)
  collectgarbage("setstepmul", step)
  assert(ok, err)
end

describe("at a shared barrier", function()
  it("a finalizer may close a Waiter while others are let out", function()
    eagerly(function()
      for _ = 1, 60 do
        local b, called, victim, armed = new(3), {}, nil, false
        local stop = finalize_often(function()
          if armed and victim then
            armed = false
            victim:close()
          end
        end)
        local grow = {}
        b:wait(function()
          add(called, 1)
          armed = true
          for i = 1, 4 do grow[i] = { i } end
          assert(grow[4])
        end)
        victim = b:wait(function() add(called, 2) end)
        b:wait(function() add(called, 3) end)
        run_loop()
        stop()
        assert.are.equal(1, called[1])
        assert.are.equal(3, called[#called])
        assert.is_true(#called == 3 or not armed)
      end
    end)
  end)

  it("no callback is notified twice, lost, or called after close", function()
    eagerly(function()
      local outcomes, waiters, closed = {}, {}, {}
      local b = new(4)
      local stop = finalize_often(function()
        local i = #waiters
        if i > 0 and i % 3 == 0 and outcomes[i] == 0 and not closed[i] then
          closed[i] = true
          waiters[i]:close()
        end
        uv.run "nowait"
      end)
      for i = 1, 600 do
        outcomes[i] = 0
        waiters[i] = b:wait(function()
          assert(not closed[i], "called after close")
          outcomes[i] = outcomes[i] + 1
        end)
      end
      b:reset()
      run_loop()
      stop()
      for i = 1, 600 do
        assert.are.equal(closed[i] and 0 or 1, outcomes[i])
      end
    end)
  end)

  it("a hook may wait in the middle of a wait", function()
    local b, other, log = new(2), new(2), {}
    local inside = false
    local function hook()
      if inside then return end
      inside = true
      other:wait(function(_, position) add(log, "other " .. position) end)
      inside = false
    end
    for n = 1, 12 do
      local calls = 0
      debug.sethook(function()
        calls = calls + 1
        if calls == n then
          debug.sethook()
          hook()
        end
      end, "c")
      b:wait(function(_, position) add(log, "b " .. position) end)
      debug.sethook()
      b:arrive()
      if other.n_arrived == 1 then other:arrive() end
      run_loop()
      assert.are.equal(0, b.n_arrived)
      assert.are.equal(0, other.n_arrived)
    end
    local counts = {}
    for _, line in ipairs(log) do counts[line] = (counts[line] or 0) + 1 end
    assert.are.equal(12, counts["b 0"])
    assert.are.equal(other.generation, counts["other 0"] or 0)
  end)

  it_on_unix("a hook may wait while the handle that wakes the loop is made, and while it is let go",
    function()
      local out = support.output_of [[
        local b, other = barrier.shared("b", 2), barrier.shared("other", 2)
        local path, cpath = package.path, package.cpath
        local function arrive_elsewhere()
          uv.new_thread([=[
            package.path, package.cpath = ...
            local barrier = require "barrier"
            for _, name in ipairs { "b", "other" } do
              local b = barrier.shared(name, 2)
              if b.n_waiting == 1 then b:arrive() end
            end
          ]=], path, cpath):join()
        end
        local function polls()
          local n = 0
          uv.walk(function(handle)
            if uv.handle_get_type(handle) == "poll" and not uv.is_closing(handle) then n = n + 1 end
          end)
          return n
        end
        local told
        local function tell(err) told = told + (err and 100 or 1) end
        local function at_call(n, f)
          local calls = 0
          debug.sethook(function()
            calls = calls + 1
            if calls ~= n then return end
            debug.sethook()
            other:wait(tell)
          end, "cr")
          f()
          debug.sethook()
          return calls >= n
        end
        local n = 0
        repeat -- the handle is new
          n, told = n + 1, 0
          assert(barrier.close())
          uv.run()
          local hooked = at_call(n, function() b:wait(tell) end)
          assert(polls() == 1, polls())
          arrive_elsewhere()
          uv.run()
          assert(told == (hooked and 2 or 1), n)
        until not hooked
        print(n > 20)
        n = 0
        repeat -- the party in the hook keeps the loop alive
          n, told = n + 1, 0
          b:wait(tell)
          b:arrive()
          local hooked = at_call(n, function() uv.run "nowait" uv.run "nowait" end)
          arrive_elsewhere()
          uv.run()
          assert(told == (hooked and 2 or 1), n)
        until not hooked
        print(n > 20 or jit ~= nil) -- LuaJIT has fewer hooks
      ]]
      assert.are.equal("true\ntrue\n", out)
    end)

  it("the debug library may finalize a barrier while a party comes", function()
    eagerly(function()
      for _ = 1, 100 do
        local b, armed = new(2), true
        local gc = debug.getmetatable(b).__gc
        local stop = finalize_often(function()
          if armed then
            armed = false
            gc(b)
          end
        end)
        for _ = 1, 3 do pcall(b.wait, b, function() end) end
        pcall(b.arrive, b)
        run_loop()
        stop()
        gc(b)
        assert.are.equal("<barrier.Shared [closed]>", tostring(b))
      end
    end)
  end)

  it("a coroutine is not resumed at a yield of its own", function()
    eagerly(function()
      local b, log = new(2), {}
      local stop = finalize_often(function() uv.run "nowait" end)
      for i = 1, 100 do
        co(function()
          b:wait()
          add(log, i)
          coroutine.yield()
          add(log, "resumed")
        end)
        b:arrive()
      end
      run_loop()
      stop()
      assert.are.equal(100, #log)
    end)
  end)
end)

describe("shared barriers", function()
  it("are listed by barrier.stuck", function()
    local b = new(3)
    local waiter = b:wait(function() end)
    local c = co(function() b:wait() end)
    local report = barrier.stuck()
    waiter:close()
    b:cancel(c)
    run_loop()
    assert.is_truthy(report:find(b.name, 1, true), report)
    assert.is_truthy(report:find("waiters:2/3]>, 1 missing", 1, true), report)
    local at = "spec/shared_hostile_spec.lua:"
    assert.is_truthy(report:find("a callback waits: " .. at, 1, true), report)
    assert.is_truthy(report:find("a coroutine waits:\n    " .. at, 1, true), report)
    assert.is_nil((barrier.stuck() or ""):find(b.name, 1, true))
  end)

  it("take no further arguments", function()
    local ok, message = pcall(function() barrier.shared("options", 2, { timeout = 3 }) end)
    assert.is_false(ok)
    local expected = "bad argument #3 to 'shared' (no such argument is taken, got table)"
    assert.is_truthy(message:find(expected, 1, true), message)
    assert.is_truthy(message:find("shared_hostile_spec.lua:", 1, true), message)
  end)

  it_on_unix("say that all descriptors are in use", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 2)
      local files = {}
      for i = 1, 1e6 do
        files[i] = io.open("/dev/null")
        if not files[i] then break end
      end
      print(pcall(b.wait, b, print))
      print(b.n_waiting)
      for i = 1, #files do files[i]:close() end
      b:wait(print)
      b:arrive()
      uv.run()
    ]]
    assert.are.equal("", result.err)
    local expected = "^false\t[^\n]*cannot wait at a shared barrier: [^\n]*too many open files%)\n"
    assert.is_truthy(result.out:find(expected .. "0\nnil\t0\n$"), result.out)
  end)

  it("are found by name, however many there are", function()
    local before = new(2)
    local list = {}
    for i = 1, 20000 do list[i] = barrier.shared("many " .. i, 2) end
    for i = 1, 20000, 997 do assert.are.equal(list[i], barrier.shared("many " .. i, 2)) end
    assert.are.equal(2, before.parties)
  end)
end)
