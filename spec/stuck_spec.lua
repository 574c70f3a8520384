-- The report is of all barriers of a Lua state, so each of these runs in a process of its own.
local support = require "spec.support"

local PRELUDE = [[
  local function co(f)
    local c = coroutine.create(f)
    assert(coroutine.resume(c))
    return c
  end
  -- Checks that the report has all of these, as they are; returns it.
  local function has(...)
    local report = barrier.stuck()
    assert(type(report) == "string", type(report))
    for i = 1, select("#", ...) do
      local text = select(i, ...)
      assert(report:find(text, 1, true), text .. " is not in:\n" .. report)
    end
    return report
  end
  local function has_not(...)
    local report = barrier.stuck() or ""
    for i = 1, select("#", ...) do
      local text = select(i, ...)
      assert(not report:find(text, 1, true), text .. " is in:\n" .. report)
    end
  end
]]

---Runs a chunk, which has to end well and to print nothing.
local function succeeds(code)
  assert.are.equal("", support.output_of(PRELUDE .. code))
end

describe("barrier.stuck", function()
  it("returns nil if nobody is in a barrier", function()
    succeeds [[
      assert(select("#", barrier.stuck()) == 1 and barrier.stuck() == nil)
      local b, other = barrier.new(2), barrier.new(3)
      assert(barrier.stuck() == nil)
      b:wait(function() end)
      b:wait(function() end)
      b:await_trip(function() end):close()
      other:wait(function() end)
      other:reset()
      uv.run()
      assert(barrier.stuck() == nil)
      b:abort()
      assert(barrier.stuck() == nil)
    ]]
  end)

  it("shows each barrier with somebody in it, and how many are missing", function()
    succeeds [[
      local a, b, empty = barrier.new(1009), barrier.new(2003), barrier.new(1)
      for _ = 1, 3 do a:wait(function() end) end
      a:arrive()
      co(function() b:wait() end)
      uv.run()
      has(tostring(a), "1005", tostring(b), "2002")
      has_not(tostring(empty))
      b:deregister(1000)
      has(tostring(b), "1002")
    ]]
  end)

  it("shows where each coroutine waits", function()
    succeeds [[
      local b = barrier.new(5)
      local function first_place() b:wait() end
      local function second_place() b:wait(1000000) end
      co(function() first_place() end)
      co(function() second_place() end)
      uv.run "nowait"
      local report = has("first_place", "second_place")
      assert(report:find("first_place", 1, true) < report:find("second_place", 1, true))
    ]]
  end)

  it("shows a Waiter: where wait was called, or its tostring", function()
    succeeds [[
      local b = barrier.new(3)
      local function calling_place() return b:wait(function() end) end
      local waiter = calling_place()
      uv.run()
      local report = has(tostring(b))
      assert(report:find("calling_place", 1, true) or report:find(tostring(waiter), 1, true))
      waiter:close()
      assert(barrier.stuck() == nil)
    ]]
  end)

  it("shows watchers in both styles", function()
    succeeds [[
      local b = barrier.new(4001)
      local function watching_place() b:await_trip() end
      co(function() watching_place() end)
      uv.run()
      has(tostring(b), "watching_place", "4001")
      local other = barrier.new(2)
      local waiter = other:await_trip(function() end)
      has(tostring(other))
      waiter:close()
      has_not(tostring(other))
      b:arrive()
      has("4000")
    ]]
  end)

  it("shows the blocked, and those that have yet to resume", function()
    succeeds [[
      local drains = {}
      local b = barrier.new(2, { schedule = function(drain) drains[#drains + 1] = drain end })
      local function leaving_place() b:wait() end
      local function blocked_place() b:wait() end
      co(function() leaving_place() end)
      b:wait(function() end)
      co(function() blocked_place() end)
      uv.run()
      has(tostring(b), "leaving_place", "blocked_place")
      assert(b.state == "draining")
      drains[1]()
      has(tostring(b), "blocked_place")
      has_not("leaving_place")
    ]]
  end)

  it("shows a cancelled coroutine until it resumes", function()
    succeeds [[
      local b = barrier.new(2)
      local function place() b:wait() end
      local c = co(function() place() end)
      b:cancel(c)
      has("place")
      uv.run()
      assert(barrier.stuck() == nil)
    ]]
  end)

  it("changes nothing", function()
    succeeds [[
      local b, log = barrier.new(3), {}
      for i = 1, 2 do
        co(function()
          local position = b:wait()
          log[#log + 1] = i .. " " .. position
        end)
      end
      local before = tostring(b)
      local report = barrier.stuck()
      assert(barrier.stuck() == report and tostring(b) == before)
      assert(#b:waiters() == 2 and not uv.loop_alive())
      b:wait(function(_, position) log[#log + 1] = "w " .. position end)
      uv.run()
      assert(table.concat(log, ", ") == "1 0, 2 1, w 2")
    ]]
  end)

  it("keeps nobody alive, and forgets barriers that are collected", function()
    succeeds [[
      local seen = setmetatable({}, { __mode = "k" })
      do
        for _ = 1, 10 do
          local b = barrier.new(2)
          seen[b] = true
          seen[co(function() b:wait() end)] = true
          seen[b:await_trip(function() end)] = true
        end
        assert(barrier.stuck())
      end
      if jit then jit.flush() end
      for _ = 1, 4 do collectgarbage() end
      assert(next(seen) == nil)
      assert(barrier.stuck() == nil)
    ]]
  end)

  it("may be called anywhere: in a turn, an action, a coroutine, a finalizer", function()
    succeeds [[
      local b, calls = nil, 0
      local function ask(self)
        assert(barrier.stuck():find(tostring(self), 1, true))
        calls = calls + 1
      end
      local other = barrier.new(2)
      other:wait(function() end)
      b = barrier.new(2, { action = ask })
      b:wait(function() ask(other) end)
      b:await_trip(function() ask(other) end)
      co(function() ask(b) b:wait() ask(other) end)
      if newproxy then
        getmetatable(newproxy(true)).__gc = function() ask(other) end
      else
        setmetatable({}, { __gc = function() ask(other) end })
      end
      collectgarbage()
      collectgarbage()
      uv.run()
      assert(calls == 6, calls)
    ]]
  end)

  it("shows very many barriers, and a barrier of very many", function()
    succeeds [[
      local barriers = {}
      for i = 1, 300 do
        barriers[i] = barrier.new(2)
        barriers[i]:wait(function() end)
      end
      local crowded = barrier.new(3000)
      local function crowded_place() crowded:wait() end
      for _ = 1, 500 do co(function() crowded_place() end) end
      local report = has(tostring(crowded), "2500")
      for i = 1, 300 do assert(report:find(tostring(barriers[i]), 1, true)) end
      assert(select(2, report:gsub("crowded_place", "")) >= 500)
    ]]
  end)

  it("tells at the end of a program where it got stuck", function()
    local out = support.output_of [[
      local b = barrier.new(3)
      local function worker() b:wait() print "not reached" end
      for _ = 1, 2 do coroutine.wrap(function() worker() end)() end
      uv.run()
      print(barrier.stuck())
    ]]
    assert.is_truthy(out:find("[filling, waiters:2/3]", 1, true), out)
    assert.are.equal(2, select(2, out:gsub("worker", "")), out)
  end)
end)
