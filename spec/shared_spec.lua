-- One barrier for several loops: barrier.shared(name, parties).
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, party, run_loop = support.add, support.co, support.party, support.run_loop
local it_catches, it_closes, it_nests = support.it_catches, support.it_closes, support.it_nests
local it_on_unix, it_overflows = support.it_on_unix, support.it_overflows
local it = it -- luacheck: ignore 431
if support.implementation == "Lua" then
  it, it_catches, it_closes = support.it_in_c, support.it_in_c, support.it_in_c
  it_nests, it_on_unix, it_overflows = it, it, it
end

local used = 0

---A shared barrier that no other spec knows.
local function new(parties)
  used = used + 1
  return barrier.shared("spec " .. used, parties)
end

local function listener(log, name)
  return support.listener(log, name)
end

---True if the name is gone with all that refers to it: then it can have other parties.
local function is_gone(name)
  support.collect_garbage()
  return (pcall(barrier.shared, name, 1000))
end

describe("barrier.shared", function()
  it("is one barrier for each name", function()
    local b = barrier.shared("one", 2)
    assert.are.equal(b, barrier.shared("one", 2))
    assert.are_not.equal(b, barrier.shared("one\0", 2))
    assert.are.equal("one", b.name)
    assert.are.equal("one\0", barrier.shared("one\0", 2).name)
    assert.are.equal("", barrier.shared("", 2).name)
    b:arrive()
    assert.are.equal(1, b.n_arrived)
    for _, name in ipairs { "one\0", "on", "", "one\0more" } do
      assert.are.equal(0, barrier.shared(name, 2).n_arrived)
    end
    b:reset()
  end)

  it("takes 3.0 for an integer", function()
    assert.are.equal(3, barrier.shared("float", 3.0).parties)
  end)

  it("insists on one number of parties, and names both", function()
    local b = new(3)
    local ok, message = pcall(barrier.shared, b.name, 4)
    assert.is_false(ok)
    assert.are.equal("bad argument #2 to 'shared' (the barrier '" .. b.name
      .. "' has 3 parties, not 4)", message)
  end)

  it("checks its arguments", function()
    local function fails(expected, ...)
      local arguments, n = { ... }, select("#", ...)
      local ok, message = pcall(function()
        barrier.shared((unpack or table.unpack)(arguments, 1, n))
      end)
      assert.is_false(ok)
      assert.is_truthy(message:find("shared_spec.lua:", 1, true), message)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
    fails("bad argument #1 to 'shared' (name must be a string, got nil)")
    fails("bad argument #1 to 'shared' (name must be a string, got number)", 1, 2)
    local rule = "bad argument #2 to 'shared' (parties must be an integer >= 1 and < 2^31, got "
    fails(rule .. "nil)", "bad")
    fails(rule .. "string)", "bad", "2")
    fails(rule .. "0)", "bad", 0)
    fails(rule .. "1.5)", "bad", 1.5)
    fails(rule .. ("%s)"):format(2 ^ 31), "bad", 2 ^ 31)
    fails(rule, "bad", 0 / 0)
    fails(rule, "bad", 1 / 0)
  end)

  it("shows its state", function()
    local b = new(3)
    assert.are.equal('<barrier.Shared object "' .. b.name .. '" [filling, waiters:0/3]>',
      tostring(b))
    co(function() b:wait() end)
    assert.is_truthy(tostring(b):find("[filling, waiters:1/3]", 1, true))
    b:arrive()
    assert.is_truthy(tostring(b):find("[filling, waiters:1/3, arrived:2]", 1, true))
    assert.are.same({ 3, 1, 2, false, 0 }, { b.parties, b.n_waiting, b.n_arrived, b.broken,
      b.generation })
    b:arrive()
    assert.are.same({ 3, 0, 0, false, 1 }, { b.parties, b.n_waiting, b.n_arrived, b.broken,
      b.generation })
    b:abort()
    assert.is_truthy(tostring(b):find("[broken]", 1, true))
    assert.is_true(b.broken)
    run_loop()
  end)

  it("has no other members, and none that can be assigned", function()
    local b = new(1)
    assert.is_nil(b.unknown)
    assert.is_nil(b[1])
    for _, key in ipairs { "parties", "name", "wait", "unknown" } do
      local ok, message = pcall(function() b[key] = 1 end)
      assert.is_false(ok)
      assert.is_truthy(message:find("cannot assign to '" .. key .. "'", 1, true), message)
      assert.is_truthy(message:find("shared_spec.lua:", 1, true), message)
    end
  end)

  it("has methods that refuse another self", function()
    for _, name in ipairs { "wait", "arrive", "reset", "abort", "cancel" } do
      for _, self in ipairs { "text", barrier.new(2), {} } do
        local ok, message = pcall(function() new(1)[name](self) end)
        assert.is_false(ok)
        assert.is_truthy(message:find("calling '" .. name
          .. "' on bad self (shared barrier expected, got " .. type(self), 1, true), message)
      end
    end
  end)

  it("is no other barrier's self", function()
    local ok = pcall(barrier.new(2).reset, new(2))
    assert.is_false(ok)
  end)

  it("goes with all that refers to it", function()
    barrier.shared("going", 2)
    assert.is_true(is_gone "going")
  end)

  it("stays as long as a party has arrived", function()
    barrier.shared("staying", 2):arrive()
    assert.is_false(is_gone "staying")
    barrier.shared("staying", 2):arrive()
    assert.is_true(is_gone "staying")
  end)

  it("stays as long as a party waits", function()
    local log = {}
    party(barrier.shared("waiting", 2), "a", log)
    assert.is_false(is_gone "waiting")
    barrier.shared("waiting", 2):arrive()
    run_loop()
    assert.are.same({ "a 0" }, log)
    assert.is_true(is_gone "waiting")
  end)
end)

describe("wait of a shared barrier", function()
  it("lets the last arrival pass at once, and the others on a turn of the loop", function()
    local b, log = new(3), {}
    party(b, "a", log)
    b:wait(listener(log, "b"))
    party(b, "c", log)
    assert.are.same({ "c 2" }, log)
    run_loop()
    assert.are.same({ "c 2", "a 0", "b 1" }, log)
    assert.are.equal(1, b.generation)
  end)

  it("calls back from the loop alone, also for the last arrival", function()
    local b, log = new(1), {}
    local waiter = b:wait(listener(log, "a"))
    assert.are.same({}, log)
    assert.is_false(waiter:is_closing())
    run_loop()
    assert.are.same({ "a 0" }, log)
    assert.is_true(waiter:is_closing())
  end)

  it("lets one party pass alone", function()
    local b, log = new(1), {}
    co(function()
      for _ = 1, 3 do add(log, b:wait()) end
    end)
    assert.are.same({ 0, 0, 0 }, log)
  end)

  it("counts a party that arrives after the trip in the next phase at once", function()
    local b, log = new(2), {}
    party(b, "a", log)
    party(b, "b", log)
    party(b, "c", log)
    assert.are.equal(1, b.n_waiting)
    party(b, "d", log)
    assert.are.equal(2, b.generation)
    assert.are.same({ "b 1", "d 1" }, log)
    run_loop()
    assert.are.same({ "b 1", "d 1", "a 0", "c 0" }, log)
  end)

  it("gives out positions among the parties that wait", function()
    local b, log = new(4), {}
    b:arrive()
    party(b, "a", log)
    b:arrive()
    party(b, "b", log)
    assert.are.same({ "b 1" }, log)
    run_loop()
    assert.are.same({ "b 1", "a 0" }, log)
  end)

  it("serves in a turn what was ready when it began", function()
    local b, log = new(1), {}
    b:wait(function()
      add(log, "a")
      b:wait(listener(log, "late"))
    end)
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a", "b 0", "late 0" }, log)
  end)

  it("keeps the loop running for as long as a party waits", function()
    local b, log = new(2), {}
    party(b, "a", log)
    local timer = uv.new_timer()
    timer:start(20, 0, function()
      timer:close()
      b:arrive()
    end)
    uv.unref(timer)
    run_loop()
    assert.are.same({ "a 0" }, log)
    assert.is_false(uv.run("nowait"))
  end)

  it("does not starve the loop", function()
    local b, trips, stop = new(2), 0, false
    for _ = 1, 2 do
      co(function()
        while not stop do
          b:wait()
          trips = trips + 1
        end
        if b.n_waiting == 1 then b:arrive() end
      end)
    end
    local timer = uv.new_timer()
    timer:start(20, 0, function()
      stop = true
      timer:close()
    end)
    run_loop()
    assert.is_true(trips > 2)
  end)

  it("refuses bad arguments", function()
    local b = new(2)
    local function fails(expected, ...)
      local arguments, n = { ... }, select("#", ...)
      local ok, message = pcall(function() b:wait((unpack or table.unpack)(arguments, 1, n)) end)
      assert.is_false(ok)
      assert.is_truthy(message:find("shared_spec.lua:", 1, true), message)
      assert.is_truthy(message:find("bad argument " .. expected, 1, true), message)
    end
    local rule = "#1 to 'wait' (timeout must be an integer >= 0"
    fails(rule, -1)
    fails(rule, 0.5)
    fails(rule, 1 / 0)
    fails("#1 to 'wait' (timeout or callback expected, got string)", "1")
    fails("#2 to 'wait' (callback must be callable, got table)", 1, {})
    fails("#2 to 'wait' (nothing comes after the callback)", print, print)
    assert.are.equal(0, b.n_waiting)
  end)

  it("takes whatever is callable for a callback", function()
    local b, log = new(1), {}
    b:wait(setmetatable({}, { __call = function(_, _, position) add(log, position) end }))
    run_loop()
    assert.are.same({ 0 }, log)
  end)

  it("says where it cannot suspend, and changes nothing", function()
    local b = new(2)
    local function sort() table.sort({ 1, 2, 3 }, function() b:wait() end) end
    co(function()
      local ok, message = pcall(sort)
      assert.is_false(ok)
      assert.is_truthy(message:find("cannot wait here", 1, true), message)
    end)
    assert.are.equal(0, b.n_waiting)
    run_loop()
  end)

  it("says that the main chunk is no coroutine", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 1)
      print(pcall(b.wait, b))
      print(select(2, pcall(function() b:wait() end)))
    ]]
    assert.are.equal("", result.err)
    for line in result.out:gmatch "[^\n]+" do
      local found = line:find("cannot wait outside a coroutine; give wait a callback", 1, true)
      assert.is_truthy(found, line)
    end
  end)

  it("changes nothing where a metamethod is in the way of the yield", function()
    if _VERSION ~= "Lua 5.1" or jit then
      pending "only Lua 5.1 cannot yield there"
    end
    do
      local b = barrier.shared("metamethod", 2)
      local object = setmetatable({}, { __index = function() b:wait(10) end })
      local c = coroutine.create(function() return object.field end)
      local ok, message = coroutine.resume(c)
      assert.is_false(ok)
      assert.is_truthy(message:find("attempt to yield across metamethod", 1, true), message)
      assert.are.equal(0, b.n_waiting)
      run_loop()
      assert.is_false(b:cancel(c))
    end
    assert.is_true(is_gone "metamethod")
  end)

  it("yields nothing to the code that resumes the coroutine", function()
    local b = new(2)
    local c = coroutine.create(function() b:wait() end)
    assert.are.same({ true }, { coroutine.resume(c) })
    b:arrive()
    run_loop()
  end)
end)

describe("a timeout at a shared barrier", function()
  it_catches("takes out the party that waits", function()
    local b, log, err = new(3), {}, nil
    support.co(function()
      err = select(2, pcall(b.wait, b, 5))
      add(log, tostring(err))
      add(log, "n " .. b.n_waiting)
      b:arrive()
      b:arrive()
    end)
    party(b, "b", log)
    run_loop()
    assert.are.same({ "TimeoutError: wait timed out after 5 ms, 2 of 3 had arrived", "n 1", "b 0" },
      log)
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal(b, err.barrier)
  end)

  it("is passed to a callback", function()
    local b, log = new(2), {}
    b:wait(0, listener(log, "a"))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "a TimeoutError: wait timed out after 0 ms, 1 of 2 had arrived" }, log)
    assert.are.equal(0, b.n_arrived)
  end)

  it("counts from the call, even if the loop's clock is behind", function()
    local b, log = new(2), {}
    local timer = uv.new_timer()
    uv.update_time()
    timer:start(35, 0, function()
      timer:close()
      add(log, "timer")
    end)
    local now = uv.hrtime()
    while uv.hrtime() - now < 30e6 do end
    b:wait(20, function(err) add(log, err.name) end)
    run_loop()
    assert.are.same({ "timer", "TimeoutError" }, log)
  end)

  it("does not count any more after the trip", function()
    local b, log = new(2), {}
    b:wait(1, listener(log, "a"))
    b:arrive()
    local now = uv.hrtime()
    while uv.hrtime() - now < 5e6 do uv.update_time() end
    run_loop()
    assert.are.same({ "a 0" }, log)
  end)

  it("leaves no handle behind", function()
    local function count()
      local n = 0
      uv.walk(function(handle)
        if not uv.is_closing(handle) then n = n + 1 end
      end)
      return n
    end
    local b, log = new(2), {}
    b:wait(listener(log, "a"))
    b:arrive()
    run_loop()
    local before = count()
    b:wait(10000, listener(log, "b"))
    b:arrive()
    b:wait(1, listener(log, "c"))
    b:wait(10000, listener(log, "d")):close()
    run_loop()
    assert.are.equal(3, #log)
    assert.are.equal(before, count())
  end)
end)

describe("leaving a shared barrier", function()
  it_catches("cancel takes a waiting coroutine out", function()
    local b, log = new(3), {}
    local a = party(b, "a", log)
    party(b, "b", log)
    assert.is_false(new(3):cancel(a))
    assert.is_true(b:cancel(a))
    assert.is_false(b:cancel(a))
    assert.are.equal(1, b.n_waiting)
    assert.are.same({}, log)
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.same({ "a CancelledError: wait cancelled", "b 0" }, log)
    assert.are.equal(barrier.CancelledError, getmetatable(support.last_error))
    assert.is_false(b:cancel(a))
  end)

  it("cancel comes too late after the trip", function()
    local b, log = new(2), {}
    local a = party(b, "a", log)
    b:arrive()
    assert.is_false(b:cancel(a))
    run_loop()
    assert.are.same({ "a 0" }, log)
  end)

  it("cancel wants a coroutine", function()
    local b = new(2)
    local function fails(expected, value)
      local ok, message = pcall(function() b:cancel(value) end)
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #1 to 'cancel' (coroutine expected, got "
        .. expected, 1, true), message)
    end
    fails("nil)", nil)
    fails("string)", "a")
    local waiter = b:wait(print)
    fails("Waiter (it has a method close))", waiter)
    waiter:close()
    run_loop()
  end)

  it("a coroutine that dies of its cancellation is not reported", function()
    local b = new(2)
    local c = co(function() b:wait() end)
    b:cancel(c)
    run_loop()
    assert.are.equal("dead", coroutine.status(c))
  end)

  it_catches("a stranger's resume takes it out, and it is suspended again", function()
    local b, log = new(2), {}
    local a = party(b, "a", log)
    assert.are.same({ true }, { coroutine.resume(a, "values") })
    assert.are.equal("suspended", coroutine.status(a))
    assert.are.equal(0, b.n_waiting)
    assert.are.same({ true }, { coroutine.resume(a) })
    assert.is_false(b:cancel(a))
    run_loop()
    assert.are.same({ "a CancelledError: wait cancelled: resumed by somebody else" }, log)
  end)

  it("a stranger's resume changes nothing after the trip", function()
    local b, log = new(2), {}
    local a = party(b, "a", log)
    b:arrive()
    assert.are.same({ true }, { coroutine.resume(a) })
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "a 0" }, log)
  end)

  it_closes("coroutine.close is noticed at once", function()
    local b, log = new(3), {}
    local a = party(b, "a", log)
    party(b, "b", log)
    coroutine.close(a)
    assert.are.equal(1, b.n_waiting)
    b:arrive()
    b:arrive()
    run_loop()
    assert.are.same({ "b 0" }, log)
  end)

  it_closes("coroutine.close between the trip and its turn", function()
    local b, log = new(3), {}
    local a = party(b, "a", log)
    party(b, "b", log)
    b:arrive()
    coroutine.close(a)
    run_loop()
    assert.are.same({ "b 1" }, log)
  end)

  it("a Waiter that is closed is never called", function()
    local b, log = new(3), {}
    local waiter = b:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    waiter:close(function() add(log, "closed") end)
    assert.is_true(waiter:is_closing())
    assert.are.equal(1, b.n_waiting)
    waiter:close()
    waiter:close(function() add(log, "closed again") end)
    b:arrive()
    b:arrive()
    assert.are.same({}, log)
    run_loop()
    table.sort(log)
    assert.are.same({ "b 0", "closed", "closed again" }, log)
  end)

  it("a Waiter that is closed lets go of the barrier at once", function()
    barrier.shared("closing", 2):wait(print):close()
    assert.is_true(is_gone "closing")
    run_loop()
  end)

  it("a Waiter can be closed between the trip and its turn", function()
    local b, log = new(2), {}
    local waiter
    b:wait(function() waiter:close() end)
    waiter = b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({}, log)
    assert.is_true(waiter:is_closing())
  end)

  it("a Waiter checks what it is given", function()
    local b = new(2)
    local waiter = b:wait(print)
    local ok, message = pcall(function() waiter:close(1) end)
    assert.is_false(ok)
    local expected = "bad argument #1 to 'close' (on_close must be callable, got number)"
    assert.is_truthy(message:find(expected, 1, true), message)
    ok, message = pcall(function() waiter.close(b) end)
    assert.is_false(ok)
    assert.is_truthy(message:find("calling 'close' on bad self (Waiter expected, got userdata)", 1,
      true), message)
    assert.are.equal(1, b.n_waiting)
    waiter:close()
    run_loop()
  end)
end)

describe("reset and abort of a shared barrier", function()
  it("fail the parties that wait", function()
    local b, log, errors = new(3), {}, {}
    b:wait(function(err) add(log, tostring(err)) add(errors, err) end)
    b:arrive()
    b:reset()
    assert.are.equal(0, b.n_arrived)
    b:wait(function(err) add(log, tostring(err)) add(errors, err) end)
    b:abort("why")
    assert.are.equal(0, b.n_waiting)
    assert.is_true(b.broken)
    run_loop()
    assert.are.same({ "BrokenBarrierError: barrier reset",
      "BrokenBarrierError: barrier aborted: why" }, log)
    assert.are.equal(barrier.BrokenBarrierError, getmetatable(errors[1]))
    assert.are.equal("why", errors[2].reason)
    assert.are.equal(b, errors[2].barrier)
    assert.are.equal(0, b.generation)
  end)

  it("fail each party that waits or arrives at a broken barrier, until it is reset", function()
    local b, log = new(2), {}
    b:abort "first"
    b:abort "second"
    b:wait(listener(log, "a"))
    local arrived, err = b:arrive()
    assert.is_nil(arrived)
    assert.are.equal("BrokenBarrierError: barrier aborted: first", tostring(err))
    assert.are.same({}, log)
    b:reset()
    assert.is_false(b.broken)
    assert.is_true(b:arrive())
    b:abort "third"
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier aborted: first" }, log)
  end)

  it_catches("raise when the loop resumes a coroutine, even one that would pass", function()
    local b, log = new(1), {}
    b:abort()
    local a = party(b, "a", log)
    assert.are.same({}, log)
    assert.are.equal(0, b.n_waiting)
    assert.is_false(b:cancel(a))
    run_loop()
    assert.are.same({ "a BrokenBarrierError: barrier aborted" }, log)
    assert.is_nil(support.last_error.reason)
  end)

  it("change nothing for parties that a trip has let out", function()
    local b, log = new(2), {}
    b:wait(listener(log, "a"))
    b:wait(listener(log, "b"))
    b:reset()
    b:abort()
    run_loop()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("carry strings, numbers and booleans", function()
    local long = ("x"):rep(100000) .. "\0end"
    local values = { "", long, 1, 1.5, -1, true, false, 1 / 0, 2 ^ 53 }
    for i = 1, #values do
      local b, reason = new(2), {}
      b:wait(function(err) reason[1] = err.reason end)
      b:abort(values[i])
      run_loop()
      assert.are.equal(values[i], reason[1])
      assert.are.equal(math.type and math.type(values[i]), math.type and math.type(reason[1]))
    end
  end)

  it("need no reason", function()
    local b, log = new(2), {}
    b:wait(function(err) add(log, tostring(err)) add(log, tostring(err.reason)) end)
    b:abort()
    add(log, tostring(select(2, b:arrive())))
    run_loop()
    local message = "BrokenBarrierError: barrier aborted"
    assert.are.same({ message, message, "nil" }, log)
  end)

  it("refuse a reason that cannot travel", function()
    local b = new(2)
    for _, value in ipairs { {}, print, coroutine.create(function() end), b } do
      local ok, message = pcall(function() b:abort(value) end)
      assert.is_false(ok)
      assert.are.equal("bad argument #1 to 'abort' (the reason goes to other threads: a string, "
        .. "number or boolean expected, got " .. type(value) .. ")", message:match ": (.*)")
    end
    assert.is_false(b.broken)
  end)
end)

describe("the loop of a shared barrier's waiters", function()
  it_nests("can run inside a party that was let out", function()
    local b, log = new(3), {}
    b:wait(function()
      add(log, "a")
      uv.run()
      add(log, "a again")
    end)
    b:wait(listener(log, "b"))
    b:arrive()
    run_loop()
    assert.are.same({ "a", "b 1", "a again" }, log)
  end)

  it("survives other code that closes its handles", function()
    local b, log = new(2), {}
    b:wait(listener(log, "a"))
    uv.walk(function(handle)
      if not uv.is_closing(handle) then uv.close(handle) end
    end)
    run_loop()
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("survives other code that closes its handles when a party is ready", function()
    local b, log = new(2), {}
    b:wait(function(_, position)
      add(log, "a " .. position)
      b:arrive()
    end)
    b:arrive()
    uv.walk(function(handle)
      if not uv.is_closing(handle) then uv.close(handle) end
    end)
    b:wait(listener(log, "b"))
    run_loop()
    assert.are.same({ "a 0", "b 0" }, log)
  end)

  it("rests while nobody is ready", function()
    local b, log, turns = new(2), {}, 0
    b:wait(listener(log, "a"))
    b:arrive()
    run_loop()
    b:wait(listener(log, "b"))
    local check, timer = uv.new_check(), uv.new_timer()
    check:start(function() turns = turns + 1 end)
    timer:start(50, 0, function()
      check:close()
      timer:close()
      b:arrive()
    end)
    run_loop()
    assert.are.same({ "a 0", "b 0" }, log)
    assert.is_true(turns < 200, turns) -- a loop that doesn't takes many thousands
  end)

  it("takes no other function in the registry for luv's work", function()
    local result = support.chunk [[
      debug.getregistry().print = print
      local b = barrier.shared("x", 1)
      b:wait(print)
      uv.run()
    ]]
    assert.are.equal("", result.err)
    assert.are.equal("nil\t0\n", result.out)
  end)

  it_on_unix("hands no descriptor to other programs", function()
    local result = support.chunk [[
      local function count()
        local list = io.popen "ls /proc/self/fd 2>/dev/null"
        local n = 0
        for _ in list:lines() do n = n + 1 end
        list:close()
        return n
      end
      uv.run()
      local before = count()
      local b = barrier.shared("x", 2)
      b:wait(print)
      print(count() - before)
      b:arrive()
      uv.run()
    ]]
    assert.are.equal("", result.err)
    assert.are.equal("0\nnil\t0\n", result.out)
  end)

  it("reports what nobody catches, all of it", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 3)
      local function named() b:wait() error "first" end
      coroutine.wrap(named)()
      local object = setmetatable({}, { __tostring = function() return "second" end })
      b:wait(function() error(object) end)
      coroutine.wrap(function() b:wait() print "last" end)()
      print "before"
      uv.run()
    ]]
    assert.are.equal("last\nbefore\n", result.out)
    assert.is_truthy(result.err:find("first\nstack traceback:", 1, true), result.err)
    assert.is_truthy(result.err:find("in function '?<?[^\n]*named") or
      result.err:find("in function <", 1, true), result.err)
    assert.is_truthy(result.err:find("second\nstack traceback:", 1, true), result.err)
    assert.are_not.equal(0, result.code)
  end)

  it_catches("reports what a cancelled coroutine dies of, unless it is that", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 2)
      local c = coroutine.create(function()
        pcall(b.wait, b)
        error "another"
      end)
      coroutine.resume(c)
      b:cancel(c)
      uv.run()
    ]]
    assert.is_truthy(result.err:find("another\nstack traceback:", 1, true), result.err)
  end)

  it_closes("closes the pending variables of a coroutine that dies", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 2)
      coroutine.wrap(load [=[
        local b = ...
        local first <close> = setmetatable({}, { __close = function() error "in close" end })
        local second <close> = setmetatable({}, { __close = function() print "closed" end })
        b:wait()
        error "died"
      ]=])(b)
      b:arrive()
      uv.run()
    ]]
    assert.are.equal("closed\n", result.out)
    assert.is_truthy(result.err:find("died\nstack traceback:", 1, true), result.err)
    assert.is_truthy(result.err:find("in close\nstack traceback:", 1, true), result.err)
  end)

  it("does not run for a wait that failed to enter", function()
    for _, wait in ipairs {
      "pcall(b.wait, b, print)",
      "coroutine.resume(coroutine.create(function() b:wait() end))",
    } do
      local result = support.chunk([[
        uv.ref = function() error("no ref", 0) end
        require "barrier.core".bind(uv)
        local b = barrier.shared("x", 2)
        print(]] .. wait .. [[)
        uv.run()
        print(b.n_waiting)
      ]])
      assert.are.equal("", result.err)
      assert.are.equal("false\tno ref\n0\n", result.out)
    end
  end)

  it("reports the error of a broken barrier as text", function()
    local result = support.chunk [[
      local b = barrier.shared("x", 2)
      coroutine.wrap(function() b:wait() end)()
      b:abort "gone"
      uv.run()
    ]]
    assert.is_truthy(result.err:find("BrokenBarrierError: barrier aborted: gone\nstack traceback:",
      1, true), result.err)
  end)

  it("says what is missing where the loop cannot be woken, and changes nothing", function()
    local result = support.chunk [[
      local function fails(expected)
        local b = barrier.shared("x", 2)
        local ok, message = pcall(b.wait, b, print)
        assert(not ok and message:find(expected, 1, true), message)
        assert(b.n_waiting == 0)
        ok, message = coroutine.resume(coroutine.create(function() b:wait() end))
        assert(not ok and message:find(expected, 1, true), message)
        assert(b.n_waiting == 0)
      end
      local new = uv.new_poll and "new_poll" or "new_pipe"
      local real = uv[new]
      uv[new] = function() return nil, "EMFILE: too many open files", "EMFILE" end
      require "barrier.core".bind(uv)
      fails "cannot wait at a shared barrier: luv cannot wake this loop"
      fails "(EMFILE: too many open files)"
      uv[new] = nil
      require "barrier.core".bind(uv)
      fails("cannot wait at a shared barrier: this luv has no function " .. new)
      uv[new] = real
      require "barrier.core".bind(uv)
      local b = barrier.shared("x", 2)
      b:wait(print)
      b:arrive()
      uv.run()
    ]]
    assert.are.equal("", result.err)
    assert.are.equal("nil\t0\n", result.out)
  end)
end)

describe("a shared barrier where waiters have to be scheduled", function()
  local prelude = [[
    local queue, fast = {}, false
    local function schedule(f) queue[#queue + 1] = f end
    local function in_fast_event() return fast end
    local shared = require "barrier.core".make_shared(schedule, in_fast_event)
    local function run_queue()
      local now = queue
      queue = {}
      for i = 1, #now do now[i]() end
    end
    local function run_until_scheduled()
      repeat uv.run "nowait" until #queue > 0
    end
    local b = shared("x", 2)
    local function co(name)
      coroutine.wrap(function() print(name, b:wait()) end)()
    end
  ]]

  local function prints(expected, code)
    local result = support.chunk(prelude .. code)
    assert.are.equal("", result.err)
    assert.are.equal(expected, result.out)
  end

  it("schedules them, and lets them out then", function()
    prints("b\t1\nd\t1\nscheduled\na\t0\nc\t0\n0\n", [[
      co "a" co "b" co "c"
      run_until_scheduled()
      co "d"
      uv.run "nowait"
      print "scheduled"
      run_queue()
      uv.run()
      print(#queue)
    ]])
  end)

  it("suspends the last arrival in a fast event", function()
    prints("1\na\t0\nb\t1\n", [[
      fast = true
      co "a" co "b"
      print(b.generation)
      run_until_scheduled()
      run_queue()
    ]])
  end)

  it_nests("schedules the remaining parties when a waiter runs the loop", function()
    prints("a\nb\na again\n", [[
      b:wait(function()
        print "a"
        run_until_scheduled()
        run_queue()
        print "a again"
      end)
      b:wait(function() print "b" end)
      run_until_scheduled()
      run_queue()
    ]])
  end)

  it_overflows("puts a coroutine off that cannot be resumed", function()
    prints("first\t1\nin a full stack\n1\nb\t0\n", support.FULL_STACK .. [[
      co "b" co "first"
      run_until_scheduled()
      with_full_stack(run_queue)
      print "in a full stack"
      run_until_scheduled()
      print(#queue)
      run_queue()
      uv.run() -- nobody waits
    ]])
  end)

  it_closes("forgets one that was put off when it is closed", function()
    if not support.stack_fills then
      pending "this Lua resumes coroutines on a full C stack"
    end
    prints("1\ndone\n", support.FULL_STACK .. [[
      local c = coroutine.create(function() b:wait() end)
      coroutine.resume(c)
      b:arrive()
      run_until_scheduled()
      with_full_stack(run_queue)
      coroutine.close(c)
      run_until_scheduled()
      print(#queue)
      run_queue()
      uv.run()
      print "done"
    ]])
  end)

  it("schedules what a Waiter calls when it is closed", function()
    prints("1\nclosed\n", [[
      b:wait(print):close(function() print "closed" end)
      run_until_scheduled()
      print(#queue)
      run_queue()
    ]])
  end)
end)

-- {=== several threads ===

---Runs a chunk of Lua in a process of its own, where thread(code, ...) starts a thread with
---`uv`, `barrier` and what follows as `...`, and join(thread) waits for its end. All are joined
---at the end, and then the loop runs: see doc/portability.md. What the chunk printed.
local function threads(code)
  return support.output_of([[
    local prelude = 'package.path, package.cpath = ... '
      .. 'local uv, barrier = require "luv", require "barrier" '
      .. 'return (function(...) '
    local started = {}
    function thread(code, ...)
      local new = uv.new_thread(prelude .. code .. "\nend)(select(3, ...))", package.path,
        package.cpath, ...)
      started[new] = true
      return new
    end
    function join(one)
      one:join()
      started[one] = nil
    end
    function join_all()
      for one in pairs(started) do join(one) end
    end
  ]] .. code .. "\njoin_all()\nuv.run()\n")
end

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  table.sort(list)
  return list
end

describe("threads at a shared barrier", function()
  for _, n in ipairs { 2, 4, 8 } do
    it("pass " .. n .. " at a time, each trip with every position once", function()
      local out = threads(([[
        local n, trips = %d, 300
        local b = barrier.shared("x", n)
        for _ = 1, n do
          thread([=[
            local n, trips = ...
            local b, positions = barrier.shared("x", n), {}
            coroutine.wrap(function()
              for i = 1, trips do positions[i] = b:wait() end
              io.write(table.concat(positions, " ") .. "\n")
            end)()
            uv.run()
          ]=], n, trips)
        end
        join_all()
        io.write("generation ", b.generation, "\n")
      ]]):format(n))
      local all = lines(out)
      assert.are.equal("generation 300", table.remove(all))
      assert.are.equal(n, #all)
      local trips = {}
      for _, line in ipairs(all) do
        local i = 0
        for position in line:gmatch "%d+" do
          i = i + 1
          trips[i] = trips[i] or {}
          assert.is_nil(trips[i][position])
          trips[i][position] = true
          assert.is_true(tonumber(position) < n)
        end
        assert.are.equal(300, i)
      end
    end)
  end

  it("may each have several parties, in both styles", function()
    local out = threads [[
      local b = barrier.shared("x", 12)
      for _ = 1, 3 do
        thread [=[
          local b, sum = barrier.shared("x", 12), 0
          for _ = 1, 2 do
            coroutine.wrap(function()
              for _ = 1, 100 do
                local position = b:wait()
                sum = sum + position
              end
            end)()
          end
          local function again(i)
            b:wait(function(err, position)
              assert(not err, tostring(err))
              sum = sum + position
              if i < 100 then again(i + 1) end
            end)
          end
          again(1)
          again(1)
          uv.run()
          io.write(sum .. "\n")
        ]=]
      end
      join_all()
      io.write("generation ", b.generation, "\n")
    ]]
    local all, sum = lines(out), 0
    assert.are.equal("generation 100", table.remove(all))
    for _, line in ipairs(all) do sum = sum + tonumber(line) end
    assert.are.equal(100 * (12 * 11 / 2), sum)
  end)

  it("arrive without a loop of their own, and may end before the others come", function()
    local out = threads [[
      local b = barrier.shared("x", 3)
      coroutine.wrap(function() print("position", b:wait()) end)()
      for _ = 1, 2 do
        local t = thread [=[ barrier.shared("x", 3):arrive() ]=]
        join(t)
      end
    ]]
    assert.are.equal("position\t0\n", out)
  end)

  it("insist on one number of parties", function()
    local out = threads [[
      local b = barrier.shared("x", 2)
      thread [=[ print(select(2, pcall(barrier.shared, "x", 3))) ]=]
      join_all()
    ]]
    assert.are.equal("bad argument #2 to 'shared' (the barrier 'x' has 2 parties, not 3)\n",
      out)
  end)

  it("abort and reset for all, with a reason", function()
    local out = threads [[
      local b = barrier.shared("x", 4)
      for i = 1, 3 do
        thread([=[
          local i = ("%d"):format((...))
          local b = barrier.shared("x", 4)
          b:wait(function(err)
            io.write(i .. " " .. tostring(err) .. " " .. type(err.reason) .. "\n")
            while b.broken do end
            b:wait(function(err, position)
              io.write(i .. " " .. tostring(err or "passed") .. "\n")
            end)
          end)
          uv.run()
        ]=], i)
      end
      while b.n_waiting < 3 do end
      b:abort(42)
      b:reset()
      while b.n_waiting < 3 do end
      b:arrive()
    ]]
    local expected = {}
    for i = 1, 3 do
      add(expected, i .. " BrokenBarrierError: barrier aborted: 42 number")
      add(expected, i .. " passed")
    end
    table.sort(expected)
    assert.are.same(expected, lines(out))
  end)

  it("time out and cancel in their own", function()
    local out = threads [[
      local b = barrier.shared("x", 3)
      local t = thread [=[
        local b = barrier.shared("x", 3)
        b:wait(10, function(err) io.write(tostring(err), "\n") end)
        local c = coroutine.create(function() b:wait() end)
        coroutine.resume(c)
        assert(b:cancel(c))
        uv.run()
      ]=]
      join(t)
      print(b.n_waiting, b.n_arrived)
    ]]
    assert.are.equal("TimeoutError: wait timed out after 10 ms, 1 of 3 had arrived\n0\t0\n",
      out)
  end)

  it("take back their waiters when they end, but no arrival", function()
    local out = threads [[
      local b = barrier.shared("x", 4)
      local t = thread [=[
        local b = barrier.shared("x", 4)
        coroutine.wrap(function() b:wait() end)()
        b:wait(1000, print)
        b:arrive()
        io.write(b.n_waiting, " ", b.n_arrived, "\n")
      ]=]
      join(t)
      print(b.n_waiting, b.n_arrived)
    ]]
    assert.are.equal("2 3\n0\t1\n", out)
  end)

  it("may close a Waiter that another's arrival has let out; its position is used up", function()
    local out = threads [[
      local b = barrier.shared("x", 3)
      local waiter = b:wait(print)
      b:wait(function(_, position) print("other", position) end)
      join(thread [=[ barrier.shared("x", 3):arrive() ]=])
      waiter:close(function() print "closed" end)
      print(b.generation, b.n_waiting)
      uv.run()
    ]]
    assert.are.equal("1\t0\nclosed\nother\t1\n", out)
  end)

  it("let go of what finalizers get hold of while they end", function()
    local out = threads [[
      local t = thread [=[
        barrier.shared("x", 4)
        local b = barrier.shared("y", 4)
        local function finalize()
          barrier.shared("x", 4):arrive()
          barrier.shared("z", 4)
          b:wait(print)
          b:abort("x")
          b:wait(print)
          b:arrive()
        end
        if _VERSION == "Lua 5.1" then
          object = newproxy(true)
          getmetatable(object).__gc = finalize
        else
          object = setmetatable({}, { __gc = finalize })
        end
      ]=]
      join(t)
      print(barrier.shared("x", 4).n_arrived, barrier.shared("y", 2).parties,
        barrier.shared("z", 2).parties)
    ]]
    assert.are.equal("1\t2\t2\n", out) -- an arrival stays counted
  end)

  it("do nothing once they have let go", function()
    local out = threads [[
      local t = uv.new_thread([=[
        package.path, package.cpath = ...
        local barrier, b
        local function finalize()
          for _, f in ipairs {
            function() barrier.shared("x", 4):arrive() end,
            function() b:wait(print) end,
            function() b:arrive() end,
            function() late:arrive() end,
          } do
            local ok, message = pcall(f)
            io.write(ok and "quiet\n" or message .. "\n")
          end
        end
        if _VERSION == "Lua 5.1" then
          object = newproxy(true)
          getmetatable(object).__gc = finalize
        else
          object = setmetatable({}, { __gc = finalize })
        end
        barrier = require "barrier" -- is finalized before the object
        b = barrier.shared("x", 4)
        local function finalize_first() late = barrier.shared("y", 4) end
        if _VERSION == "Lua 5.1" then
          other = newproxy(true)
          getmetatable(other).__gc = finalize_first
        else
          other = setmetatable({}, { __gc = finalize_first })
        end
      ]=], package.path, package.cpath)
      join(t)
    ]]
    assert.are.equal(("quiet\n"):rep(4), out)
  end)

  it("let go of the name when the last of them ends", function()
    local out = threads [[
      local t = thread [=[
        barrier.shared("x", 4):wait(print)
        barrier.shared("y", 4):arrive()
        keep = barrier.shared("z", 4)
      ]=]
      join(t)
      print(barrier.shared("x", 2).parties, barrier.shared("y", 4).n_arrived,
        barrier.shared("z", 2).parties)
    ]]
    assert.are.equal("2\t1\t2\n", out)
  end)

  it("may end while others wake them", function()
    local out = threads [[
      local b = barrier.shared("x", 2)
      for i = 1, 100 do
        local t = thread [=[
          local b = barrier.shared("x", 2)
          b:wait(function() end)
        ]=]
        while b.n_waiting == 0 and b.generation < i do
          b:arrive() -- sometimes with the thread's wait, sometimes with the next
        end
        b:reset()
        join(t)
      end
      b:reset()
      print "done"
    ]]
    assert.are.equal("done\n", out)
  end)

  it("end with an error in a coroutine like others", function()
    local out = threads [[
      local b = barrier.shared("x", 3)
      local t = thread [=[
        local b = barrier.shared("x", 3)
        coroutine.resume(coroutine.create(function() b:wait() end))
        print(coroutine.resume(coroutine.create(function() b:arrive() error("died", 0) end)))
      ]=]
      join(t)
      print(b.n_arrived)
    ]]
    assert.are.equal("false\tdied\n1\n", out) -- the arrival stays, the waiter does not
  end)

  it("of uv.new_work arrive, and cannot wait", function()
    local out = threads [[
      local b = barrier.shared("x", 3)
      local work = uv.new_work([=[
        package.path, package.cpath = ...
        local barrier = require "barrier"
        local b = barrier.shared("x", 3)
        local ok, message = pcall(function() b:wait(print) end)
        local c = coroutine.create(function() b:wait() end)
        local ok2, message2 = coroutine.resume(c)
        b:arrive()
        collectgarbage()
        collectgarbage()
        return tostring(ok) .. " " .. message, tostring(ok2) .. " " .. message2
      ]=], function(...) print(...) end)
      for _ = 1, 2 do work:queue(package.path, package.cpath) end
      coroutine.wrap(function() print("position", b:wait()) end)()
      uv.run()
    ]]
    local count = 0
    for _ in out:gmatch "false [^\t\n]*cannot wait in a function of uv.new_work: no loop" do
      count = count + 1
    end
    assert.are.equal(4, count, out)
    assert.is_truthy(out:find("position\t0\n", 1, true), out)
  end)

  it("cannot be given a barrier: luv copies its bytes", function()
    local out = threads [[
      local b = barrier.shared("x", 2)
      local waiter = b:wait(print)
      thread([=[
        local copy, waiter = ...
        local b = barrier.shared("y", 2)
        for _, name in ipairs { "wait", "arrive", "reset", "abort", "cancel" } do
          print(select(2, pcall(b[name], copy)))
        end
        print(pcall(waiter and b:wait(print).close, waiter))
      ]=], b, waiter)
      join_all()
      waiter:close()
    ]]
    local _, count = out:gsub("on bad self %(", "")
    assert.are.equal(6, count, out)
  end)
end)

-- }===

describe("the example threads", function()
  it("computes with several threads what it does with one", function()
    local result = support.script("examples/threads.lua", { "4", "40", "25" })
    assert.are.equal("", result.err)
    assert.is_truthy(result.out:find(
      "^25 phases on 40 x 40 cells, 1 thread: %d+%.%d%d s\n4 threads: %d+%.%d%d s\n"
        .. "the results are equal\n$"), result.out)
    assert.are.equal(0, result.code)
  end)
end)
