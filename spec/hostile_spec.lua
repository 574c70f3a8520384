-- Hostile use: the debug library, finalizers in any order, a state that closes at the
-- worst moment, a loop whose handles other code closes, a module loaded twice. Nothing may
-- crash, and no promised wake-up may be lost. Each scenario runs in a process of its own;
-- the specs check its exit status and output.

local support = require "spec.support"

local PRELUDE = [==[
package.path, package.cpath = %q, %q
io.stdout:setvbuf "no"
uv, barrier = require "luv", require "barrier"

function co(f, ...)
  local c = coroutine.create(f)
  assert(coroutine.resume(c, ...))
  return c
end

-- A party that passes and prints its position.
function party(b, name)
  return co(function() print(name, b:wait()) end)
end

function listener(name)
  return function(e, position) print(name, e and tostring(e) or position) end
end

-- A party that may fail. If it has a name (or a callback), it reports how its wait ended.
-- Lua 5.1 cannot wait inside pcall, so there it waits with a callback.
local pcall_yields = coroutine.wrap(function() return pcall(coroutine.yield) end)() == nil
function patient(b, name, timeout)
  local tell = type(name) == "string" and listener(name) or name or function() end
  if not pcall_yields then
    if timeout then return b:wait(timeout, tell) end
    return b:wait(tell)
  end
  return co(function()
    local ok, e = pcall(b.wait, b, timeout)
    tell(not ok and e or nil, e)
  end)
end

-- An object that calls f when it is collected.
function finalizer(f)
  if newproxy then
    local p = newproxy(true)
    getmetatable(p).__gc = f
    return p
  end
  return setmetatable({}, { __gc = f })
end

function user_value(u)
  return debug.getfenv and debug.getfenv(u) or debug.getuservalue(u, 1)
end

function take_user_value(u)
  if debug.setfenv then return debug.setfenv(u, {}) end
  for n = 1, 2 do debug.setuservalue(u, nil, n) end
end

-- A Waiter's values are in a table before Lua 5.4.
function take_callback(w, callback)
  local values = user_value(w)
  if type(values) == "table" then
    for key, value in pairs(values) do
      if value == callback then values[key] = nil end
    end
  else
    for n = 1, 2 do
      if debug.getuservalue(w, n) == callback then debug.setuservalue(w, nil, n) end
    end
  end
end

-- Calls f at the next call of `called`, in this coroutine or in one created later.
function when_called(called, f)
  debug.sethook(function()
    if debug.getinfo(2, "f").func == called then
      debug.sethook()
      called = nil
      f()
    end
  end, "c")
end

-- Makes the next allocation, unless it is very small, collect all garbage: the collector
-- works its hardest and begins a new cycle.
function collect_soon()
  collectgarbage "stop"
  for _ = 1, 20 do finalizer(function() end) end
  if pcall(collectgarbage, "setpause", 0) then
    collectgarbage("setstepmul", 1000000)
  else -- Lua 5.5
    collectgarbage("param", "pause", 0)
    collectgarbage("param", "stepmul", 1000000)
  end
  collectgarbage "restart"
end

-- Calls f and ignores its error. Returns whether it succeeded.
function try(f, ...)
  return (pcall(f, ...))
end

-- Copies the core's library. Returns the file, which the caller removes.
function copy_of_core()
  for template in package.cpath:gmatch "[^;]+" do
    local from = io.open((template:gsub("%%?", "barrier/core")), "rb")
    if from then
      local name = os.tmpname()
      local to = assert(io.open(name, "wb"))
      to:write(from:read "*a")
      to:close()
      from:close()
      return name
    end
  end
end

other = barrier.new(2)
function others_pass()
  party(other, "other 0")
  party(other, "other 1")
  uv.run()
end
]==]

local OTHERS = "other 1\t1\nother 0\t0\n"

-- Runs a script. Returns its output, its exit code and the signal that ended it.
local function run(script)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(PRELUDE:format(package.path, package.cpath), script, "\n")
  file:close()
  local result = support.script(name, nil, { timeout = 60000 })
  os.remove(name)
  return result.out .. result.err, result.code, result.signal
end

-- Expects the script to end well and to print this.
local function prints(expected, script)
  local output, code, signal = run(script)
  assert.are.equal(expected, (output:gsub("0x%x+", "ADDRESS")))
  assert.are.same({ 0, 0 }, { code, signal })
end

-- Expects the script to end well, whatever it prints before `expected`.
local function survives(script, expected)
  local output, code, signal = run(script .. "\nothers_pass()")
  assert.are.same({ 0, 0, output }, { code, signal, output })
  assert.are.equal((expected or "") .. OTHERS, output:sub(-#((expected or "") .. OTHERS)))
end

describe("the debug library", function()
  support.it_in_c("may remove the metatable of a draining barrier: all waiters resume", function()
    survives([[
      local b, woken = barrier.new(2), false
      patient(b, function() woken = true end)
      b:wait(listener "b")
      patient(b)
      debug.setmetatable(b, nil)
      uv.run()
      assert(woken)
      assert(not try(function() return b.parties end))
      b = nil
      collectgarbage()
      collectgarbage()
    ]], "b\t1\n")
  end)

  it("may give a barrier's metatable to anything else", function()
    survives [[
      local b = barrier.new(2)
      local mt = debug.getmetatable(b)
      local w = b:wait(listener "w")
      local things = { io.tmpfile(), uv.new_timer(), w, finalizer(function() end), {}, true, 1, "" }
      things[#things + 1] = print
      things[#things + 1] = co(function() coroutine.yield() end)
      for _, thing in ipairs(things) do
        local old = debug.getmetatable(thing)
        debug.setmetatable(thing, mt)
        assert(not try(b.wait, thing))
        assert(not try(b.wait, thing, 10, print))
        assert(not try(b.reset, thing) and not try(b.abort, thing) and not try(b.with, thing))
        assert(not try(b.cancel, thing, things[#things]) and not try(b.waiters, thing))
        try(function() return thing.parties, thing.state, tostring(thing) end)
        assert(not try(function() thing.parties = 1 end))
        debug.setmetatable(thing, old)
      end
      local file = io.tmpfile()
      debug.setmetatable(file, mt)
      file = nil
      collectgarbage()
      assert(b.n_waiting == 1)
    ]]
  end)

  it("may give a barrier the metatable of something else", function()
    survives [[
      for _, thing in ipairs { io.stdout, barrier.new(1):wait(print), uv.new_timer(), "" } do
        local b = barrier.new(2)
        party(b, "a")
        debug.setmetatable(b, debug.getmetatable(thing))
        if type(thing) ~= "userdata" or thing ~= io.stdout then try(tostring, b) end
        debug.setmetatable(b, nil)
      end
      uv.run()
    ]]
  end)

  ---Takes the user value of barriers in all states, which have `schedule`.
  local function remove_in_any_state(schedule)
    return [[
      for _, state in ipairs { "filling", "draining", "resetting", "broken", "acting" } do
        local b
        b = barrier.new(3, {
          schedule = ]] .. schedule .. [[,
          action = function() if state == "acting" then take_user_value(b) end end,
        })
        local c = patient(b, nil, 20)
        local w = b:wait(20, function() end)
        b:await_trip(20, function() end)
        if state == "draining" or state == "acting" then
          patient(b)
          patient(b, nil, 5)
          b:arrive()
        end
        if state == "resetting" then b:reset() end
        if state == "broken" then b:abort "why" end
        take_user_value(b)
        try(patient, b)
        try(b.wait, b, function() end)
        try(b.wait, b, 10, function() end)
        try(b.await_trip, b, 10, function() end)
        for _ = 1, 3 do try(b.arrive, b) end
        try(b.deregister, b)
        try(b.waiters, b)
        try(b.cancel, b, c)
        try(w.close, w, function() end)
        try(b.abort, b, "again")
        try(b.reset, b)
        try(tostring, b)
        try(barrier.stuck)
      end
      for _ = 1, 50 do try(uv.run) end
    ]]
  end

  support.it_in_c("may remove a barrier's user value in any state", function()
    survives(remove_in_any_state "false")
  end)

  support.it_in_c("may remove it from barriers with a schedule", function()
    survives(remove_in_any_state "function(drain) drain() end")
  end)

  support.it_in_c("may remove a Waiter's user value at any time", function()
    survives [[
      for how = 1, 5 do
        local b
        b = barrier.new(2, { action = function()
          if how < 3 then return end
          for _, w in ipairs(b:waiters()) do
            if type(w) == "userdata" then take_user_value(w) end
          end
          if how == 4 then error "why" end
          if how == 5 then b:abort() end
        end })
        local w = b:wait(function() end)
        if how < 3 then take_user_value(w) end
        if how == 1 then b:abort() else b:wait(function() end) end
        try(w.close, w)
        try(w.close, w, print)
        try(tostring, w)
        for _ = 1, 5 do try(uv.run) end
      end
    ]]
  end)

  support.it_in_c("may remove the action: the barrier trips without it", function()
    survives([[
      local b = barrier.new(2, { action = function() print "action" end })
      b:wait(listener "a")
      user_value(b).action = nil
      b:wait(listener "b")
      uv.run()
    ]], "a\t0\nb\t1\n")
  end)

  support.it_in_c("may remove schedule: the barrier does without it", function()
    survives([[
      local b = barrier.new(2, { schedule = function() print "schedule" end })
      b:wait(listener "a")
      b:wait(listener "b")
      user_value(b).schedule = nil
      uv.run()
    ]], "a\t0\nb\t1\n")
  end)

  support.it_in_c("may remove a Waiter's callback: nobody is called", function()
    survives([[
      local b = barrier.new(2)
      local w = b:wait(print)
      b:wait(listener "b")
      take_callback(w, print)
      uv.run()
      w:close()
      print(b.state)
    ]], "b\t1\nfilling\n")
  end)

  it("may change the metatable of a much used barrier", function()
    survives([[
      local function use(b)
        for i = 1, 200 do b:wait(function() end) end
        uv.run()
        return b
      end
      local function with_metatable(change)
        local b = barrier.new(2)
        local mt = {}
        for key, value in pairs(debug.getmetatable(b)) do mt[key] = value end
        debug.setmetatable(b, change(mt))
        use(b)
        assert(debug.getmetatable(b) == mt)
        print(b.generation, b.n_waiting, b.other, tostring(b):match "%[(.*)%]")
        mt.__index = nil
        assert(not try(use, b))
      end
      with_metatable(function(mt) return mt end)
      with_metatable(function(mt) mt.__close = nil return mt end)
      local all = debug.getmetatable(barrier.new(1))
      for key in pairs(all) do
        if type(key) == "number" then all[key] = nil end
      end
      try(use, barrier.new(2))
    ]], ("100\t0\tnil\tfilling, waiters:0/2\n"):rep(2))
  end)

  it("may remove the registry's functions: errors are reported without a traceback", function()
    local output, code, signal = run [[
      local registry = debug.getregistry()
      for key, value in pairs(registry) do
        if type(key) == "userdata" and type(value) == "function" then registry[key] = nil end
      end
      local b = barrier.new(3)
      b:wait(function() error "boom" end)
      co(function() b:wait() error "boom" end)
      b:wait(function() print "passed" end)
      uv.run()
    ]]
    assert.are.equal(0, signal)
    assert.are_not.equal(0, code)
    assert.is_truthy(output:find("^passed\nUncaught Error: .*boom\nstack traceback:"), output)
  end)

  support.it_in_c("may take away what keeps a barrier alive: the next call serves it", function()
    local RESET = "a\tBrokenBarrierError: barrier reset\n"
    survives([[
      local a, b = barrier.new(2), barrier.new(2)
      for _ = 1, 2 do
        a:wait(listener "a")
        b:wait(listener "b")
      end
      for _, anchors in pairs(debug.getregistry()) do
        for key, value in pairs(type(anchors) == "table" and anchors or {}) do
          if value == a and not getmetatable(anchors) then anchors[key] = other end
        end
      end
      uv.run()
      assert(a.state == "draining" and b.state == "filling")
      a:reset()
      uv.run()
    ]], "b\t0\nb\t1\n" .. RESET .. RESET)
  end)

  it("may call metamethods by hand, with anything", function()
    survives [[
      local b = barrier.new(2)
      local w = b:wait(function() end)
      for _, thing in ipairs { b, w } do
        for name, f in pairs(debug.getmetatable(thing)) do
          if type(f) == "function" and name ~= "__gc" then
            try(f)
            for _, x in ipairs { b, w, 1, "wait", {}, io.stdout, print } do
              try(f, x)
              try(f, x, "state")
              try(f, x, x, x)
            end
          end
        end
      end
      assert(b.n_waiting == 1)
    ]]
  end)

  support.it_in_c("may call __gc by hand: the barrier is gone, its coroutines can go on", function()
    survives([[
      for _, state in ipairs { "filling", "draining", "resetting", "broken" } do
        local b = barrier.new(3)
        local gc = debug.getmetatable(b).__gc
        local c = patient(b, state, 1000)
        local w = b:wait(1000, listener "never")
        if state == "draining" then patient(b) patient(b) end
        if state == "resetting" then b:reset() end
        if state == "broken" then b:abort() end
        gc(b)
        gc(b)
        gc()
        gc(1)
        gc(io.stdout)
        local late = b:wait(print)
        late:close(print)
        assert(late:is_closing() and not pcall(b.wait, b, 1, 2) and not pcall(b.wait, b))
        co(function() b:await_trip() print "never" end)
        co(function() b:with(print) print "never" end)
        assert(b:arrive() == true and b:deregister() == true)
        assert(select("#", b:abort()) + select("#", b:reset()) + select("#", b:register()) == 0)
        assert(b:cancel(coroutine.create(function() end)) == false and #b:waiters() == 0)
        assert(#require "barrier.core".watchers(b) == 0)
        assert(b.parties == 3 and b.n_waiting == 0 and b.state == "filling")
        assert(tostring(b):find("filling, waiters:0/3", 1, true))
        w:close(function() print "never" end)
        assert(w:is_closing())
        if type(c) == "thread" then
          assert(coroutine.resume(c))
        else
          print(state .. "\tCancelledError: wait cancelled: resumed by somebody else")
        end
      end
      collectgarbage()
      uv.run()
    ]], ([[
filling	CancelledError: wait cancelled: resumed by somebody else
draining	CancelledError: wait cancelled: resumed by somebody else
resetting	CancelledError: wait cancelled: resumed by somebody else
broken	CancelledError: wait cancelled: resumed by somebody else
]]))
  end)

  it("may call __gc by hand in an action", function()
    survives [[
      for style = 1, 4 do
        local b
        b = barrier.new(2, { action = function()
          debug.getmetatable(b).__gc(b)
          if style == 2 then error "why" end
        end })
        local c = patient(b, nil, 20)
        if style < 3 then
          try(patient, b, nil, 20)
        else
          try(b.wait, b, 20, function() end)
        end
        if style == 4 and type(c) == "thread" then coroutine.resume(c) end
        b, c = nil, nil
        -- other barriers reuse its memory
        local more = {}
        for i = 1, 20 do
          more[i] = barrier.new(2)
          more[i]:wait(10, function() end)
        end
        collectgarbage()
        collectgarbage()
        uv.run()
        for _, x in ipairs(more) do assert(x.n_waiting == 0) end
      end
      collectgarbage()
    ]]
  end)

  support.it_in_c("may call __gc by hand while a turn or a timeout is due", function()
    survives [[
      local function nobody() end
      local gc = debug.getmetatable(other).__gc
      local ways = {
        function(b) b:wait(nobody) b:wait(nobody) end,
        function(b) b:wait(10, nobody) b:wait(nobody):close(nobody) end,
        function(b) b:arrive() end,
        function(b) b:await_trip(5, nobody) b:wait(5, nobody) end,
        function(b) b:abort() b:wait(nobody) end,
      }
      for round = 1, 40 do
        for _, way in ipairs(ways) do
          local b = barrier.new(2, { timeout = 5 })
          way(b)
          gc(b)
        end
        collectgarbage()
        collectgarbage()
        local fill = {}
        for size = 32, 1200, 8 do
          fill[#fill + 1] = ("\255"):rep(size) .. round
        end
        local n = 0
        local function count() n = n + 1 end
        local x = barrier.new(2)
        x:wait(10, count)
        x:wait(10, count)
        barrier.new(2, { timeout = 6 }):wait(count)
        barrier.new(2):wait(1, count)
        uv.run()
        assert(n == 4 and #fill > 0)
      end
    ]]
  end)

  support.it_in_c("may call __gc by hand while the barrier drains", function()
    survives [[
      for style = 1, 2 do
        local b = barrier.new(3)
        local gc = debug.getmetatable(b).__gc
        if style == 1 then
          co(function() b:wait() gc(b) collectgarbage() pcall(b.wait, b) end)
        else
          b:wait(function() gc(b) collectgarbage() end)
        end
        co(function() b:wait() end)
        b:wait(function() end)
        b:wait(function() end)
        uv.run()
      end
    ]]
  end)

  support.it_in_c("may finalize the core by hand: its barriers are gone", function()
    local output, code, signal = run [[
      local core = require "barrier.core"
      local _, u = debug.getupvalue(core.bind, 1)
      local gc = u and debug.getmetatable(u).__gc or tostring -- Lua 5.1 does not show it
      local b = barrier.new(3)
      local c = patient(b, "a", 10)
      local w = b:wait(10, function() end)
      barrier.new(1):wait(function() end)
      try(gc)
      try(gc, 1)
      try(gc, b)
      try(gc, u)
      try(w.close, w)
      try(b.cancel, b, c)
      try(b.wait, b, function() assert(not u) end)
      try(function() return barrier.new(1):wait(function() assert(not u) end) end)
      try(gc, u)
      b = nil
      collectgarbage()
      uv.run()
    ]]
    assert.are.same({ 0, 0, output }, { code, signal, output })
  end)
end)

describe("a finalizer", function()
  it("may close a Waiter while the error for its callback is being made", function()
    prints("", [[
      for _ = 1, 200 do
        local b, closed = barrier.new(3), false
        local w = b:wait(function() assert(not closed) end)
        b:reset()
        finalizer(function() closed = true w:close() end)
        collect_soon()
        uv.run()
        assert(b.state == "filling" and b.parties == 3 and #b:waiters() == 0)
        collectgarbage()
        collectgarbage()
      end
    ]])
  end)

  it("may wait while a coroutine goes on, which still gets its result", function()
    prints("", [[
      local other = barrier.new(3)
      for round = 1, 300 do
        local report, returned
        local b = barrier.new(2, { schedule = function(drain)
          local ok, e = pcall(drain)
          report = not ok and e
        end })
        co(function() returned = b:wait() end)
        if round % 2 == 0 then b:reset() else b:wait(function() end) end
        for _ = 1, 5 do finalizer(function() other:wait(function() end) end) end
        collect_soon()
        uv.run()
        if round % 2 == 0 then
          assert(returned == nil and report:find "^BrokenBarrierError: barrier reset\n")
        else
          assert(returned == 0 and not report)
        end
      end
    ]])
  end)

  it("may fail at a broken barrier while another call makes the barrier's first error", function()
    survives [[
      local came, told = 0, 0
      for _ = 1, 50 do
        local b, active = barrier.new(2), true
        b:abort "first"
        finalizer(function()
          if not active then return end
          came = came + 1
          b:wait(function(err)
            assert(err.reason == "first")
            told = told + 1
          end)
        end)
        local arrive = b.arrive
        collect_soon()
        local ok, err = arrive(b)
        active = false
        assert(not ok and err.reason == "first")
        b:reset()
        b:abort "second"
        uv.run()
      end
      assert(told == came and (came > 0 or barrier.implementation == "Lua"))
    ]]
  end)

  it("may wait while a barrier gives back the memory of a crowd", function()
    survives [[
      local came, told = 0, 0
      for round = 1, 120 do
        local b = barrier.new(1000)
        for _, n in ipairs { 100, 1 } do
          for _ = 1, n do b:wait(function() end) end
          b:reset()
          if n == 1 then break end
          uv.run()
        end
        local active, calls = true, 0
        local function come()
          if not active then return end
          calls = calls + 1
          if calls == round % 20 then
            came = came + 1
            b:wait(function() told = told + 1 end)
          end
          finalizer(come)
        end
        finalizer(come)
        collect_soon()
        repeat uv.run "nowait" until b.state == "filling"
        active = false
        b:reset()
        uv.run()
        assert(told == came)
      end
    ]]
  end)

  it("may wait while waiters() builds its array", function()
    survives [[
      local met = false
      for _ = 1, 200 do
        local b, asked = barrier.new(1000), false
        b:wait(function() end)
        finalizer(function()
          met = met or asked
          for _ = 1, 50 do b:wait(function() end) end
        end)
        collect_soon()
        asked = true
        local list = b:waiters()
        asked = false
        assert(#list == 1 or #list == 51)
      end
      -- In these two the collector may not get that far.
      assert(met or _VERSION == "Lua 5.1" or _VERSION == "Lua 5.5")
    ]]
  end)
end)

describe("a hook", function()
  it("may trip a barrier while the timer is being stopped: that is served", function()
    prints("first\t0\nsecond\t0\n", [[
      when_called(uv.timer_stop, function()
        barrier.new(1):wait(listener "second")
      end)
      barrier.new(1):wait(listener "first")
      uv.run()
    ]])
  end)

  it("may trip a barrier while the timer is being started for a timeout: that is served", function()
    prints("hooked\t0\n", [[
      when_called(uv.timer_start, function()
        barrier.new(1):wait(listener "hooked")
      end)
      local w = barrier.new(2):wait(3600000, function() end)
      for _ = 1, 10 do uv.run "nowait" end
      w:close()
      uv.run()
    ]])
  end)

  it("may arrive while another party does: one trips the barrier, one is blocked", function()
    prints("draining\t1\nfirst\t0\nsecond\t1\nfilling\t1\n", [[
      local b = barrier.new(2)
      b:wait(listener "first")
      when_called(uv.timer_start, function()
        b:wait(listener "second")
      end)
      b:wait(listener "second")
      print(b.state, b.generation)
      uv.run()
      print(b.state, b.n_waiting)
    ]])
  end)

  it("may close a Waiter that is being closed, and take its place", function()
    prints("1\nclosed\nanother\t0\n", [[
      local b = barrier.new(2)
      local w = b:wait(listener "closed too late")
      when_called(uv.timer_start, function()
        w:close()
        b:wait(listener "another")
      end)
      w:close(function() print "closed" end)
      print(b.n_waiting)
      b:arrive()
      uv.run()
    ]])
  end)

  support.it_closes("may close a coroutine that is being cancelled, and take its place", function()
    prints("true\t1\nanother\t0\n", [[
      local b = barrier.new(2)
      local c = co(function() b:wait() end)
      when_called(uv.timer_start, function()
        coroutine.close(c)
        b:wait(listener "another")
      end)
      b:cancel(c)
      print(coroutine.status(c) == "dead", b.n_waiting)
      b:arrive()
      uv.run()
    ]])
  end)

  -- LuaJIT cannot suspend a coroutine from C while a hook runs.
  local it_yields = jit and pending or support.it_in_c
  it_yields("may resume the coroutine that is being cancelled: it has left", function()
    local RESUMED = "CancelledError: wait cancelled: resumed by somebody else"
    prints("false\ttrue\t0\tsuspended\n" .. RESUMED .. "\n", [[
      local b = barrier.new(2, { schedule = function(drain)
        print((select(2, pcall(drain)):match "^[^\n]*"))
      end })
      local c = co(function() b:wait() end)
      local resumed
      when_called(uv.timer_start, function() resumed = coroutine.resume(c) end)
      print(b:cancel(c), resumed, b.n_waiting, coroutine.status(c))
      uv.run()
    ]])
  end)

  it("may wait while a coroutine goes on, which still gets its result", function()
    for _, event in ipairs { '"l"', '"c"', '"r"', '"lcr", 1' } do
      local script = [[
        local b, other = barrier.new(2), barrier.new(9)
        local c = coroutine.create(function() print("returned", b:wait()) end)
        coroutine.resume(c)
        local calls = 0
        debug.sethook(c, function()
          calls = calls + 1
          if calls < 200 then other:wait(function() end) end
        end, ]] .. event .. [[)
      ]]
      local output, code, signal = run(script .. "b:reset() uv.run()")
      assert.are.equal("Uncaught Error: BrokenBarrierError: barrier reset\n", output:sub(1, 50))
      assert.are.equal(0, signal)
      assert.are_not.equal(0, code)
      prints("returned\t0\n", script .. "b:wait(function() end) uv.run()")
    end
  end)
end)

describe("methods on another type's userdata", function()
  it("raise errors that say what was expected, and change nothing", function()
    prints([[
calling 'abort' on bad self (barrier expected, got nil)
calling 'abort' on bad self (barrier expected, got userdata)
calling 'cancel' on bad self (barrier expected, got nil)
calling 'cancel' on bad self (barrier expected, got userdata)
calling 'reset' on bad self (barrier expected, got nil)
calling 'reset' on bad self (barrier expected, got userdata)
calling 'wait' on bad self (barrier expected, got nil)
calling 'wait' on bad self (barrier expected, got userdata)
calling 'waiters' on bad self (barrier expected, got nil)
calling 'waiters' on bad self (barrier expected, got userdata)
calling 'with' on bad self (barrier expected, got nil)
calling 'with' on bad self (barrier expected, got userdata)
calling 'close' on bad self (Waiter expected, got nil)
calling 'close' on bad self (Waiter expected, got userdata)
]], [[
      local b = barrier.new(2)
      local w = b:wait(print)
      local function message(f, x)
        local _, e = pcall(f, x)
        print((e:gsub("^.-:%d+: ", "")))
      end
      for _, name in ipairs { "abort", "cancel", "reset", "wait", "waiters", "with" } do
        message(b[name], nil)
        message(b[name], io.stdout)
        for _, x in ipairs { w, uv.new_timer(), 1, "", {}, print } do
          assert(not try(b[name], x, function() end))
        end
      end
      message(w.close, nil)
      message(w.close, io.stdout)
      for _, x in ipairs { b, uv.new_timer(), 1, "", {}, print } do
        assert(not try(w.close, x))
      end
      assert(b.n_waiting == 1 and b.state == "filling")
    ]])
  end)
end)

describe("a Lua state that closes", function()
  local STATES = [[
    keep = {}
    local function fill(parties, ...)
      local b = barrier.new(parties, ...)
      keep[#keep + 1] = b
      patient(b, nil, 10000)
      patient(b)
      b:wait(10000, function() end)
      b:wait(function() end):close(function() end)
      return b
    end
    fill(9)
    fill(3)
    fill(1)
    fill(9):abort "why"
    fill(9):reset()
    fill(3, { action = function() end, schedule = function(drain) keep[#keep + 1] = drain end })
  ]]

  it("may have waiters at barriers in every state", function()
    prints("end\n", STATES .. [[ print "end" ]])
  end)

  it("may have barriers that have let out some of their waiters", function()
    prints("end\n", STATES .. [[
      keep[2]:wait(function() end)
      print "end"
      for _ = 1, 3 do uv.run "nowait" end
    ]])
  end)

  it("lets finalizers of any age do anything to barriers", function()
    local output, code, signal = run([[
      local function meddle()
        for _, b in ipairs(keep) do
          if type(b) == "userdata" then
            try(b.abort, b, "closing") try(b.reset, b)
            try(b.wait, b, function() end) try(b.wait, b, 5, function() end)
            try(patient, b)
            try(b.waiters, b) try(tostring, b)
          else
            try(b)
          end
        end
        -- LuaJIT unloads libraries, luv's or ours, before it finalizes what is created now
        local b
        if not jit and try(function() b = barrier.new(1) end) then
          try(b.wait, b, function() end)
          try(b.wait, b, 1, function() end)
        end
        try(uv.run, "nowait")
      end
      oldest = finalizer(meddle)
    ]] .. STATES .. [[
      old = finalizer(meddle)
      uv.run "nowait"
      young = finalizer(meddle)
      fill = nil
      print "end"
    ]])
    assert.are.same({ "end\n", 0, 0 }, { output:sub(1, 4), code, signal })
  end)

  it("may close while a barrier drains", function()
    for _, where in ipairs { "coroutine", "callback", "action", "schedule" } do
      prints("closing\n", [[
        local where = "]] .. where .. [["
        local function close(here)
          if here ~= where then return end
          print "closing"
          pcall(os.exit, true, true)
          os.exit(0) -- Lua 5.1
        end
        local b = barrier.new(3, {
          action = function() close "action" end,
          schedule = where == "schedule" and function() close "schedule" end or nil,
        })
        co(function() b:wait(1000) close "coroutine" end)
        b:wait(1000, function() close "callback" end)
        co(function() b:wait() end)
        co(function() b:wait() end)
        uv.run()
        print "not reached"
      ]])
    end
  end)
end)

describe("the event loop", function()
  it("may have all its handles closed: the next trip serves those left behind", function()
    prints("y\t1\nclosed\nz\t0\nx\t0\n", [[
      local left, last = barrier.new(2), barrier.new(1)
      left:wait(listener "z")
      party(left, "y")
      uv.walk(function(h) if not h:is_closing() then h:close() end end)
      uv.run()
      print "closed"
      last:wait(listener "x")
      uv.run()
    ]])
  end)

  it("may have the handle that lets it poll closed: turns go on", function()
    prints("1100\n", [[
      local b, n = barrier.new(1), 0
      local function again()
        n = n + 1
        uv.walk(function(h)
          if h:get_type() == "idle" and not h:is_closing() then h:close() end
        end)
        if n < 1100 then b:wait(again) end
      end
      b:wait(again)
      uv.run()
      print(n)
    ]])
  end)

  it("may have all its handles closed by other code, again and again", function()
    survives [[
      local function close_all()
        uv.walk(function(h) if not h:is_closing() then h:close() end end)
      end
      local b = barrier.new(2, { action = close_all })
      local n = 0
      for _ = 1, 20 do
        co(function() b:wait(50) n = n + 1 end)
        b:wait(50, function() n = n + 1 close_all() end)
        close_all()
        other:wait(function() end)
        other:wait(close_all)
        uv.run()
      end
      barrier.new(1):wait(function() end)
      uv.run()
      assert(n == 40, n)
    ]]
  end)

  it("may be stopped: waiters resume when it runs again", function()
    prints("3\t3\n", [[
      local b, n, runs = barrier.new(3), 0, 0
      for _ = 1, 3 do co(function() b:wait() n = n + 1 uv.stop() end) end
      repeat runs = runs + 1 until not uv.run() or runs > 9
      uv.run()
      print(n, b.generation + 2)
    ]])
  end)

  support.it_in_c("may run inside a hook on luv's own functions", function()
    prints("hooked\tmine\ntrue\n", [[
      local b, c, called = barrier.new(1), barrier.new(1), {}
      local hooked = false
      co(function()
        debug.sethook(function()
          if hooked or debug.getinfo(2, "f").func ~= uv.new_timer then return end
          hooked = true
          c:wait(function() called[#called + 1] = "hooked" end)
        end, "r")
        b:wait(function() called[#called + 1] = "mine" end)
        debug.sethook()
      end)
      local turns = 0
      local idle = uv.new_idle()
      idle:start(function() turns = turns + 1 if turns > 1000 then uv.stop() end end)
      uv.unref(idle)
      uv.run()
      if not hooked then called[2] = "hooked" end -- LuaJIT has no such hook
      table.sort(called)
      print(table.concat(called, "\t"))
      print(turns <= 1000) -- an idle barrier holds no active handle
    ]])
  end)
end)

describe("the module", function()
  it("is useless but harmless as the C core alone", function()
    survives [[
      package.loaded.barrier = nil
      local core = require "barrier.core"
      local ends = { leave = true, watch_exit = true } -- spec/end_spec.lua calls these
      for name, f in pairs(core) do
        if type(f) == "function" and not ends[name] then
          try(f)
          local yielding = co(function() coroutine.yield() end)
          for _, x in ipairs { 1, "", {}, print, io.stdout, yielding, other } do
            try(f, x)
            if x ~= other then try(co, f, x) end -- that may be a wait
          end
        end
      end
      for _, f in pairs(core.members) do
        if type(f) == "function" then try(f) try(co, f) end
      end
      core.bind(uv)
    ]]
  end)

  it("says so when the core was never bound", function()
    prints("barrier.core is private; require \"barrier\"\n", [[
      package.loaded.barrier, package.loaded.luv = nil, nil
      local file = copy_of_core()
      local core = assert(package.loadlib(file, "luaopen_barrier_core"))()
      local _, e = pcall(core.make_new(), 2)
      print((e:gsub("^.-:%d+: ", "")))
      os.remove(file)
    ]])
  end)

  it("is the same however often it is loaded", function()
    prints("true\na\t0\nb\t1\ntrue\n", [[
      local b = barrier.new(2)
      party(b, "a")
      package.loaded.barrier, package.loaded["barrier.core"] = nil, nil
      local second = require "barrier"
      print(second ~= barrier and second.CancelledError == barrier.CancelledError)
      second.new(2).wait(b, listener "b")
      uv.run()
      print(getmetatable(second.new(1)) == getmetatable(b))
    ]])
  end)

  it("goes on when package.loaded is cleared and everything is collected", function()
    local TIMED_OUT = "TimeoutError: wait timed out after 1 ms, 1 of 2 had arrived"
    prints("b\t1\na\t0\ntimer\t" .. TIMED_OUT .. "\n", [[
      do
        local b = barrier.new(2)
        party(b, "a")
        party(b, "b")
        patient(barrier.new(2), "timer", 1)
      end
      for name in pairs(package.loaded) do package.loaded[name] = nil end
      barrier, other = nil, nil
      collectgarbage()
      collectgarbage()
      uv.run()
    ]])
  end)

  support.it_in_c("does not mix with a second copy of its library", function()
    prints("1 b\t1\n2 b\t1\n1 a\t0\n2 a\t0\nfalse\nfalse\n", [[
      local file = copy_of_core()
      local first = barrier
      package.loaded.barrier = nil
      package.loaded["barrier.core"] = assert(package.loadlib(file, "luaopen_barrier_core"))()
      local second = require "barrier"
      local b1, b2 = first.new(2), second.new(2)
      for _, n in ipairs { "a", "b" } do
        party(b1, "1 " .. n)
        party(b2, "2 " .. n)
      end
      uv.run()
      print((pcall(b1.wait, b2, print)))
      print(getmetatable(select(2, pcall(b1.wait, b2))) == first.CancelledError)
      os.remove(file)
    ]])
  end)

  it("shares nothing with the module in another thread's Lua state", function()
    prints("done\ndone\ndone\ndone\n400\n", [[
      local threads = {}
      for i = 1, 4 do
        -- Every luv can hand over source; luv 1.51 cannot dump functions of Lua 5.5.
        threads[i] = uv.new_thread([=[
          package.path, package.cpath = ...
          local uv, barrier = require "luv", require "barrier"
          local b, n = barrier.new(10), 0
          for _ = 1, 10 do
            coroutine.wrap(function()
              for _ = 1, 100 do b:wait() n = n + 1 end
            end)()
          end
          barrier.new(2):wait(10, function(e) n = n + #e.name end)
          uv.run()
          collectgarbage()
          assert(n == 1000 + #"TimeoutError", n)
          io.write "done\n"
        ]=], package.path, package.cpath)
      end
      local b, n = barrier.new(4), 0
      for _ = 1, 4 do co(function() for _ = 1, 100 do b:wait() n = n + 1 end end) end
      -- Before the loop runs: there luv joins them too, and musl crashes at a second time.
      for _, thread in ipairs(threads) do uv.thread_join(thread) end
      uv.run()
      print(n)
    ]])
  end)
end)
