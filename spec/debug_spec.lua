-- Debug mode changes the methods of a whole Lua state, so each of these runs in a process of its
-- own.
local barrier = require "barrier"
local support = require "spec.support"

local PRELUDE = [[
  barrier.debug(true)
  local function co(f, ...)
    local c = coroutine.create(f)
    assert(coroutine.resume(c, ...))
    return c
  end
  local function here() return "(command line):" .. debug.getinfo(2, "l").currentline end
  local function nothing() end
  local function has(...)
    local report = assert(barrier.stuck())
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
  local function collect()
    if jit then jit.flush() end
    for _ = 1, 4 do collectgarbage() end
  end
]]

---Runs a chunk, which has to end well and to print nothing.
local function succeeds(code)
  assert.are.equal("", support.output_of(PRELUDE .. code))
end

describe("barrier.debug", function()
  it("switches debug mode on and off, and returns whether it was on", function()
    succeeds [[
      local b = barrier.new(2)
      b:wait(nothing)
      has(", for ")
      assert(barrier.debug() == true and barrier.debug(true) == true)
      assert(barrier.debug(false) == true and barrier.debug() == false)
      has_not(", for ")
      assert(barrier.debug(false) == false and barrier.debug(true) == false)
      b = barrier.new(2)
      b:wait(nothing)
      has(", for ")
      assert(barrier.debug(false))
    ]]
  end)

  it("is switched on by BARRIER_DEBUG=1 when the module is loaded", function()
    for value, on in pairs { ["1"] = "true", ["0"] = "false", [""] = "false" } do
      local result = support.spawn(support.interpreter,
        { "-e", 'print(require("barrier").debug())' }, { env = { "BARRIER_DEBUG=" .. value } })
      assert.are.equal("", result.err)
      assert.are.equal(on, result.out:match "%a+")
    end
  end)

  it("takes a boolean", function()
    for _, bad in ipairs { 1, "on", {} } do
      local ok, err = pcall(function()
        barrier.debug(bad)
      end)
      assert.is_false(ok)
      assert.is_truthy(err:find("debug_spec.lua:%d+: bad argument #1 to 'debug' %(boolean "
        .. "expected, got " .. type(bad)), err)
    end
  end)

  it("puts everything back when it is switched off", function()
    succeeds [[
      local b, shared = barrier.new(1), barrier.implementation == "C" and barrier.shared("x", 1)
      local group = barrier.group()
      local names = { "wait", "await_trip", "with", "arrive", "reset" }
      local function methods()
        local list = { group.start, group.run }
        for _, name in ipairs(names) do
          list[#list + 1] = b[name]
          list[#list + 1] = shared and shared[name] or nil
        end
        return list
      end
      local on = methods()
      barrier.debug(false)
      local off = methods()
      for i in ipairs(on) do assert(on[i] ~= off[i], i) end
      barrier.debug(true)
      barrier.debug(false)
      for i, method in ipairs(methods()) do assert(method == off[i], i) end
      co(function() for _ = 1, 100 do b:wait() end end)
      assert(b.wait == off[3])
      barrier.debug(true)
      assert(b.wait ~= off[3])
      barrier.debug(false)
      assert(b.wait == off[3])
    ]]
  end)

  it("also notes what happens at a barrier that was much used before", function()
    succeeds [[
      barrier.debug(false)
      local b = barrier.new(2)
      for _ = 1, 2 do co(function() for _ = 1, 1000 do b:wait() end end) end
      uv.run()
      assert(b.generation == 1000)
      barrier.debug(true)
      co(function() b:wait() end)
      has("a coroutine waits, for ")
    ]]
  end)
end)

describe("in debug mode", function()
  it("says how long each party has waited", function()
    local out = support.output_of(PRELUDE .. [[
      local b, group = barrier.new(9), barrier.group()
      group:add "x"
      local function wait() b:wait() end
      co(wait)
      b:await_trip(nothing)
      group:wait(nothing)
      co(function() group:wait() end)
      co(function() b:with(nothing) end)
      co(function() barrier.await(function(f) kept = f end) end)
      local till = uv.hrtime() + 1.1e9
      while uv.hrtime() < till do end
      co(wait)
      co(function() b:await_trip() end)
      print(barrier.stuck())
    ]])
    assert.is_truthy(out:find("2 coroutines wait, for %d+ m?s to %d+%.%d s:"), out)
    assert.is_truthy(out:find("a coroutine waits, for %d+%.%d s:", 1), out)
    assert.is_truthy(out:find("a callback awaits the trip, for %d+%.%d s:"), out)
    assert.is_truthy(out:find("a coroutine awaits the trip, for %d+ ms:"), out)
    assert.is_truthy(out:find("a callback waits, for %d+%.%d s:"), out)
    assert.is_truthy(out:find("a coroutine awaits, for %d+%.%d s:"), out)
    local _, n = out:gsub("for ", "")
    local _, entries = out:gsub("\n  [%da]", "")
    assert.are.equal(entries + 1, n, out) -- and one for the pending job
  end)

  it("says where a callback was given to the wait", function()
    succeeds [[
      local b = barrier.new(2)
      local callback, defined = function() end, here()
      local where
      local function come() where = here() b:wait(1000000, callback) return nil end
      come()
      has("a callback waits, for ", ": " .. defined .. ", given to the call at " .. where)
    ]]
  end)

  it("shows which party of the previous phase is absent, and where it hangs", function()
    succeeds [[
      local b, hangs = barrier.new(6), nil
      local function load_cached(i, phase)
        if phase == 2 and i == 2 then hangs = here() coroutine.yield() end
      end
      local function work(i)
        for phase = 1, 3 do
          load_cached(i, phase)
          b:wait()
        end
      end
      for i = 1, 6 do co(work, i) end
      has_not "missing since"
      uv.run()
      has(", 1 missing\n  missing since the previous phase: a coroutine, suspended:\n    "
        .. hangs .. ": in ",
        "5 coroutines wait")
    ]]
  end)

  it("says that a party is dead, and where an error has ended it", function()
    succeeds [[
      local b = barrier.new(3)
      local a = co(function() b:wait() end)
      local c = co(function() b:wait() b:wait() end)
      local d = co(function() b:wait() b:wait() end)
      uv.run()
      has("missing since the previous phase: a coroutine, dead")
      assert(a)
    ]]
  end)

  it("forgets a party that has passed the present phase's barrier or waits there", function()
    succeeds [[
      local b = barrier.new(3)
      local function twice() b:wait() b:wait() end
      local a = co(function() b:wait() coroutine.yield() b:wait() b:wait() end)
      co(twice)
      co(twice)
      uv.run()
      has "missing since"
      assert(coroutine.resume(a))
      assert(barrier.stuck(b) == nil or not barrier.stuck(b):find "missing since")
      uv.run()
    ]]
  end)

  it("takes a party that has left early for none of the phase", function()
    if not support.pcall_yields then
      return
    end
    succeeds [[
      local b = barrier.new(2)
      local early = co(function() pcall(b.wait, b) coroutine.yield() end)
      b:cancel(early)
      uv.run()
      local late = co(function() pcall(b.wait, b, 1) coroutine.yield() end)
      uv.run()
      local a = co(function() b:wait() b:wait() end)
      local c = co(function() b:wait() coroutine.yield() end)
      uv.run()
      local report = has "missing since the previous phase: a coroutine, suspended"
      assert(select(2, report:gsub("missing since", "")) == 1, report)
      assert(early and late and a and c)
    ]]
  end)

  it("knows parties with callbacks by their definition, and arrivals by their line", function()
    succeeds [[
      local b, defined, arrived = barrier.new(4), nil, nil
      local function wait_for(x) defined = here() b:wait(function() return x end) end
      local function arrive() arrived = here() b:arrive() return nil end
      wait_for(1) wait_for(2) arrive() arrive()
      assert(b.generation == 1)
      uv.run()
      b:wait(nothing)
      has("missing since the previous phase: 2 times a callback, defined at " .. defined,
        "missing since the previous phase: 2 times a call of arrive at " .. arrived)
      wait_for(3)
      arrive()
      has("missing since the previous phase: a callback, defined at " .. defined,
        "missing since the previous phase: a call of arrive at " .. arrived)
    ]]
  end)

  it("knows a coroutine that waits with a callback or arrives by itself", function()
    succeeds [[
      local b = barrier.new(2)
      local function wait(f) b:wait(f) return nil end
      local parties = {}
      for i = 1, 2 do
        parties[i] = co(function()
          if i == 1 then b:arrive() else wait(nothing) end
          coroutine.yield()
          wait(nothing)
          coroutine.yield()
        end)
      end
      uv.run()
      assert(b.generation == 1)
      assert(coroutine.resume(parties[1]))
      local report = has "missing since the previous phase: a coroutine, suspended"
      assert(select(2, report:gsub("missing since", "")) == 1, report)
    ]]
  end)

  it("forgets arrivals when the barrier is reset", function()
    succeeds [[
      local b = barrier.new(2)
      b:arrive()
      b:reset()
      b:arrive(2)
      b:wait(nothing)
      has "missing since the previous phase: 2 times a call of arrive at "
      has_not "missing since the previous phase: a "
    ]]
  end)

  it("takes neither failed waits nor watchers for parties of a phase", function()
    succeeds [[
      local b = barrier.new(2)
      b:wait(function() end)
      b:reset()
      uv.run()
      b:wait(nothing)
      has_not "missing since"
      b:await_trip(function() end)
      co(function() b:await_trip() coroutine.yield() end)
      b:wait(nothing)
      uv.run()
      b:wait(nothing)
      local report = has "missing since the previous phase: a callback"
      assert(select(2, report:gsub("missing since", "")) == 1, report)
    ]]
  end)

  it("misses no party of a barrier that is draining or broken", function()
    succeeds [[
      local b = barrier.new(2)
      local function wait(f) b:wait(f) return nil end
      wait(function() end) wait(function() end)
      uv.run()
      wait(nothing)
      has "missing since"
      b:abort()
      has_not "missing since"
      b:reset()
      uv.run()
      wait(nothing)
      wait(nothing)
      assert(b.state == "draining")
      has_not "missing since"
    ]]
  end)

  it("counts what arrives while an action runs for the next phase", function()
    succeeds [[
      local b, inside
      b = barrier.new(1, { action = function()
        if not inside then inside = true b:arrive() end
      end })
      b:arrive()
      uv.run()
      assert(b.generation == 2)
      b:register()
      b:wait(nothing)
      local report = has "missing since the previous phase: a call of arrive at "
      assert(select(2, report:gsub("missing since", "")) == 1, report)
    ]]
  end)

  it("says where each pending job was added, and where its coroutine hangs", function()
    succeeds [[
      local group = barrier.group { expect = { "lsp", "tree" }, limit = 8 } local made = here()
      local function add(key) group:add(key) return nil end local a = here()
      add "a"
      local two = here() for _ = 1, 2 do group:add() end
      group:start("s", nothing) local s = here()
      group:start(nothing) local last = here()
      group:add "tree" local tree = here()
      group:wait(nothing)
      local report = barrier.stuck(group)
      local function pending(keys, where)
        where = where:gsub("%p", "%%%0")
        local text = "  pending, for [%d ms.to]+: " .. keys .. ", added at " .. where .. "\n"
        assert(report:find(text), text .. report)
      end
      pending("lsp", made)
      pending("4, 5", two)
      pending("s", s)
      pending("7", last)
      pending("tree", tree)
      pending("a", a)
      assert(not pcall(group.add, group, "a"))
      has("a, added at " .. a .. "\n")
      if jit or _VERSION ~= "Lua 5.1" then
        local hangs
        group:run("r", function() hangs = here() coroutine.yield() end) local r = here()
        has("r, in a coroutine, suspended, added at " .. r .. ":\n    " .. hangs)
      end
    ]]
  end)

  it("notes the jobs of groups that have a party already, and of those that are made", function()
    succeeds [[
      barrier.debug(false)
      local group = barrier.group()
      group:add "before"
      group:wait(nothing)
      barrier.debug(true)
      group:add "after" local where = here()
      local report = has("after, added at " .. where)
      assert(not report:find "before, added")
    ]]
  end)

  if support.pcall_yields then
    it("gives a string that a coroutine of group:run dies of its traceback", function()
      succeeds [[
        local group, log = barrier.group(), {}
        local function deep() error("broken", 0) end
        group:run("s", function() deep() return nil end)
        group:run("t", function() barrier.await(function(f) f() end) error({ "table" }) end)
        group:run("r", function() return 1, 2 end)
        group:run("n", function() return nil, "an error" end)
        group:wait(function(err, results, errors) log = { err, results, errors } end)
        uv.run()
        local errors = log[3]
        assert(errors.s:find "^broken\nstack traceback:\n", errors.s)
        assert(errors.s:find "deep", errors.s)
        assert(errors.t[1] == "table" and errors.n == "an error" and log[2].r[2] == 2)
        barrier.debug(false)
        group = barrier.group()
        group:run("s", function() deep() return nil end)
        group:wait(function(_, _, list) errors = list end)
        uv.run()
        assert(errors.s == "broken")
      ]]
    end)
  end

  it("keeps no party, barrier or group alive", function()
    succeeds [[
      local seen = setmetatable({}, { __mode = "k" })
      local b = barrier.new(3)
      local function make()
        for _ = 1, 3 do seen[co(function() b:wait() end)] = true end
        uv.run()
        for _ = 1, 3 do seen[b:wait(function() return seen end)] = true end
        uv.run()
        local other, group = barrier.new(2), barrier.group()
        seen[other], seen[group] = true, true
        seen[co(function() other:wait() end)] = true
        seen[other:wait(function() return other end)] = true
        uv.run()
        other:arrive()
        uv.run()
        local starter = barrier.new(2)
        seen[starter] = true
        seen[co(function()
          seen[starter:wait(nothing)] = true
          coroutine.yield(starter)
        end)] = true
        seen[co(function() other:wait() end)] = true
        group:add(group)
        group:wait(function() return group end)
        if jit or _VERSION ~= "Lua 5.1" then
          group:run(function() seen[coroutine.running()] = true coroutine.yield() end)
        end
        assert(barrier.stuck())
      end
      make()
      collect()
      assert(next(seen) == nil, tostring(next(seen)))
      assert(b.generation == 2)
    ]]
  end)

  it("keeps nothing of phases that are past", function()
    succeeds [[
      local b = barrier.new(2)
      local function phases(n)
        for _ = 1, n do b:arrive() b:arrive() end
      end
      phases(100)
      collect()
      local before = collectgarbage "count"
      phases(5000)
      collect()
      assert(collectgarbage "count" - before < 20, collectgarbage "count" - before)
    ]]
  end)

  it("raises errors of arguments at the line that called the method", function()
    local code = PRELUDE .. [[
      local b, group = barrier.new(2), barrier.group()
      local function try(f)
        local ok, err = pcall(f)
        print((tostring(err):gsub("0x%x+", "")))
      end
      group:add "k"
      local function all()
        try(function() b:wait("x") end)
        try(function() b:wait(1, 2) end)
        try(function() b:wait(nil, nil, 3) end)
        try(function() b:wait() end)
        try(function() b:await_trip({}) end)
        try(function() b:with() end)
        try(function() b:with(print) end)
        try(function() b:arrive(0) end)
        try(function() b:arrive(3) end)
        try(function() b:reset(1) end)
        try(function() b.wait(nil) end)
        try(function() b.with(nil) end)
        try(function() b.arrive({}) end)
        try(function() b.reset(1) end)
        try(function() group:add("k") end)
        try(function() group:add("new", 1) end)
        try(function() group:start(1) end)
        try(function() group.start(1) end)
        try(function() group:add(0/0) end)
        try(function() group:start("k", print) end)
        if jit or _VERSION ~= "Lua 5.1" then
          try(function() group:run(1) end)
          try(function() group:run("k", print) end)
        end
      end
      if OFF then barrier.debug(false) end
      all()
    ]]
    local on = support.output_of(code)
    local off = support.output_of("OFF = true " .. code)
    assert.are.equal(off, on)
    assert.is_true(select(2, on:gsub("\n", "")) >= 20)
  end)

  it("changes nothing in what waits and arrivals return", function()
    succeeds [[
      local one = barrier.new(1)
      co(function() assert(one:wait(nil, nil) == 0 and one:wait(5, nil) == 0) one = nil end)
      assert(one == nil)
      local b, log = barrier.new(3), {}
      local function add(...) log[#log + 1] = table.concat({ select("#", ...), ... }, " ") end
      co(function() local position = b:wait() add("wait", position) end)
      co(function() add("with", b:with(function(position) return position, "more" end)) end)
      b:await_trip(function(...) add("trip", select("#", ...), select(2, ...)) end)
      add(b:arrive() and "arrived")
      uv.run()
      log = table.concat(log, ", ")
      assert(log == "1 arrived, 2 wait 0, 3 with 1 more, 3 trip 2 1", log)
      b:abort "reason"
      local arrived, err = b:arrive()
      assert(arrived == nil and err.reason == "reason")
      b:wait(function(...)
        assert(select("#", ...) == 1 and (...).reason == "reason")
        log = "called"
      end)
      uv.run()
      assert(log == "called" and select("#", b:reset()) == 0)
    ]]
  end)
end)

describe("shared barriers in debug mode", function()
  support.it_in_c("say how long a party has waited, and which is absent", function()
    succeeds [[
      local b = barrier.shared("debugged", 2)
      local function hang() coroutine.yield() end
      co(function() b:wait() b:wait() end)
      local c = co(function() b:wait() hang() end)
      repeat uv.run "nowait" until coroutine.status(c) == "suspended" and b.n_waiting == 1
      has("missing since the previous phase: a coroutine, suspended", "a coroutine waits, for ")
      assert(c)
    ]]
  end)
end)

