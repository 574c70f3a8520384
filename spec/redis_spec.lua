-- barrier.redis: what it promises where nothing goes wrong on the way. redis_faults_spec.lua has
-- the rest.
local barrier = require "barrier"
local support = require "spec.support"
local redis = require "spec.redis_support"

local it_redis = redis.it

describe("barrier.redis", function()
  local server, open
  local count = 0

  setup(function()
    server = redis.has_redis and redis.server()
  end)

  teardown(function()
    if server then
      server:close()
    end
  end)

  before_each(function()
    open = {}
    count = count + 1
  end)

  after_each(function()
    redis.close_all(open)
  end)

  ---A member of the spec's own barrier.
  local function member(who, parties, options)
    local all = { url = server.url, ttl = 2000, member = who }
    for key, value in pairs(options or {}) do
      all[key] = value
    end
    local b = barrier.redis(all.name or "spec " .. count, parties, (function()
      all.name = nil
      return all
    end)())
    open[#open + 1] = b
    return b
  end

  local function close(b)
    for i = #open, 1, -1 do
      if open[i] == b then
        table.remove(open, i)
      end
    end
    b:close()
  end

  local function until_logged(log, n)
    redis.run_until(function()
      return #log >= n
    end, n .. " waits had ended; there were: " .. table.concat(log, "; "))
    table.sort(log)
    return log
  end

  ---Runs the loop until `b` has joined.
  local function joined(b)
    redis.run_until(function()
      return b.epoch ~= 0
    end, b.member .. " had joined")
    return b
  end

  ---Runs the loop until `b` hears that n have arrived.
  local function arrived(b, n)
    redis.run_until(function()
      return b.n_arrived == n
    end, n .. " had arrived")
  end

  it_redis("lets all pass once all have arrived, each with a position of its own", function()
    local log = {}
    local a, b, c = member("a", 3), member("b", 3), member("c", 3)
    for name, m in pairs { a = a, b = b, c = c } do
      m:wait(support.listener(log, name))
    end
    until_logged(log, 3)
    local positions = {}
    for i, line in ipairs(log) do
      positions[i] = line:match "%d$"
    end
    table.sort(positions)
    assert.are.same({ "0", "1", "2" }, positions)
    assert.are.same({ 1, 1, 1 }, { a.generation, b.generation, c.generation })
    assert.are.equal(a.epoch, c.epoch)
  end)

  it_redis("is met again and again, by coroutines", function()
    local log = {}
    for i = 1, 2 do
      local b = member("m" .. i, 2)
      support.co(function()
        for round = 1, 20 do
          local position = b:wait()
          assert(position == 0 or position == 1)
          assert(b.generation == round)
        end
        support.add(log, "m" .. i)
      end)
    end
    assert.are.same({ "m1", "m2" }, until_logged(log, 2))
  end)

  it_redis("suspends the last to arrive, too, and calls back from the loop only", function()
    local b, log = joined(member("a", 1)), {}
    b:wait(support.listener(log, "callback"))
    support.add(log, "returned")
    redis.run_until(function()
      return #log == 2
    end)
    assert.are.same({ "returned", "callback 0" }, log)
  end)

  it_redis("has properties as last heard, and none that can be assigned", function()
    local b = member("a", 3, { name = "properties" })
    assert.are.same({ 0, 0, false }, { b.generation, b.epoch, b.broken })
    b:wait(function() end)
    b:arrive()
    arrived(b, 2)
    assert.are.same({ "properties", "a", 3, 1, 2, false },
      { b.name, b.member, b.parties, b.n_waiting, b.n_arrived, b.broken })
    assert.is_true(b.epoch > 0)
    assert.is_nil(b.state)
    assert.are.equal('<barrier.Redis object "properties" of "a" [filling, arrived:2/3]>',
      tostring(b))
    assert.has_error(function()
      b.parties = 4
    end, "cannot assign to 'parties': the members of a barrier are read-only")
  end)

  it_redis("counts an arrival that does not wait, and says so later", function()
    local a, b, log = member("a", 2), member("b", 2), {}
    a:arrive(support.exact(log, "counted"))
    redis.run_until(function()
      return #log == 1
    end)
    b:wait(support.listener(log, "b"))
    until_logged(log, 2)
    assert.are.same({ "b 1", "counted 1 nil" }, log)
    a:arrive() -- the next phase
    b:wait(support.listener(log, "b"))
    until_logged(log, 3)
  end)

  it_redis("counts several waits of one object as several arrivals", function()
    local a, log = joined(member("a", 3, { ttl = 600000 })), {} -- no beat helps
    for i = 1, 3 do
      a:wait(support.listener(log, "wait " .. i))
      if i == 1 then
        arrived(a, 1)
        assert.are.equal(1, a.n_waiting)
      end
    end
    assert.are.same({ "wait 1 0", "wait 2 1", "wait 3 2" }, until_logged(log, 3))
  end)

  it_redis("names in a timeout what has joined since it was last heard", function()
    local a = joined(member("a", 3, { ttl = 600000 }))
    joined(member("b", 3))
    local timeout
    a:wait(20, function(err)
      timeout = err
    end)
    redis.run_until(function()
      return timeout
    end)
    assert.are.same({ "b" }, timeout.missing)
  end)

  it_redis("leaves after all that it has asked for", function()
    local a, b = joined(member("a", 700)), joined(member("b", 700))
    for _ = 1, 600 do
      a:wait(function() end)
    end
    arrived(a, 600)
    local reason
    b:wait(function(err)
      reason = err.reason
    end)
    a:abort "enough"
    close(a)
    redis.run_until(function()
      return reason
    end)
    assert.are.equal("enough", reason)
  end)

  it_redis("passes as many waits of one object as there may be", function()
    local a, seen, n = member("a", 1201), {}, 0
    local function callback(err, position)
      assert(not err, tostring(err))
      assert(not seen[position], "a position that is taken")
      seen[position], n = true, n + 1
    end
    for _ = 1, 1200 do
      a:wait(callback)
    end
    arrived(a, 1200)
    a:wait(callback)
    redis.run_until(function()
      return n == 1201
    end)
    assert.are.equal(1, a.generation)
  end)

  it_redis("times out with the names of those that are missing, and goes on", function()
    local a, b, log = member("a", 4, { ttl = 600 }), member("b", 4), {}
    joined(b)
    member("c", 4):wait(support.listener(log, "c"))
    arrived(joined(a), 1)
    local timeout
    a:wait(50, function(err)
      timeout = err
    end)
    redis.run_until(function()
      return timeout
    end)
    assert.are.equal(barrier.TimeoutError, getmetatable(timeout))
    assert.are.equal("wait timed out after 50 ms, 2 of 4 had arrived, missing: b; 1 seat is empty",
      timeout.message)
    assert.are.same({ 50, { "b" }, a, 0 },
      { timeout.timeout, timeout.missing, timeout.barrier, timeout.generation })
    arrived(a, 1)
    for _ = 1, 2 do
      a:wait(support.listener(log, "a"))
    end
    b:wait(support.listener(log, "b"))
    until_logged(log, 4)
    local positions = {}
    for i, line in ipairs(log) do
      positions[i] = line:match "%d$"
    end
    table.sort(positions)
    assert.are.same({ "0", "1", "2", "3" }, positions)
  end)

  it_redis("takes a coroutine out that is cancelled", function()
    local a, log = member("a", 2), {}
    local co = support.co(function()
      a:wait()
      support.add(log, "not reached")
    end)
    arrived(a, 1)
    assert.is_true(a:cancel(co))
    assert.is_false(a:cancel(co))
    arrived(a, 0)
    assert.are.equal("dead", coroutine.status(co))
    assert.are.same({}, log)
  end)

  support.it_catches("raises a CancelledError of its own", function()
    if not redis.has_redis then
      return pending "there is no redis-server"
    end
    local a, found = member("a", 2), nil
    local co = support.co(function()
      local _, err = pcall(a.wait, a)
      found = err
    end)
    arrived(a, 1)
    a:cancel(co)
    redis.run_until(function()
      return found
    end)
    assert.are.equal(barrier.CancelledError, getmetatable(found))
    assert.are.equal(a, found.barrier)
  end)

  support.it_closes("takes a coroutine out that is closed", function()
    if not redis.has_redis then
      return pending "there is no redis-server"
    end
    local a = member("a", 2, { ttl = 600 }) -- nothing says so, but it is seen within ttl / 3
    local co = support.co(function()
      a:wait()
    end)
    arrived(a, 1)
    assert(coroutine.close(co)) -- luacheck: ignore 143
    arrived(a, 0)
  end)

  it_redis("never calls back a Waiter that was closed", function()
    local a, log = member("a", 2), {}
    local waiter = a:wait(support.listener(log, "a"))
    assert.is_false(waiter:is_closing())
    arrived(a, 1)
    waiter:close(function()
      support.add(log, "closed")
    end)
    assert.is_true(waiter:is_closing())
    arrived(a, 0)
    assert.are.same({ "closed" }, log)
  end)

  it_redis("does not pass the others with a wait that could not suspend", function()
    local a, b, log = joined(member("a", 2)), member("b", 2), {}
    b:wait(support.listener(log, "b"))
    arrived(joined(b), 1)
    assert.has_error(function()
      a:wait()
    end)
    redis.run_for(30)
    assert.are.same({}, log)
    a:wait(support.listener(log, "a"))
    until_logged(log, 2)
    assert.are.same({ 1, 1 }, { a.generation, b.generation })
  end)

  it_redis("counts nobody whose wait could not suspend", function()
    local a = joined(member("a", 1))
    assert.has_error(function()
      a:wait()
    end)
    a:arrive()
    redis.run_for(30)
    assert.are.equal(0, a.n_arrived)
    local generation
    a:wait(function()
      generation = a.generation
    end)
    redis.run_until(function()
      return generation
    end)
    assert.are.equal(2, generation)
  end)

  it_redis("with passes the position on", function()
    local a, result = member("a", 1), nil
    support.co(function()
      result = a:with(function(position)
        return "at " .. position
      end)
    end)
    redis.run_until(function()
      return result
    end)
    assert.are.equal("at 0", result)
  end)

  -- {=== failing ===

  ---What a wait of each of these comes to.
  local function errors_of(members)
    local errors, left = {}, #members
    for i, b in ipairs(members) do
      b:wait(function(err)
        errors[i], left = err or "passed", left - 1
      end)
    end
    redis.run_until(function()
      return left == 0
    end, "all waits had failed")
    return errors
  end

  it_redis("fails all that wait, and will, once aborted, until it is reset", function()
    local a, b = joined(member("a", 9)), joined(member("b", 9))
    for _, reason in ipairs { "no space left\0 on \255", 2.5, false, true } do
      a:wait(function() end)
      a:abort(reason)
      a:abort "too late"
      for _, err in ipairs(errors_of { b, a, b }) do
        assert.are.equal(barrier.BrokenBarrierError, getmetatable(err))
        assert.are.equal("barrier aborted", err.message)
        assert.are.equal(reason, err.reason)
        assert.is_true(err.barrier == a or err.barrier == b)
      end
      assert.is_true(a.broken)
      assert.are.equal(a.generation, b.generation)
      a:reset()
      redis.run_until(function()
        return not a.broken
      end)
    end
    a:abort()
    local err = errors_of({ b })[1]
    assert.are.equal("BrokenBarrierError: barrier aborted", tostring(err))
    assert.is_nil(err.reason)
    a:reset()
  end)

  it_redis("fails all that wait when it is reset", function()
    local a, b, log = member("a", 3, { ttl = 600 }), member("b", 3), {}
    a:wait(support.listener(log, "a"))
    b:wait(support.listener(log, "b"))
    arrived(a, 2)
    joined(b):reset()
    local text = " BrokenBarrierError: barrier reset"
    assert.are.same({ "a" .. text, "b" .. text }, until_logged(log, 2))
    assert.are.same({ 1, 1 }, { a.generation, b.generation })
  end)

  it_redis("fails the generation when a member leaves, for a member that was busy, too", function()
    local a, b, c, log = member("a", 3), member("b", 3), member("c", 3), {}
    a:wait(support.listener(log, "a"))
    arrived(joined(a), 1)
    joined(b)
    close(joined(c))
    local text = " BrokenBarrierError: barrier broken: c has left"
    assert.are.same({ "a" .. text }, until_logged(log, 1))
    b:wait(support.listener(log, "b"))
    assert.are.same({ "a" .. text, "b" .. text }, until_logged(log, 2))
    assert.are.same({ 1, 1 }, { a.generation, b.generation })
    for i, m in ipairs { a, b, member("d", 3) } do
      m:wait(support.listener(log, "x" .. i))
    end
    until_logged(log, 5)
    assert.are.equal("x1", log[3]:match "^(x1) [012]$")
  end)

  it_redis("fails it when a member is restarted, and refuses the old one from then on", function()
    local a, old, log = member("a", 2), member("b", 2), {}
    a:wait(support.listener(log, "a"))
    arrived(joined(a), 1)
    joined(old)
    local new = joined(member("b", 2))
    assert.are.same({ "a BrokenBarrierError: barrier broken: b has been restarted" },
      until_logged(log, 1))
    for _ = 1, 2 do
      assert.are.equal("another process is b now", errors_of({ old })[1].reason)
    end
    a:wait(support.listener(log, "b1"))
    new:wait(support.listener(log, "b2"))
    until_logged(log, 3)
    assert.are.equal("b1", log[2]:match "^(b1) [01]$")
    new:close()
    redis.run_for(30)
    assert.are.equal("another process is b now", errors_of({ old })[1].reason)
  end)

  it_redis("refuses what does not belong", function()
    local a = joined(member("a", 2, { run = "17" }))
    local function reason(options, parties)
      return errors_of({ member("x", parties or 2, options) })[1].reason
    end
    assert.are.equal("parties is 2 for the others, not 3", reason({ run = "17" }, 3))
    assert.are.equal("run 17 is under way", reason { run = "18" })
    assert.are.equal("run 17 is under way", reason())
    local b = joined(member("b", 2, { run = "17" }))
    assert.are.equal("all 2 seats are taken", reason { run = "17" })
    close(b)
    assert.are.equal("b has left", errors_of({ a })[1].reason)
    close(a)
    redis.run_for(30)
    assert.are.equal("b has left", reason { run = "17" })
    assert.are.equal("passed", errors_of({ member("y", 1, { run = "18" }) })[1])
  end)

  it_redis("gives the run's end to a process that comes after it", function()
    local a = member("a", 1, { run = "1" })
    assert.are.equal("passed", errors_of({ a })[1])
    close(a)
    redis.run_for(30)
    assert.are.equal("run 1 is over", errors_of({ member("b", 1, { run = "1" }) })[1].reason)
  end)

  it_redis("lets a refused object try again", function()
    local a = joined(member("a", 1))
    local b = member("b", 1)
    assert.are.equal("all 1 seats are taken", errors_of({ b })[1].reason)
    close(a)
    redis.run_for(30)
    assert.are.equal("passed", errors_of({ b })[1])
  end)

  it_redis("fails all its waits when it is closed, then and later", function()
    local a, log = joined(member("a", 2)), {}
    a:wait(support.listener(log, "first"))
    a:close(function()
      support.add(log, "second: closed")
    end)
    a:wait(support.listener(log, "third"))
    local text = " BrokenBarrierError: barrier broken: the barrier is closed"
    assert.are.same({ "first" .. text, "second: closed", "third" .. text }, until_logged(log, 3))
    a:close(function()
      support.add(log, "zz closed again")
    end)
    until_logged(log, 4)
    local held = server:cli("hget", "barrier:{spec " .. count .. "}", "a")
    assert.are.equal("", (held:gsub("%s", "")))
  end)

  it_redis("does not count what waits after it was closed", function()
    local a, b, log = joined(member("a", 2)), member("b", 2), {}
    b:wait(support.listener(log, "b"))
    arrived(joined(b), 1)
    close(a)
    a:wait(support.listener(log, "a"))
    assert.are.same({
      "a BrokenBarrierError: barrier broken: the barrier is closed",
      "b BrokenBarrierError: barrier broken: a has left",
    }, until_logged(log, 2))
  end)

  -- }===

  it_redis("says in barrier.stuck() which members are missing, as last heard", function()
    local a = member("a", 3, { ttl = 300 })
    joined(member("b", 3))
    local line = debug.getinfo(1, "l").currentline + 1
    local waiter = a:wait(function() end)
    arrived(a, 1)
    redis.run_until(function()
      return (barrier.stuck(a) or ""):find "missing: b"
    end)
    assert.are.equal(
      '<barrier.Redis object "spec ' .. count .. '" of "a" [filling, arrived:1/3]>, missing: b; '
      .. "1 seat is empty\n  a callback waits: spec/redis_spec.lua:" .. line, barrier.stuck(a))
    waiter:close()
  end)

  it_redis("takes names with any bytes", function()
    for i, name in ipairs { "}", "a}b{c", "%7D", "\0\r\n$3", "\255" } do
      local a = member("a" .. name, 1, { name = name .. count })
      assert.are.equal("passed", errors_of({ a })[1], i)
      assert.are.equal(name .. count, a.name)
    end
  end)

  it_redis("keeps all its keys in one slot of a cluster, and lets them expire", function()
    local a = member("a", 2, { name = "a}b" .. count })
    a:wait(function() end)
    arrived(a, 1)
    local n = 0
    for key in server:cli("keys", "barrier:*a%7Db" .. count .. "*"):gmatch "[^\r\n]+" do
      n = n + 1
      assert.are.equal("a%7Db" .. count, key:match "{([^}]*)}")
      local left = tonumber(server:cli("pttl", key))
      assert.is_true(left > 0 and left <= 7200000, key .. left)
    end
    assert.are.equal(1, n)
  end)

  ---Runs a chunk of Lua in a process of its own.
  local function run(code)
    return redis.run_out(redis.lua({ NAME = "spec " .. count, URL = server.url }, "-e",
      'uv, barrier = require "luv", require "barrier" '
        .. 'NAME, URL = os.getenv "NAME", os.getenv "URL" ' .. code))
  end

  it_redis("does not keep the loop alive while nothing waits", function()
    local process = run([[
      local b = barrier.redis(NAME, 1, { url = URL })
      b:wait(function(err, position) print(err or position) end)
      uv.run()
      print "the loop has ended"
    ]])
    assert.are.same({ "0\nthe loop has ended\n", "", 0 },
      { process.out, process.err, process.code })
  end)

  it_redis("leaves no signal handler and no handle once it and the module are closed", function()
    local process = run [[
      local b = barrier.redis(NAME, 1, { url = URL })
      b:wait(function() b:close() end)
      uv.run()
      print(barrier.close())
      uv.run()
      print(uv.loop_close())
    ]]
    assert.are.same({ "true\n0\n", "" }, { process.out, process.err })
  end)

  it_redis("keeps the loop alive no longer once Redis has not answered", function()
    local process = run [[
      local b = barrier.redis(NAME, 2, { url = "redis://127.0.0.1:1", ttl = 100 })
      b:wait(10, function(err) print(err.name) end)
      b:arrive(function(err) print(err.name) end)
      b:abort()
      uv.run()
    ]]
    assert.are.same({ "TimeoutError\nBrokenBarrierError\n", "", 0 },
      { process.out, process.err, process.code })
  end)

  it_redis("outlives a connection that is lost under a write", function()
    local process = run [[
      local broken = 0
      local b = barrier.redis(NAME, 1, { url = URL, connect = function(callback)
        local fds = uv.pipe and uv.pipe({}, {})
        if not fds or broken > 0 then return callback "ECONNREFUSED" end
        broken = broken + 1
        local output = uv.new_pipe(false)
        output:open(fds.write)
        uv.fs_close(fds.read)
        callback(nil, {
          read_start = function() end,
          write = function(_, data) return output:write(data) end,
          close = function() output:close() end,
        })
      end })
      b:wait(100, function(err) print(err.name) end)
      uv.run()
    ]]
    assert.are.same({ "TimeoutError\n", "", 0 }, { process.out, process.err, process.code })
  end)

  it_redis("reports an error that no coroutine catches, and not that of a cancel", function()
    local process = run [[
      local b = barrier.redis(NAME, 2, { url = URL })
      coroutine.wrap(function() b:wait() end)()
      b:abort "no luck"
      uv.run()
    ]]
    assert.truthy(process.err:find("BrokenBarrierError: barrier aborted: no luck", 1, true))
    assert.are_not.equal(0, process.code)
  end)

  it_redis("is found under another name", function()
    local process = run [[
      for _, name in ipairs { "", ".await", ".redis", ".redis_script", ".redis_connection",
        ".redis_member" } do
        package.preload["vendor" .. name] = package.searchpath and function(...)
          return assert(loadfile(package.searchpath("barrier" .. name, package.path)))(...)
        end
      end
      package.loaded.vendor = barrier
      package.loaded["vendor.environment"] = require "barrier.environment"
      local new = (package.searchpath and require "vendor.redis" or require "barrier.redis").new
      new(NAME, 1, { url = URL }):wait(function(err, position) print(err or position) end)
      uv.run()
    ]]
    assert.are.same({ "0\n", "", 0 }, { process.out, process.err, process.code })
  end)

  describe("the example meet", function()
    local function meet(variables, ...)
      variables.REDIS_URL = variables.REDIS_URL or server.url
      return redis.lua(variables, "examples/meet.lua", ...)
    end

    it_redis("runs a program once all have come", function()
      local processes = {}
      for i = 1, 3 do
        processes[i] = meet({ MEMBER = "m" .. i }, "meet " .. count, "3", "--", "sh", "-c",
          "echo program; exit " .. i)
      end
      local positions = {}
      for i, process in ipairs(processes) do
        redis.run_out(process)
        assert.are.same({ "program\n", i }, { process.out, process.code })
        positions[i] = process.err:match "^meet.lua: all 3 are there, this is (%d)\n$"
      end
      table.sort(positions)
      assert.are.same({ "0", "1", "2" }, positions)
    end)

    it_redis("names the missing, with exit status 1", function()
      joined(member("absent", 3, { name = "meet " .. count }))
      local process = redis.run_out(meet({ TIMEOUT = "500" }, "meet " .. count, "3"))
      assert.are.same({
        "", 1, "meet.lua: wait timed out after 500 ms, 1 of 3 had arrived, missing: absent; "
          .. "1 seat is empty\n",
      }, { process.out, process.code, process.err })
    end)

    it_redis("refuses bad arguments", function()
      local usage = "meet.lua: usage: lua meet.lua NAME PARTIES [-- PROGRAM ARGS...]\n"
      for _, case in ipairs {
        { usage }, { usage, "x" }, { usage, "x", "y" }, { usage, "x", "1", "ls" },
        { usage, "x", "1", "--" },
        { "meet.lua: bad argument #2 to 'redis' (parties must be an integer >= 1 and < 2^31, "
          .. "got 0)\n", "x", "0" },
      } do
        local process = redis.run_out(meet({}, case[2], case[3], case[4]))
        assert.are.same({ case[1], 1 }, { process.err, process.code })
      end
      local process = redis.run_out(meet({ TIMEOUT = "-1" }, "x", "1"))
      assert.are.equal("meet.lua: TIMEOUT must be an integer >= 0, in milliseconds\n", process.err)
      process = redis.run_out(meet({}, "meet " .. count, "1", "--", "no-such-program"))
      assert.are.equal(1, process.code)
    end)
  end)

  describe("refuses bad input:", function()
    local FORMS = "url must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or "
      .. "unix://[[USER]:PASSWORD@]/PATH"
    for _, case in ipairs {
      { 1, "name must be a string, got nil", nil, 1 },
      { 1, "name must have 1 to 1000 bytes", "", 1 },
      { 1, "name must have 1 to 1000 bytes", ("x"):rep(1001), 1 },
      { 2, "parties must be an integer >= 1 and < 2^31, got nil", "x" },
      { 2, "parties must be an integer >= 1 and < 2^31, got 0", "x", 0 },
      { 2, "parties must be an integer >= 1 and < 2^31, got 1.5", "x", 1.5 },
      { 2, "parties must be an integer >= 1 and < 2^31, got string", "x", "3" },
      { 3, "options must be a table, got number", "x", 1, 7 },
      { 3, "unknown option 'hosts'; there are connect, member, run, ttl, url", "x", 1,
        { hosts = 1 } },
      { 3, "option 'ttl' must be an integer >= 100 and < 2^31, in milliseconds, got 99", "x", 1,
        { ttl = 99 } },
      { 3, "option 'ttl' must be an integer >= 100 and < 2^31, in milliseconds, got string", "x", 1,
        { ttl = "1" } },
      { 3, "option 'member' must be a string, got number", "x", 1, { member = 1 } },
      { 3, "option 'member' must have 1 to 1000 bytes", "x", 1, { member = "" } },
      { 3, "option 'run' must have 1 to 1000 bytes", "x", 1, { run = ("x"):rep(1001) } },
      { 3, "option 'connect' must be callable, got table", "x", 1, { connect = {} } },
      { 3, "option 'url' must be a string, got boolean", "x", 1, { url = true } },
      { 3, FORMS, "x", 1, { url = "http://secret" } },
      { 3, FORMS, "x", 1, { url = "redis://" } },
      { 3, FORMS, "x", 1, { url = "redis://secret@host" } },
      { 3, FORMS, "x", 1, { url = "redis://host:port" } },
      { 3, FORMS, "x", 1, { url = "redis://host/zero" } },
      { 3, FORMS, "x", 1, { url = "redis://host?db=1" } },
      { 3, FORMS, "x", 1, { url = "redis://::1" } },
      { 3, FORMS, "x", 1, { url = "unix://" } },
      { 3, FORMS .. "; for TLS see the option connect", "x", 1, { url = "rediss://host" } },
      { 3, "the port in url must be from 1 to 65535", "x", 1, { url = "redis://host:0" } },
      { 3, "the port in url must be from 1 to 65535", "x", 1, { url = "redis://host:65536" } },
      { 3, "the database in url must be an integer >= 0 and < 2^31", "x", 1,
        { url = "redis://host/2147483648" } },
    } do
      local what = type(case[5]) == "table" and case[5].url or case[3]
      it(case[2] .. " (" .. tostring(what):sub(1, 30) .. ")", function()
        local ok, err = pcall(barrier.redis, case[3], case[4], case[5])
        assert.is_false(ok)
        assert.are.equal(("bad argument #%d to 'redis' (%s)"):format(case[1], case[2]),
          (err:gsub("^[^ ]*:%d+: ", "")))
      end)
    end

    it_redis("of each method", function()
      local a = member("a", 2)
      for _, case in ipairs {
        { "bad argument #1 to 'wait' (timeout must be an integer >= 0, in milliseconds, got -1)",
          a.wait, a, -1 },
        { "bad argument #1 to 'wait' (timeout or callback expected, got table)", a.wait, a, {} },
        { "bad argument #2 to 'wait' (callback must be callable, got number)", a.wait, a, 1, 2 },
        { "bad argument #2 to 'wait' (nothing comes after the callback)", a.wait, a, print, 2 },
        { "bad argument #1 to 'arrive' (callback must be callable, got number)", a.arrive, a, 2 },
        { "bad argument #1 to 'close' (callback must be callable, got number)", a.close, a, 2 },
        { "bad argument #1 to 'with' (body must be callable, got nil)", a.with, a },
        { "bad argument #1 to 'cancel' (coroutine expected, got nil)", a.cancel, a },
        { "bad argument #1 to 'abort' (the reason goes to other processes: a string, number or "
          .. "boolean expected, got table)", a.abort, a, {} },
        { "bad argument #1 to 'abort' (the reason must have at most 10000 bytes, not 10001)",
          a.abort, a, ("x"):rep(10001) },
        { "calling 'wait' on bad self (redis barrier expected, got nil)", a.wait },
        { "calling 'reset' on bad self (redis barrier expected, got table)", a.reset, {} },
      } do
        local ok, err = pcall(case[2], case[3], case[4], case[5])
        assert.is_false(ok)
        assert.are.equal(case[1], (err:gsub("^[^ ]*:%d+: ", "")))
      end
    end)
  end)
end)
