-- The report is of all barriers of a Lua state, so each of these runs in a process of its own.
local uv = require "luv"
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

  it("shows each barrier with a party in it, and how many are missing", function()
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

  it("shows a callback by the file and line of its definition", function()
    succeeds [[
      local b = barrier.new(4)
      local function here(line) return debug.getinfo(1, "S").short_src .. ":" .. line end
      local line = debug.getinfo(1, "l").currentline
      local function callback() end
      local callable = setmetatable({}, { __call = function() end })
      local waiter = b:wait(callback)
      b:wait(callable)
      b:await_trip(print)
      uv.run()
      has(tostring(b), "  a callback waits: " .. here(line + 1) .. "\n",
        "  a callback waits: " .. here(line + 2) .. "\n",
        "  a callback awaits the trip: a C function")
      waiter:close()
      has_not(here(line + 1))
    ]]
  end)

  it("shows equal entries once, with their number", function()
    local out = support.output_of [[
      local b = barrier.new(12)
      local function callback() end
      for i = 1, 3 do coroutine.wrap(function() b:wait() end)() end
      for i = 1, 4 do b:wait(callback) end
      for i = 1, 2 do b:await_trip(callback) end
      coroutine.wrap(function() b:wait() end)()
      print(barrier.stuck(b))
    ]]
    local at = "%(command line%):"
    assert.is_truthy(out:find("^[^\n]+, 4 missing\n  3 coroutines wait:\n    " .. at
      .. "4: in function [^\n]+\n  4 callbacks wait: " .. at .. "3\n  a coroutine waits:\n    "
      .. at .. "7: in function [^\n]+\n  2 callbacks await the trip: " .. at .. "3\n$"), out)
  end)

  it("shows a coroutine's traceback from the line on that called the module", function()
    local out = support.output_of [[
      local b, group = barrier.new(9), barrier.group()
      group:add "never"
      local function inner(f, ...) f(...) return nil end
      local function outer(f, ...) inner(f, ...) return nil end
      local yields = jit or _VERSION ~= "Lua 5.1"
      local ways = {
        function() b:wait() end, function() b:wait(99999) end, function() b:await_trip() end,
        function() b:with(print) end, function() barrier.await(function() end) end,
        function() group:wait() end, function() group:wait(10000) end, function() group:join() end,
        yields and function() pcall(b.wait, b) end,
      }
      for _, way in ipairs(ways) do
        if way then
          coroutine.wrap(function() outer(way) end)()
        end
      end
      pcall(barrier.run, 1, function() outer(b.wait, b) end)
      print(barrier.stuck())
    ]]
    local n = 0
    for text in out:gmatch "coroutines? %a+[^:\n]*:\n(.-)\n *[%a<]" do
      n = n + 1
      assert.is_nil(text:find("barrier/", 1, true), out)
      assert.is_truthy(text:find "^    %(command line%):%d", out)
      assert.is_nil(text:find("[C]", 1, true), out)
    end
    assert.is_true(n >= 6, out)
    assert.is_nil(out:find("[/\\]barrier[/\\][%w_]+%.lua"), out)
  end)

  support.it_on_unix("leaves out the frames of a copy that has another name", function()
    local dir = uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/barrier-XXXXXX")
    assert(uv.fs_symlink(support.project .. "/lua/barrier", dir .. "/copied"))
    local out = support.output_of(("package.path = %q .. package.path"):format(dir
      .. "/?.lua;" .. dir .. "/?/init.lua;") .. [[

      uv.os_unsetenv "BARRIER_CORE"
      barrier = require "copied"
      barrier.debug(true)
      local b, group = barrier.new(2), barrier.group()
      group:add()
      coroutine.wrap(function() b:wait() end)()
      coroutine.wrap(function() group:wait() end)()
      print(barrier.stuck(b), barrier.stuck(group))
    ]])
    uv.fs_unlink(dir .. "/copied")
    uv.fs_rmdir(dir)
    assert.is_nil(out:find("copied/", 1, true), out)
    assert.is_nil(out:find("[C]", 1, true), out)
    local _, n = out:gsub("a coroutine waits, for %d+ ms:\n    %(command", "")
    assert.are.equal(2, n, out)
  end)

  it("shows what it has of a coroutine without a frame of the user's code", function()
    succeeds [[
      local b = barrier.new(2)
      coroutine.wrap(b.wait)(b)
      has("a coroutine waits:\n    [C]: in ")
    ]]
  end)

  it("shows the keys that are pending in a group, and the user's callbacks", function()
    local out = support.output_of [[
      local group = barrier.group()
      local done = group:add "a"
      group:add "b"
      group:add(setmetatable({}, { __tostring = error }))
      done()
      group:wait(function() end)
      group:join(10000, function() end)
      print((barrier.stuck():gsub("0x%x+", "0x")))
    ]]
    assert.are.equal([[
<barrier.Group 0x [1/3 done]>, pending: b, table
  a callback waits: (command line):7
  a callback joins: (command line):8
]], out)
  end)

  it("shows a group that is a job of another one by that and its key", function()
    local out = support.output_of [[
      local outer, inner, last = barrier.group(), barrier.group(), barrier.group { name = "last" }
      last:add "z"
      inner:add "y"
      inner:join(outer:add("x", inner))
      last:wait(inner:add("last"))
      print((barrier.stuck():gsub("0x%x+", "0x")))
    ]]
    assert.are.equal([[
<barrier.Group 0x [0/2 done]>, pending: y, last
  a callback joins: the job x of <barrier.Group 0x [0/1 done]>
<barrier.Group "last" 0x [0/1 done]>, pending: z
  a callback waits: the job last of <barrier.Group 0x [0/2 done]>
]], out)
  end)

  it("shows nothing of a barrier in which only arrivals are blocked", function()
    succeeds [[
      local drains = {}
      local b = barrier.new(2, { schedule = function(drain) drains[#drains + 1] = drain end })
      local a, c = b:wait(function() end), b:wait(function() end)
      b:arrive()
      assert(b.state == "draining" and barrier.stuck(b))
      a:close()
      c:close()
      assert(barrier.stuck() == nil)
    ]]
  end)

  it("shows all awaits together", function()
    local out = support.output_of [[
      local kept = {}
      for i = 1, 3 do
        coroutine.wrap(function() barrier.await(function(f) kept[i] = f end) end)()
      end
      print(barrier.stuck())
    ]]
    assert.is_truthy(out:find "^barrier%.await\n  3 coroutines await:\n    [^\n]+\n$", out)
  end)

  it("shows the barrier, the group, or what the coroutine waits at, alone", function()
    succeeds [[
      local a, b, group, idle = barrier.new(2), barrier.new(2), barrier.group(), barrier.new(2)
      a:wait(function() end)
      local c = co(function() b:wait() end)
      group:add "g"
      assert(barrier.stuck(group) == nil and barrier.stuck(idle) == nil)
      group:wait(function() end)
      local function only(what, text, ...)
        local report = barrier.stuck(what)
        assert(report:find(text, 1, true), report)
        for _, other in ipairs { ... } do assert(not report:find(other, 1, true), report) end
      end
      only(a, tostring(a), tostring(b), tostring(group))
      only(b, tostring(b), tostring(a), tostring(group))
      only(c, tostring(b), tostring(a), tostring(group))
      only(group, tostring(group), tostring(a), tostring(b))
      assert(barrier.stuck(coroutine.create(function() end)) == nil)
      for _, bad in ipairs { 1, "b", {}, print, true, io.stdout } do
        local ok, err = pcall(function() barrier.stuck(bad) end)
        assert(err:find("command line%):%d+: bad argument #1 to 'stuck' %(barrier, group or "
          .. "coroutine expected, got " .. type(bad)), err)
      end
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
      local kept = {}
      for i = 1, 10 do
        local b = barrier.new(2)
        kept[i], seen[b] = b, true
        seen[co(function() b:wait() end)] = true
        seen[b:await_trip(function() end)] = true
      end
      assert(barrier.stuck())
      kept = nil
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
      assert(report:find("  500 coroutines wait:\n    [^\n]*crowded_place"), report)
    ]]
  end)

  it("says at the end of a program where it got stuck", function()
    local out = support.output_of [[
      local b = barrier.new(3)
      local function worker() b:wait() print "not reached" end
      for _ = 1, 2 do coroutine.wrap(function() worker() end)() end
      uv.run()
      print(barrier.stuck())
    ]]
    assert.is_truthy(out:find("[filling, waiters:2/3]", 1, true), out)
    assert.is_truthy(out:find("  2 coroutines wait:\n    [^\n]*worker"), out)
  end)

  support.it_in_c("shows shared barriers", function()
    succeeds [[
      local b = barrier.shared("stuck", 7)
      local function place() b:wait() end
      co(function() place() end)
      b:wait(function() end)
      b:arrive()
      local report = has(tostring(b) .. ", 4 missing\n  a coroutine waits:\n    ", "place",
        "  a callback waits: ")
      assert(barrier.stuck(b) == report)
      b:reset()
    ]]
  end)
end)
