-- What happens at the edges: clocks that are late or wrap, timers that a stranger stops,
-- bursts, the end of a loop, errors without a text, copies of barriers.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, listener, run_loop = support.add, support.co, support.listener, support.run_loop
local timed_out = support.timed_out

local function nobody() end

describe("a loop whose clock is late after a computation", function()
  ---Has `start` begin something that ends 40 ms later, after 60 ms of computing. It has to
  ---end after a timer of 1 ms that is started then.
  local function ends_later(start, expected)
    local log = {}
    uv.update_time()
    support.compute(60)
    start(log)
    uv.update_time()
    local timer = uv.new_timer()
    timer:start(1, 0, function()
      timer:close()
      add(log, "timer")
    end)
    run_loop()
    assert.are.same({ "timer", expected }, log)
  end

  it("does not shorten the timeout of a wait", function()
    local b = barrier.new(2)
    ends_later(function(log)
      b:wait(40, listener(log, "w"))
    end, "w" .. timed_out(40, 1, 2))
  end)

  support.it_catches("does not shorten that of a coroutine", function()
    local b = barrier.new(2)
    ends_later(function(log)
      support.party(b, "w", log, 40)
    end, "w" .. timed_out(40, 1, 2))
  end)

  it("does not shorten that of a watcher", function()
    local b = barrier.new(2)
    ends_later(function(log)
      b:await_trip(40, listener(log, "t"))
    end, "t" .. timed_out(40, 0, 2))
  end)

  it("does not shorten the time of a phase", function()
    local b = barrier.new(2, { timeout = 40 })
    ends_later(function(log)
      b:wait(listener(log, "w"))
    end, "w BrokenBarrierError: barrier aborted: timed out after 40 ms, 1 of 2 had arrived")
    b:reset()
    ends_later(function(log)
      b:await_trip(listener(log, "t"))
      b:arrive()
    end, "t BrokenBarrierError: barrier aborted: timed out after 40 ms, 1 of 2 had arrived")
  end)

  it("does not shorten the time of a phase that starts when the blocked are let in", function()
    local log, timer = {}, uv.new_timer()
    local b = barrier.new(1, { timeout = 40 })
    b:await_trip(function() -- told just before the blocked are let in
      timer:start(61, 0, function()
        timer:close()
        add(log, "timer")
      end)
    end)
    b:wait(function()
      b:register()
      uv.update_time()
      support.compute(60)
    end)
    b:wait(listener(log, "blocked"))
    run_loop()
    assert.are.same({
      "timer",
      "blocked BrokenBarrierError: barrier aborted: timed out after 40 ms, 1 of 2 had arrived",
    }, log)
  end)
end)

describe("a clock of 32 bits", function()
  ---Runs code in a process of its own where uv.now() is a number of 32 bits with a sign, as
  ---where lua_Integer has no more of them, and `ms` from now goes over an edge.
  local function output_of(edge, code)
    local result = support.spawn(support.interpreter, { "-e", ([[
      local luv = require "luv"
      uv = {}
      for name, value in pairs(luv) do uv[name] = value end
      local start = luv.now()
      local tointeger = math.tointeger or function(n) return n end
      function uv.now()
        local now = (luv.now() - start + %.0f) %% 2 ^ 32
        return tointeger(now < 2 ^ 31 and now or now - 2 ^ 32)
      end
      package.loaded.luv = uv
      barrier = require "barrier"
      function listener(name)
        return function(err, position) print(name, tostring(err or position)) end
      end
    ]]):format(edge - 20) .. code }, { timeout = 10000 })
    assert.are.same({ 0, 0, "" }, { result.code, result.signal, result.err })
    return result.out
  end

  for name, edge in pairs { ["2^31"] = 2 ^ 31, ["2^32"] = 2 ^ 32 } do
    it("may wrap around, and timeouts still pass in order: at " .. name, function()
      local out = output_of(edge, [[
        local b = barrier.new(9)
        b:wait(60, listener "60")
        b:wait(10, listener "10")
        b:await_trip(3600000, listener "long")
        b:wait(30, listener "30")
        b:wait(3600000, listener "long")
        b:wait(5, function()
          print "5"
          b:wait(45, function()
            print "50"
            b:wait(20, function() print "70" b:reset() end)
          end)
        end)
        uv.run()
        print(uv.loop_alive())
      ]])
      -- Each line starts with the time of its wait.
      local function order(times)
        local list = {}
        for line in out:gmatch "[^\n]+" do
          local time = line:match "^%w+"
          if times:find(" " .. time .. " ", 1, true) then
            add(list, time)
          end
        end
        return table.concat(list, " ")
      end
      assert.are.equal("10 30 60 long long false", order " 10 30 60 long false ")
      assert.are.equal("5 50 70 long long false", order " 5 50 70 long false ")
      assert.are.equal(2, select(2, out:gsub("long\tBrokenBarrierError: barrier reset\n", "")))
    end)

    it("may wrap around during the time of a phase: at " .. name, function()
      assert.are.equal("w\tBrokenBarrierError: barrier aborted: timed out after 50 ms, "
        .. "1 of 2 had arrived\n", output_of(edge, [[
        local long = barrier.new(2, { timeout = 3600000 })
        long:wait(listener "long")
        local b = barrier.new(2, { timeout = 50 })
        b:wait(function(err)
          listener "w"(err)
          long:wait(function() end):close()
          os.exit(long.broken and 1 or 0, false)
        end)
        uv.run()
      ]]))
    end)

    it("may wrap around while nobody waits: at " .. name, function()
      assert.are.equal("1\tTimeoutError\n2\tTimeoutError\nfalse\n", output_of(edge, [[
        local b = barrier.new(2)
        b:wait(1, function(err) print(1, err.name) end)
        uv.run()
        local timer = uv.new_timer()
        timer:start(50, 0, function()
          timer:close()
          b:wait(3600000, function() end):close()
          b:wait(1, function(err) print(2, err.name) end)
        end)
        uv.run()
        print(uv.loop_alive())
      ]]))
    end)
  end
end)

describe("other code that stops or unrefs every handle", function()
  local STRANGERS = {
    ["stops"] = "h:stop()",
    ["unrefs"] = "h:unref()",
    ["stops and unrefs"] = "h:stop() h:unref()",
  }
  local PRELUDE = [[
    local function meddle()
      uv.walk(function(h) if not h:is_closing() then %s end end)
    end
    local function listener(name)
      return function(err, position) print(name, err and err.name or position) end
    end
  ]]

  for how, code in pairs(STRANGERS) do
    local prelude = PRELUDE:format(code)

    it("delays the waiters until the next trip of any barrier: it " .. how, function()
      for _, trip in ipairs {
        "local other = barrier.new(2) for i = 1, 2 do other:wait(listener('other ' .. i)) end",
        "local other = barrier.new(2) other:wait(listener 'other 1') coroutine.wrap(function()"
          .. " print('other 2', other:wait()) end)()",
      } do
        local out = support.output_of(prelude .. [[
          local b = barrier.new(2)
          b:wait(listener "left behind 1")
          b:wait(listener "left behind 2")
          meddle()
          uv.run()
          print "meddled"
        ]] .. trip .. [[
          uv.run()
          print(uv.loop_alive())
        ]])
        assert.is_truthy(out:find("^meddled\n"), out)
        for _, line in ipairs {
          "left behind 1\t0\n", "left behind 2\t1\n", "other 1\t0\n", "other 2\t1\n", "false\n",
        } do
          assert.is_truthy(out:find(line, 1, true), out)
        end
      end
    end)

    it("delays timeouts no longer than that: it " .. how, function()
      assert.are.equal("meddled\nother\t0\ntimed\tTimeoutError\nfalse\n",
        support.output_of(prelude .. [[
          local b = barrier.new(2)
          b:wait(20, listener "timed")
          meddle()
          uv.run()
          print "meddled"
          barrier.new(1):wait(listener "other")
          uv.run()
          print(uv.loop_alive())
        ]]))
    end)

    it("may do so while no party waits: it " .. how, function()
      assert.are.equal("first\t0\nsecond\t0\ntimed\tTimeoutError\n",
        support.output_of(prelude .. [[
          barrier.new(1):wait(listener "first")
          uv.run()
          meddle()
          barrier.new(1):wait(listener "second")
          uv.run()
          meddle()
          barrier.new(2):wait(1, listener "timed")
          uv.run()
        ]]))
    end)

    it("may do so in each of very many turns: it " .. how, function()
      assert.are.equal("3000\n", support.output_of(prelude .. [[
        local b, n = barrier.new(1), 0
        local function again()
          n = n + 1
          meddle()
          if n < 3000 then b:wait(again) end
        end
        b:wait(again)
        for _ = 1, 10 do uv.run() end
        print(n)
      ]]))
    end)
  end
end)

describe("an error whose __tostring fails", function()
  it("is reported with its traceback and with what failed", function()
    for _, failing in ipairs { "error 'in tostring'", "error('in tostring', 0)" } do
      for _, place in ipairs {
        "coroutine.wrap(function() b:wait() dying_place() end)()",
        "b:wait(function() dying_place() end)",
        "b:await_trip(function() dying_place() end)",
        "b:wait(function() end):close(function() dying_place() end)",
      } do
        local err, out = support.report_of([[
          local thrown = setmetatable({}, { __tostring = function() ]] .. failing .. [[ end })
          local function dying_place() error(thrown) end
          local b = barrier.new(2)
          ]] .. place .. [[
          for _ = 1, 2 do b:wait(function() print "goes on" end) end
          uv.run()
        ]])
        assert.is_truthy(out:find "^goes on\n", out)
        assert.is_truthy(err:find("in tostring", 1, true), err)
        assert.is_truthy(err:find("dying_place", 1, true), err)
      end
    end
  end)

  it("is reported the same way if it is that of schedule or an action", function()
    for _, code in ipairs {
      [[
        local b = barrier.new(1, { schedule = function() dying_place() end })
        b:wait(function() end)
      ]],
      [[
        local failing = false
        local b = barrier.new(1, { action = function() if failing then error(thrown) end end })
        b:wait(function() failing = true end)
        b:arrive()
        print "dying_place"
      ]],
    } do
      local err, out = support.report_of([[
        local thrown = setmetatable({}, { __tostring = function() error "in tostring" end })
        local function dying_place() error(thrown) end
      ]] .. code .. " uv.run()")
      assert.is_truthy(err:find("in tostring", 1, true), err)
      assert.is_truthy((err .. out):find("dying_place", 1, true), err)
    end
  end)
end)

describe("barrier.close", function()
  it("closes the handles of the module, so that the loop can be closed", function()
    local out = support.output_of [[
      local function handles()
        local n = 0
        uv.walk(function() n = n + 1 end)
        return n
      end
      local b = barrier.new(2)
      b:wait(1, function() end)
      uv.run()
      for _ = 1, 2 do b:wait(function() end) end
      uv.run()
      print(handles() > 0)
      print(barrier.close())
      uv.run()
      print(handles())
      print(uv.loop_close())
    ]]
    assert.is_truthy(out:find "^true\ntrue\n0\n0\n" or out:find "^true\ntrue\n0\ntrue\n", out)
  end)

  it("does nothing if there are no handles", function()
    assert.are.equal("0\n0\n", support.output_of [[
      local function print_handles()
        local n = 0
        uv.walk(function() n = n + 1 end)
        print(n)
      end
      barrier.close()
      barrier.close()
      print_handles()
      barrier.new(1):wait(function() end)
      barrier.close()
      barrier.close()
      uv.run()
      barrier.close()
      uv.run() -- luv 1.44 crashes at the end if it still has to call back about closed handles
      print_handles()
    ]])
  end)

  it("lets later waits make new ones", function()
    assert.are.equal("1\t0\n2\tTimeoutError\n3\t0\n", support.output_of [[
      local function listener(name)
        return function(err, position) print(name, err and err.name or position) end
      end
      barrier.new(1):wait(function() end)
      uv.run()
      barrier.close()
      barrier.new(1):wait(listener(1))
      uv.run()
      barrier.close()
      uv.run()
      barrier.new(2):wait(1, listener(2))
      uv.run()
      barrier.close()
      barrier.new(1):wait(listener(3))
      uv.run()
    ]])
  end)

  local function refusal(parties, timeouts)
    return ("nil\tcannot close: parties that have yet to be let out or notified: %d, timeouts "
      .. "that are yet to come: %d\n"):format(parties, timeouts)
  end

  it("closes nothing while a party has yet to be let out, or a timeout is yet to come", function()
    assert.are.equal(refusal(1, 0) .. refusal(2, 1) .. "party\t0\n" .. "timed\tTimeoutError\n"
      .. "true\nfalse\n", support.output_of [[
        local function listener(name)
          return function(err, position) print(name, err and err.name or position) end
        end
        local b = barrier.new(2)
        b:wait(listener "party")
        b:arrive()
        print(barrier.close())
        barrier.new(3):wait(10, listener "timed")
        barrier.new(2):wait(listener "never"):close(function() end)
        print(barrier.close())
        uv.run()
        print(barrier.close())
        uv.run()
        print(uv.loop_alive())
      ]])
  end)

  it("counts all parties that are on their way, however they leave", function()
    local ways = {
      { 2, "b:wait(nobody) b:wait(nobody)" },
      { 1, "b:await_trip(nobody) b:arrive() b:arrive()" },
      { 1, "b:wait(nobody) b:reset()" },
      { 2, "b:wait(nobody) b:await_trip(nobody) b:abort()" },
      { 1, "b:abort() b:wait(nobody)" },
      { 1, "local c = co(function() b:wait() end) b:cancel(c)" },
      { 3, "for _ = 1, 3 do b:wait(nobody) end" }, -- one is blocked
      { 0, "b:wait(nobody)" }, -- nothing that would need a handle
      { 0, "b:wait(nobody):close()" },
      { 0, "b:await_trip(nobody) b:arrive()" },
    }
    for _, way in ipairs(ways) do
      local expected = way[1] > 0 and refusal(way[1], 0) or "true\n"
      assert.are.equal(expected, support.output_of([[
        local function nobody() end
        local function co(f)
          local c = coroutine.create(f)
          coroutine.resume(c)
          return c
        end
        local b = barrier.new(2)
      ]] .. way[2] .. [[
        print(barrier.close())
        uv.run()
      ]]), way[2])
    end
  end)

  it("counts a party whose schedule has not called drain, and the timeout of a phase", function()
    assert.are.equal(refusal(1, 1) .. "passed\n" .. refusal(0, 1) .. "true\n", support.output_of [[
      local keep
      local b = barrier.new(1, { schedule = function(drain) keep = drain end })
      b:wait(function() print "passed" end)
      uv.run()
      local phase = barrier.new(2, { timeout = 1000000 })
      phase:arrive()
      print(barrier.close())
      keep()
      print(barrier.close())
      phase:reset()
      print(barrier.close())
      uv.run()
    ]])
  end)

  it("may be called in a turn: by the last party it closes the handles", function()
    assert.are.equal("1" .. refusal(2, 0):sub(4) .. "2" .. refusal(1, 0):sub(4)
      .. "3\tnil\nclosed\n4\t0\n", support.output_of [[
      local b = barrier.new(3)
      for i = 1, 3 do
        b:wait(function()
          print(i, (select(2, barrier.close())))
        end)
      end
      uv.run()
      print "closed"
      barrier.new(1):wait(function(_, position) print(4, position) end)
      uv.run()
    ]])
  end)

  support.it_in_c("closes the handle of shared barriers, unless somebody waits at one", function()
    assert.are.equal(refusal(1, 0) .. refusal(3, 1) .. "closed\npassed\npassed\ntrue\n0\n"
      .. "passed\n", support.output_of [[
        local function passed(err) print(err and err.name or "passed") end
        local b = barrier.shared("close", 2)
        b:wait(passed)
        print(barrier.close())
        b:wait(1000000, passed)
        b:wait(1000000, passed):close(function() print "closed" end)
        print(barrier.close())
        uv.run()
        print(barrier.close())
        uv.run()
        local n = 0
        uv.walk(function() n = n + 1 end)
        print(n)
        barrier.shared("again", 1):wait(passed)
        uv.run()
      ]])
  end)

  it("may be called by an action, and by schedule", function()
    assert.are.equal("1\n2\nend\n", support.output_of [[
      local b = barrier.new(2, { action = function() barrier.close() end })
      b:wait(1000000, function() print(1) end)
      b:wait(1000000, function() print(2) end)
      uv.run()
      b = barrier.new(1, { schedule = function(drain) barrier.close() drain() end })
      b:wait(function() print "end" end)
      uv.run()
    ]])
  end)
end)

describe("after a burst", function()
  it("a barrier gives its memory back once a small trip has followed", function()
    local out = support.output_of [[
      local function collect()
        if jit then jit.flush() end
        for _ = 1, 4 do collectgarbage() end
        return collectgarbage "count"
      end
      local function nobody() end
      local b = barrier.new(200001)
      local function fail()
        b:wait(nobody)
        b:reset()
        uv.run()
      end
      fail()
      local before = collect()
      for _ = 1, 200000 do b:wait(1000000, nobody) end
      local peak = collect()
      fail()
      fail()
      local after = collect()
      print(peak - before > 5000, after - before < 500, after - before)
    ]]
    assert.is_truthy(out:find "^true\ttrue\t", out)
  end)

  it("waiters() allocates no more than it returns", function()
    assert.are.equal("1\ttrue\n", support.output_of [[
      local b, waiters = barrier.new(100001), {}
      for i = 1, 100000 do waiters[i] = b:wait(function() end) end
      for i = 1, 100000 do
        if i ~= 50000 then waiters[i]:close() end
      end
      waiters = nil
      for _ = 1, 4 do collectgarbage() end
      b:waiters()
      collectgarbage "stop"
      local before = collectgarbage "count"
      local list = b:waiters()
      print(#list, collectgarbage "count" - before < 10)
    ]])
  end)

  it("barriers do not keep the memory of their peaks", function()
    if not uv.resident_set_memory() then
      pending "the process cannot tell how much memory it has: /proc is not mounted"
    end
    local out = support.output_of [[
      local function nobody() end
      local N = 100000
      local function fail(b, n)
        for _ = 1, n do b:wait(nobody) end
        b:reset()
        uv.run()
      end
      local barriers, memory = {}, {}
      for i = 1, 9 do
        barriers[i] = barrier.new(N + 1)
        fail(barriers[i], N)
        fail(barriers[i], 1)
        fail(barriers[i], 1)
        for _ = 1, 4 do collectgarbage() end
        memory[i] = uv.resident_set_memory()
      end
      -- From the third on there is no more than what the first two left to the allocator; six peaks
      -- that were kept would be twice as much.
      print(memory[9] - memory[3] < 24e6, memory[9] - memory[3])
      for i = 1, 9 do assert(#barriers[i]:waiters() == 0 and barriers[i]:arrive()) end
    ]]
    assert.is_truthy(out:find "^true\t", out)
  end)

  it("a barrier goes on as before", function()
    local b, log, order = barrier.new(30001), {}, 0
    for i = 1, 30000 do
      b:wait(1000000, function()
        order = order + 1
        assert.are.equal(order, i)
      end)
    end
    b:reset()
    run_loop()
    assert.are.equal(30000, order)
    for i = 1, 3 do
      b:wait(2 * i, listener(log, "timed " .. i))
    end
    b:wait(listener(log, "w"))
    assert.are.equal(4, #b:waiters())
    run_loop()
    assert.are.equal(3, #log)
    assert.are.equal(1, b.n_waiting)
    b:deregister(30000)
    run_loop()
    assert.are.equal("w 0", log[4])
  end)

  it("a barrier may grow and shrink again and again while some stay", function()
    local b, stay = barrier.new(100000), {}
    for round = 1, 20 do
      local list = {}
      for i = 1, round % 2 == 0 and 3000 or 100 do
        list[i] = b:wait(1000000, nobody)
      end
      stay[round] = table.remove(list, #list % 7 + 1)
      for i = 1, #list do
        list[i]:close()
      end
      assert.are.equal(round, b.n_waiting)
    end
    assert.are.same(stay, b:waiters())
    b:reset()
    run_loop()
    assert.are.same({}, b:waiters())
    assert.is_false(uv.loop_alive())
  end)
end)

describe("a copy that luv makes of a barrier or a Waiter for a thread", function()
  local it = support.it_in_c
  it("is not a barrier or a Waiter there: it raises errors, and nothing happens", function()
    assert.are.equal("thread\nmine\t1\n0\n1\n", support.output_of [[
      local b = barrier.new(2)
      local waiter = b:wait(function(_, position) print(position) end)
      local thread = uv.new_thread([=[
        local b, waiter
        b, waiter, package.path, package.cpath = ...
        local uv, barrier = require "luv", require "barrier"
        assert(type(b) == "userdata" and type(waiter) == "userdata")
        local mine = barrier.new(2)
        local my_waiter = mine:wait(function() end)
        local methods = {
          "wait", "with", "reset", "abort", "cancel", "waiters", "arrive", "register",
          "deregister", "await_trip",
        }
        local function try(copy, waiter_copy)
          for _, name in ipairs(methods) do
            for _, argument in ipairs { print, coroutine.create(function() end), 1, copy } do
              assert(not pcall(mine[name], copy, argument), name)
            end
            assert(not pcall(coroutine.wrap(function() mine[name](copy) end)), name)
          end
          assert(not pcall(my_waiter.close, waiter_copy))
          assert(not pcall(my_waiter.is_closing, waiter_copy))
          assert(not pcall(mine.reset, waiter_copy))
          assert(not pcall(my_waiter.close, copy))
        end
        try(b, waiter)
        -- Even with the very metatables it is none, also when it is collected.
        debug.setmetatable(b, debug.getmetatable(mine))
        debug.setmetatable(waiter, debug.getmetatable(my_waiter))
        try(b, waiter)
        pcall(tostring, b)
        pcall(tostring, waiter)
        pcall(function() return b.parties, b.state end)
        b, waiter = nil, nil
        collectgarbage()
        collectgarbage()
        io.write "thread\n"
        mine:wait(function(_, position) io.write("mine\t", position, "\n") end)
        uv.run()
      ]=], b, waiter, package.path, package.cpath)
      uv.thread_join(thread)
      assert(b.n_waiting == 1 and b.parties == 2 and #b:waiters() == 1)
      b:wait(function(_, position) print(position) end)
      uv.run()
    ]])
  end)
end)

describe("a copy that luv makes of", function()
  ---A copy of a userdata's bytes, through another thread's way.
  local function copy(value)
    local result, async
    async = uv.new_async(function(copied)
      async:close()
      result = copied
    end)
    if not debug.getmetatable(value) then
      debug.setmetatable(value, {}) -- luv 1.44 crashes without one
    end
    async:send(value)
    uv.run()
    return result
  end

  ---tostring without the metatable.
  local function address(value)
    local metatable = debug.getmetatable(value)
    debug.setmetatable(value, nil)
    local text = tostring(value)
    debug.setmetatable(value, metatable)
    return text
  end

  ---A copy of what `make` made that lies where that was before it was collected, and its
  ---metatable; nil if no copy has come to lie there.
  local function ghost(make)
    local original = make()
    local metatable, at = debug.getmetatable(original), address(original)
    local copies = { copy(original) }
    original = nil -- luacheck: ignore 311
    support.collect_garbage()
    for i = 2, 40 do
      copies[i] = copy(copies[1])
      if address(copies[i]) == at then
        return copies[i], metatable
      end
    end
  end

  local function ghosts(make, check)
    for _ = 1, 5 do
      local value, metatable = ghost(make)
      if value then
        debug.setmetatable(value, metatable)
        check(value)
        value = nil -- luacheck: ignore 311
      end
      support.collect_garbage()
    end
  end

  local function fails(f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    assert.is_truthy(message:find("expected, got userdata", 1, true), message)
  end

  it("a barrier is none, also where that was", function()
    local methods = barrier.new(1)
    local names = { "arrive", "register", "deregister", "reset", "abort", "waiters" }
    ghosts(function()
      local b = barrier.new(3)
      b:wait(nobody)
      return b
    end, function(value)
      for _, name in ipairs(names) do
        fails(methods[name], value)
      end
      fails(methods.wait, value, nobody)
      fails(methods.cancel, value, coroutine.create(nobody))
      fails(tostring, value)
      assert.is_nil(value.state)
    end)
  end)

  it("a barrier that was used a lot is none either", function()
    ghosts(function()
      local b = barrier.new(3)
      co(function()
        for _ = 1, 100 do
          b:wait()
        end
      end)
      for _ = 1, 100 do
        b:arrive(2)
        uv.run "nowait"
      end
      return b
    end, function(value)
      local wait = barrier.new(1).wait
      assert.is_false(coroutine.resume(coroutine.create(function()
        wait(value)
      end)))
      assert.is_nil(value.state)
    end)
  end)

  it("a Waiter is none", function()
    local other = barrier.new(2):wait(nobody)
    ghosts(function()
      return barrier.new(2):wait(nobody)
    end, function(value)
      fails(other.close, value)
      fails(other.close, value, nobody)
      fails(other.is_closing, value)
      fails(tostring, value)
    end)
    other:close()
  end)
end)
