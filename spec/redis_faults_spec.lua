-- barrier.redis when something goes wrong on the way: every member that learns what a generation
-- came to has to learn the same.
local uv = require "luv"
local barrier = require "barrier"
local redis = require "spec.redis_support"
local support = require "spec.support"

local unpack = table.unpack or unpack
local it_redis = redis.it

---`it` for what takes long.
local function it_thorough(name, f)
  redis.it(name, f, redis.thorough, "it runs under one Lua, or where REDIS_THOROUGH is set")
end

-- {=== connections with faults ===

---A `connect` whose stream asks `gate(direction, data, pass, cut)` about each piece.
local function gated(port, gate)
  return function(callback)
    local tcp = uv.new_tcp()
    tcp:connect(redis.LOOPBACK, port, function(err)
      if err then
        tcp:close()
        return callback(err)
      end
      local on_read
      local closed = false
      local function cut()
        if not closed then
          closed = true
          tcp:close()
          if on_read then
            on_read(nil, nil)
          end
        end
      end
      tcp:unref()
      callback(nil, {
        read_start = function(_, f)
          on_read = f
          tcp:read_start(function(_, data)
            if not data then
              cut()
            elseif not closed then
              gate("read", data, function(piece)
                if not closed then
                  f(nil, piece)
                end
              end, cut)
            end
          end)
        end,
        write = function(_, data)
          gate("write", data, function(piece)
            if not closed then
              tcp:write(piece)
            end
          end, cut)
        end,
        close = function()
          on_read = nil
          cut()
        end,
      })
    end)
  end
end

---The same, and `n` counts how often it was called.
local function counting(connect)
  local self = { n = 0 }
  function self.connect(callback)
    self.n = self.n + 1
    connect(callback)
  end
  return self
end

local GATES = {}

---The connection is lost at step k, once.
function GATES.cut(k)
  local step = 0
  return function(_, data, pass, cut)
    step = step + 1
    if step == k then
      cut()
    else
      pass(data)
    end
  end
end

---What is written at step k still arrives, or half of what is read.
function GATES.cut_after(k)
  local step = 0
  return function(direction, data, pass, cut)
    step = step + 1
    pass(step == k and direction == "read" and data:sub(1, math.floor(#data / 2)) or data)
    if step == k then
      cut()
    end
  end
end

---From step k on nothing passes, for longer than a lease; then everything does.
function GATES.stop(k)
  local step, held, released = 0, {}, false
  return function(_, data, pass)
    step = step + 1
    if step == k then
      local timer = uv.new_timer()
      timer:start(1000, 0, function()
        timer:close()
        released = true
        for _, f in ipairs(held) do
          f()
        end
      end)
    end
    if step < k or released then
      return pass(data)
    end
    held[#held + 1] = function()
      pass(data)
    end
  end
end

---From step k on nothing passes.
function GATES.kill(k)
  local step = 0
  local self
  self = {
    gate = function(_, data, pass)
      step = step + 1
      if step < k then
        pass(data)
      else
        self.dead = true
      end
    end,
  }
  return self.gate, self
end

-- }===

describe("barrier.redis, when something goes wrong:", function()
  local server, open
  local count = 0

  setup(function()
    server = redis.has_redis and redis.server { "--enable-debug-command", "yes" }
  end)

  teardown(function()
    if server then
      server:close()
    end
  end)

  before_each(function()
    open, count = {}, count + 1
  end)

  after_each(function()
    redis.close_all(open)
  end)

  ---Closes what is open, then the server.
  local function leave(other)
    redis.close_all(open)
    open = {}
    other:close()
  end

  local function member(who, parties, options, of)
    local all = { url = (of or server).url, ttl = 900, member = who }
    for key, value in pairs(options or {}) do
      all[key] = value
    end
    local b = barrier.redis("faults " .. count .. (all.run or ""), parties, all)
    open[#open + 1] = b
    return b
  end

  ---Waits until `b` has passed `rounds` times; failures in between are noted, too.
  local function rounds_of(b, rounds, checker, done)
    local passed = 0
    local function go()
      b:wait(checker:callback(b, function(err)
        passed = passed + (err and 0 or 1)
        if passed == rounds or checker.over then
          done()
        elseif err and err.reason == "the barrier is closed" then
          return -- with the spec
        elseif rounds == math.huge then
          local timer = uv.new_timer() -- a crowd takes its time
          timer:start(5, 0, function()
            timer:close()
            go()
          end)
        else
          go()
        end
      end))
    end
    go()
  end

  ---Three members in three rounds; the third one's connection has a fault.
  local function scenario(kind, k)
    local gate, state = GATES[kind](k)
    local self = { name = kind .. k, checker = redis.checker(3), done = 0, gate = state }
    local function finished()
      self.done = self.done + 1
    end
    for i, who in ipairs { "a", "b", "victim" } do
      local b = member(who, 3, {
        run = self.name, ttl = 600,
        connect = i == 3 and gated(server.port, gate) or nil,
      })
      self[who] = b
      rounds_of(b, 3, self.checker, finished)
    end
    return self
  end

  local function run_matrix(kind, last, expect_done)
    local scenarios = {}
    for k = 1, last do
      scenarios[k] = scenario(kind, k)
    end
    local function stuck()
      local names = {}
      for _, s in ipairs(scenarios) do
        if not expect_done(s) then
          names[#names + 1] = s.name .. " (" .. s.checker.passed .. " passed, " .. s.checker.failed
            .. " failed)"
        end
      end
      return table.concat(names, ", ")
    end
    local ok = pcall(redis.run_until, function()
      for _, s in ipairs(scenarios) do
        if not expect_done(s) then
          return false
        end
      end
      return true
    end, "done", 25000)
    assert(ok, "not done: " .. stuck())
    for _, s in ipairs(scenarios) do
      assert.are.same({}, s.checker.problems, s.name)
    end
    return scenarios
  end

  local function all_done(s)
    return s.done == 3
  end

  for _, kind in ipairs { "cut", "cut_after" } do
    it_redis("a connection that is lost at any step (" .. kind .. ") is made again, silently",
      function()
        for _, s in ipairs(run_matrix(kind, 16, all_done)) do
          assert.are.equal(0, s.checker.failed, s.name)
          assert.are.equal(9, s.checker.passed, s.name)
        end
      end)
  end

  it_redis("a member that is silent for too long, from any step on, is gone, and comes back",
    function()
      local failed = 0
      for _, s in ipairs(run_matrix("stop", 14, all_done)) do
        assert.are.equal(9, s.checker.passed, s.name)
        failed = failed + s.checker.failed
      end
      assert.is_true(failed > 0)
    end)

  it_redis("a member that dies at any step is named to the others", function()
    local named = 0
    local scenarios = run_matrix("kill", 14, function(s)
      -- The others go on until one of them knows, or have passed everything.
      if not s.checker.over and s.checker.failed > 0 then
        s.checker.over = true
      end
      return s.done >= 2 or s.checker.failed >= 2
        or s.gate.dead and s.victim.epoch == 0 -- it has never joined
    end)
    for _, s in ipairs(scenarios) do
      for _, outcome in pairs(s.checker.outcomes) do
        if outcome.word ~= "passed" then
          assert.are.equal("failed: barrier brokenvictim is gone", outcome.word, s.name)
          named = named + 1
        end
      end
    end
    assert.is_true(named >= 5)
  end)

  it_redis("a run that was killed as a whole keeps none of the next one out for long", function()
    local name, dead = "killed " .. count, {}
    local code = ([[
      local b = require "barrier".redis(%q, 2, { url = %q, ttl = 300, run = "1" })
      b:wait(function() print "met" end)
      require "luv".run()
      b:wait(function() end)
      require "luv".run()
    ]]):format(name, server.url)
    for i = 1, 2 do
      dead[i] = redis.lua({}, "-e", code)
    end
    redis.run_until(function()
      return dead[1].out == "met\n" and dead[2].out == "met\n"
    end)
    for i = 1, 2 do
      dead[i].process:kill "sigkill"
      redis.run_out(dead[i])
    end
    redis.run_for(600) -- longer than ttl
    local passed = 0
    for _, who in ipairs { "a", "b" } do
      local b = barrier.redis(name, 2, { url = server.url, member = who, ttl = 300, run = "2" })
      open[#open + 1] = b
      b:wait(function(err)
        assert(not err, tostring(err))
        passed = passed + 1
      end)
    end
    redis.run_until(function()
      return passed == 2
    end)
  end)

  it_redis("a member whose requests are slow learns the first reason, too", function()
    local is_slow = false
    local function slow(direction, data, pass)
      if direction == "read" or not is_slow then
        return pass(data)
      end
      local timer = uv.new_timer()
      timer:start(100, 0, function()
        timer:close()
        pass(data)
      end)
    end
    local a, b, c = member("a", 3, { connect = gated(server.port, slow) }), member("b", 3),
      member("c", 3)
    local reasons = {}
    for i, m in ipairs { a, b } do
      m:wait(function(err)
        reasons[i] = err.reason
        m:close() -- fails the next generation
      end)
    end
    redis.run_until(function()
      return a.n_arrived == 2 and c.epoch ~= 0
    end)
    is_slow = true
    c:close()
    redis.run_until(function()
      return reasons[1] and reasons[2]
    end)
    is_slow = false
    assert.are.same({ "c has left", "c has left" }, reasons)
  end)

  it_redis("a member whose calls are under way whenever its lease is due renews it", function()
    local held, written
    local function gate(direction, data, pass)
      if direction == "read" and held then
        held[#held + 1] = function()
          pass(data)
        end
        return
      end
      written = direction == "write" and data or written
      pass(data)
    end
    local connections = counting(gated(server.port, gate))
    local a = member("a", 3, { connect = connections.connect, ttl = 900 })
    redis.run_until(function()
      return a.epoch ~= 0
    end)
    held = {}
    a:wait(function() end)
    assert.truthy(written:find("\r\ncall ", 1, true))
    for _ = 1, 2 do
      redis.run_for(400) -- its timer has run
      local answers = held
      held, written = {}, nil
      for _, answer in ipairs(answers) do
        answer()
      end
      redis.run_until(function()
        return written
      end)
      assert.truthy(written:find("\r\nbeat ", 1, true))
      a:wait(function() end)
    end
    for _, answer in ipairs(held) do
      answer()
    end
    held = nil
    assert.are.equal(1, connections.n)
  end)

  it_redis("replies that come a byte at a time are understood", function()
    local checker, done = redis.checker(2), 0
    local function bytes(direction, data, pass)
      for i = 1, direction == "read" and #data or 1 do
        pass(direction == "read" and data:sub(i, i) or data)
      end
    end
    for _, who in ipairs { "a", "b" } do
      rounds_of(member(who, 2, { connect = gated(server.port, bytes) }), 5, checker, function()
        done = done + 1
      end)
    end
    redis.run_until(function()
      return done == 2
    end)
    assert.are.same({ {}, 10, 0 }, { checker.problems, checker.passed, checker.failed })
  end)

  -- {=== hostile peers ===

  local seed = 0
  local function random(n)
    seed = (seed * 1103515245 + 12345) % 2 ^ 31
    return math.floor(seed / 65536) % n
  end

  it_redis("replies with bytes that are wrong fail no other member, and raise nothing", function()
    local checker, done = redis.checker(2), 0
    for i = 1, 30 do
      seed = i
      local steps = 0
      local function damaged(direction, data, pass)
        steps = steps + 1
        if direction == "read" and steps < 40 and random(3) == 0 then
          local at = random(#data) + 1
          data = data:sub(1, at - 1) .. string.char(random(256)) .. data:sub(at + random(3))
        end
        pass(data)
      end
      -- Position and generation may be damaged, too: only that it does not break is checked.
      local b = member("damaged" .. i, 2, {
        run = tostring(i), connect = gated(server.port, damaged), ttl = 300,
      })
      local n = 0
      local function go()
        n = n + 1
        if n < 4 then
          b:wait(150, go)
        else
          done = done + 1
        end
      end
      go()
    end
    rounds_of(member("a", 1), 3, checker, function()
      done = done + 1
    end)
    redis.run_until(function()
      return done == 31
    end)
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
  end)

  local HOSTILE = {
    "$2147483648\r\n", "$-5\r\nx", "*2147483647\r\n", "*-2\r\n", "%99999999999999999999\r\n",
    "!9\r\n",
    ("*1\r\n"):rep(100), ("%1\r\n"):rep(9) .. "$1\r\na\r\n", ("|1\r\n+a\r\n+b\r\n"):rep(1000),
    "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", ("x"):rep(3000000), "+" .. ("x"):rep(3000000),
    "$1000000\r\n" .. ("x"):rep(3000000), ">3\r\n+message\r\n+x\r\n_\r\n",
    ":1\r\n:2\r\n:3\r\n:4\r\n",
    "-\r\n", "-MOVED 1 x\r\n", "_\r\n_\r\n_\r\n_\r\n", "", "(1\r\n#t\r\n=3\r\nabc\r\n",
    "+OK\r\n+OK\r\n+OK\r\n+sha\r\n",
  }

  ---An array as Redis sends it; what is no string is an array of an integer.
  local function array(items)
    local sent = { "*" .. #items .. "\r\n" }
    for i, item in ipairs(items) do
      sent[i + 1] = type(item) == "string" and "$" .. #item .. "\r\n" .. item .. "\r\n"
        or "*1\r\n:1\r\n"
    end
    return table.concat(sent)
  end

  local function message(text)
    return ">" .. array({ "message", "k", text }):sub(2)
  end

  ---What a peer sends that begins as Redis does: to the greeting, then to each call.
  local function answering(...)
    local pieces = { "%0\r\n+OK\r\n>1\r\n+subscribe\r\n$3\r\nsha\r\n" }
    for i, answer in ipairs { ... } do
      pieces[i + 1] = type(answer) == "string" and answer or array(answer)
    end
    return pieces
  end

  ---A peer that sends a client the pieces that `pieces_of(n)` returns for the n-th, one for each
  ---piece that the client sends.
  local function peer(pieces_of)
    local self = { n = 0, got = "" }
    local listener, clients = uv.new_tcp(), {}
    listener:bind(redis.LOOPBACK, 0)
    self.url = redis.LOOPBACK .. ":" .. listener:getsockname().port
    listener:listen(128, function()
      local client, step = uv.new_tcp(), 0
      listener:accept(client)
      self.n = self.n + 1
      clients[self.n] = client
      local pieces = pieces_of(self.n)
      client:read_start(function(_, got)
        step, self.got = step + 1, got or self.got
        if not got and not client:is_closing() then
          client:close()
        elseif got and pieces[step] then
          client:write(pieces[step])
        end
      end)
    end)
    function self.close()
      listener:close()
      for _, client in ipairs(clients) do
        if not client:is_closing() then
          client:close()
        end
      end
    end
    return self
  end

  local NINES = ("9"):rep(400)
  for _, data in ipairs {
    answering { "weird" }, answering { "refused" }, answering { "refused", 1 },
    answering { 1, 1, 1 }, answering {}, answering { "1 2 3" }, answering { "1 2 3 4 0" },
    answering { "1 2 " .. NINES .. " 4 0 6 7" }, answering { "1 2 3 4 0 6 7", 1, "a", 1 },
    answering({ "1 2 3 4 0 6 7", "a" }, { "1 2 3 4 0 6 7", "withdrawn" }),
    answering({ "1 2 3 4 0" }, { "1 2 3 4 0", "failed " .. NINES .. " " }),
    answering({ "1 2 3 4 0" }, { "1 2 3 4 0", "counted" }),
    answering({ "1 2 3 4 0" }, { "1 2 3 4 0", "counted " .. NINES .. " " .. NINES }),
    answering({ "1 2 3 4 0" }, { "1 2 " .. NINES .. " 4 0", "counted 2 0" }),
    answering({ "1 2 3 4 0" }, { "1 2 3 4 0", "counted 2 " .. NINES }),
    answering({ "1 2 3 4 0" }, { "1 2 3 4 0", 1 }), answering({ "1 2 3 4 0" }, { "1 2 3 4 0" }),
  } do
    HOSTILE[#HOSTILE + 1] = data
  end

  it_redis("a node of a cluster that says MOVED is left for the other", function()
    local node = peer(function()
      return answering("-MOVED 7 " .. redis.LOOPBACK .. ":" .. server.port .. "\r\n")
    end)
    local passed
    local b = member("a", 1, { url = "redis://" .. node.url })
    b:wait(function(err)
      passed = not err
    end)
    redis.run_until(function()
      return passed ~= nil
    end)
    assert.is_true(passed)
    assert.are.equal(1, node.n)
    node.close()
  end)

  it_redis("a peer that is no Redis, whatever it sends, only fails the waits", function()
    local hostile = peer(function(n)
      local data = HOSTILE[n % (2 * #HOSTILE) + 1]
      if data then
        return type(data) == "table" and data or { data }
      end
      seed = n
      local bytes = {}
      for i = 1, 200 do
        local at = random(10) + 1
        bytes[i] = random(2) == 0 and string.char(random(256)) or ("*$>%:+-\r\n1"):sub(at, at)
      end
      return { table.concat(bytes) }
    end)
    local failed, members = 0, 50
    for i = 1, members do
      local b = member("m" .. i, 2, { url = "redis://:hidden@" .. hostile.url, ttl = 100 })
      b:wait(function(err)
        assert(err, "it has passed")
        assert(tostring(b):find("m" .. i, 1, true))
        assert(not tostring(err):find("hidden", 1, true))
        failed = failed + 1
      end)
    end
    redis.run_until(function()
      return failed == members
    end, "all had failed")
    assert.is_true(hostile.n > #HOSTILE)
    hostile.close()
  end)

  it_redis("what is usual is told from what looks like it", function()
    local function counted(generation, position)
      return array { ("5 %d 1 1 0"):format(generation),
        ("counted %d %d"):format(generation, position) }
    end
    for i, case in ipairs {
      { counted(3, 1) .. message "5 3 ", "1 4" },
      { counted(4, 1) .. message "5 4 ", "1 5" }, -- the third has failed meanwhile
      { counted(3, 1) .. message "5 2 " .. message "5 3 ", "1 4" },
      { counted(3, 1) .. message "5 2 " .. message "5 3 sno",
        "BrokenBarrierError: barrier aborted: no 4" },
      { counted(4, 1) .. message "5 3 " .. message "5 4 sno",
        "BrokenBarrierError: barrier aborted: no 5" },
      { counted(3, 1) .. message "5 3 " .. message "5 3 ", "1 4" },
      { counted(3, 1) .. message "5 3 " .. message "5 1 ", "1 4" },
      { counted(3, 1) .. message "5 3 sno", "BrokenBarrierError: barrier aborted: no 4" },
      { counted(3, 1) .. message "5 3 s\r\n", "BrokenBarrierError: barrier aborted: \r\n 4" },
      -- These are no answers of Redis: it connects again.
      { counted(3, 1) .. counted(3, 1) },
      { array { "5 3 " .. ("1"):rep(31) .. " 1 0", "counted 3 1" } },
    } do
      local redis_like = peer(function()
        return answering({ "5 3 0 0 1 1 0" }, case[1], { "5 9 0 0 0", "passed 8 0" }, { "left" })
      end)
      local outcome, is_closed
      local b = member("a", 2, { url = "redis://" .. redis_like.url, ttl = 200000 })
      b:wait(function(err, position)
        outcome = tostring(err or position) .. " " .. b.generation
      end)
      redis.run_until(function()
        return outcome or not case[2] and redis_like.n > 1
      end, "case " .. i)
      assert.are.equal(case[2], outcome)
      if case[2] then
        assert.is_false(b.broken)
        local call = "\r\ncall 5 " .. case[2]:match "%d$" .. " "
        b:wait(function() end)
        redis.run_until(function()
          return redis_like.got:find(call, 1, true)
        end, "case " .. i .. " goes on")
      end
      b:close(function()
        is_closed = true
      end)
      redis.run_until(function()
        return is_closed
      end, "case " .. i .. " was closed")
      redis_like.close()
    end
  end)

  it_redis("what others have passed meanwhile a wait that is withdrawn has not", function()
    local redis_like = peer(function()
      return answering({ "5 3 0 0 0 1 0" }, { "5 3 1 1 0", "counted 3 0" },
        message "5 3 " .. array { "5 4 0 0 0 0 0", "withdrawn" }, { "left" })
    end)
    local outcome
    local b = member("a", 2, { url = "redis://" .. redis_like.url, ttl = 200000 })
    b:wait(20, function(err, position)
      outcome = err and err.name or position
    end)
    redis.run_until(function()
      return outcome
    end)
    assert.are.equal("TimeoutError", outcome)
    redis.close_all(open)
    open = {}
    redis_like.close()
  end)

  it_redis("a finalizer may wait at any instruction of another wait", function()
    local connections = counting(gated(server.port, function(_, data, pass)
      pass(data)
    end))
    local b = member("a", 2, { connect = connections.connect, ttl = 600000 })
    local k, is_inside = 0, true
    while is_inside do
      k = k + 1
      local got, n = {}, 0
      local function callback(err, position)
        got[#got + 1] = tostring(err or position)
      end
      debug.sethook(function() -- it stands in for the finalizer
        n = n + 1
        if n == k then
          debug.sethook()
          b:wait(callback)
        end
      end, "", 1)
      b:wait(callback)
      debug.sethook()
      is_inside = n >= k
      if not is_inside then
        b:wait(callback)
      end
      redis.run_until(function()
        return #got == 2
      end, "both had passed, with one at instruction " .. k)
      table.sort(got)
      assert.are.same({ "0", "1" }, got, "at instruction " .. k)
    end
    assert.is_true(k > 100)
    -- Between two instructions of Lua a hook may come in where a finalizer cannot.
    assert.is_true(connections.n < 4, connections.n)
  end, not rawget(_G, "jit"), "in LuaJIT there are more instructions than steps of a finalizer")

  it_redis("nothing is read after a refusal", function()
    local refusing = peer(function()
      return answering(array { "refused", "no" } .. "+OK\r\n")
    end)
    local reason
    member("a", 2, { url = "redis://" .. refusing.url }):wait(function(err)
      reason = err.reason
    end)
    redis.run_until(function()
      return reason
    end)
    redis.run_for(50) -- it would connect again by now
    assert.are.same({ "no", 1 }, { reason, refusing.n })
    refusing.close()
  end)

  it_redis("a stream may answer while it is written to", function()
    local on_read
    local pieces = answering(
      { "5 3 0 0 0 1 0" },
      { "5 4 0 0 0", "passed 3 0" },
      { "5 5 1 1 0", "counted 5 1" }, -- the fourth has failed
      { "5 7 0 0 0", "passed 6 0" },
      { "left" }
    )
    local b = member("a", 2, { ttl = 200000, connect = function(callback)
      callback(nil, {
        read_start = function(_, f)
          on_read = f
        end,
        write = function()
          on_read(nil, table.remove(pieces, 1))
        end,
        close = function() end,
      })
    end })
    local log = {}
    support.co(function()
      for _ = 1, 3 do
        support.add(log, b:wait() .. " " .. b.generation)
      end
    end)
    local timer = uv.new_timer()
    timer:start(1, 1, function()
      local read = b.n_arrived == 1 and on_read or function() end
      read(nil, message "5 5 ")
    end)
    redis.run_until(function()
      return #log == 3
    end)
    timer:close()
    assert.are.same({ "0 4", "1 6", "0 7" }, log)
  end)

  -- }===

  -- {=== a server with faults ===

  ---Members that meet until `stop` was called.
  local function crowd(n, options, of)
    local checker = redis.checker(n)
    local done = 0
    for i = 1, n do
      rounds_of(member("m" .. i, n, options, of), math.huge, checker, function()
        done = done + 1
      end)
    end
    return checker, function()
      local passed = checker.passed
      redis.run_until(function()
        return checker.passed >= passed + 3 * n
      end, "all went on meeting")
      checker.over = true
      redis.run_until(function()
        return checker.passed + checker.failed > passed and done > 0
      end)
      return checker
    end
  end

  local function killing(n, command, pause)
    for _ = 1, n do
      redis.run_for(pause)
      server:cli(unpack(command))
    end
  end

  it_redis("a storm of CLIENT KILL fails nothing", function()
    local checker, stop = crowd(12, { ttl = 3000 })
    killing(redis.thorough and 20 or 5, { "client", "kill", "type", "pubsub" }, 60)
    stop()
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
    assert.is_true(checker.passed > 50)
  end)

  it_redis("a server that is paused, or sleeps, for longer than a lease fails nothing", function()
    local checker, stop = crowd(4, { ttl = 600 })
    redis.run_for(50)
    server:cli("client", "pause", "900")
    redis.run_for(950)
    server:cli("debug", "sleep", "0.9")
    stop()
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
  end)

  it_redis("SCRIPT FLUSH fails nothing", function()
    local checker, stop = crowd(3)
    killing(5, { "script", "flush" }, 30)
    stop()
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
  end)

  it_redis("FLUSHALL fails the generation, and a new epoch begins", function()
    local a, b = member("a", 2), member("b", 2)
    local first
    a:wait(function(err)
      first = err
    end)
    redis.run_until(function()
      return a.n_arrived == 1 and b.epoch ~= 0
    end)
    local epoch = a.epoch
    server:cli "flushall"
    redis.run_until(function()
      return first
    end)
    assert.are.equal("Redis has lost the barrier", first.reason)
    assert.are.same({ 1, a.epoch }, { first.generation, first.epoch })
    assert.is_true(a.epoch > epoch)
    local reasons = {}
    b:wait(function(err)
      reasons[1] = err.reason
      for _, m in ipairs { a, b } do
        m:wait(function(problem)
          reasons[#reasons + 1] = problem or "passed"
        end)
      end
    end)
    redis.run_until(function()
      return reasons[3]
    end)
    assert.are.same({ "Redis has lost the barrier", "passed", "passed" }, reasons)
    assert.are.same({ 2, 2, a.epoch }, { a.generation, b.generation, b.epoch })
  end)

  ---Runs members at a server that is killed and started again.
  local function restarts(args, n, before_kill)
    local other = redis.server(args)
    local checker, stop = crowd(5, { ttl = 1500 }, other)
    for i = 1, n do
      redis.run_for(150)
      if before_kill then
        before_kill(other, i)
      end
      other:kill()
      redis.run_for(100)
      other:start()
    end
    stop()
    leave(other)
    return checker
  end

  it_thorough("a server with a synced log that is killed and comes back fails nothing", function()
    local checker = restarts({ "--appendonly", "yes", "--appendfsync", "always" }, 3)
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
  end)

  it_redis("a server that is empty after a restart fails the generation only", function()
    local checker = restarts({}, 2)
    assert.are.same({}, checker.problems)
    for _, outcome in pairs(checker.outcomes) do
      assert.truthy(outcome.word == "passed"
        or outcome.word == "failed: barrier brokenRedis has lost the barrier", outcome.word)
    end
    assert.is_true(checker.failed > 0)
  end)

  it_redis("an older snapshot fails the generation, and no number is used twice", function()
    local other = redis.server()
    local a, b = member("a", 2, nil, other), member("b", 2, nil, other)
    local checker, rounds = redis.checker(2), 0
    local function meet(n)
      local till = rounds + 2 * n
      for _, m in ipairs { a, b } do
        rounds_of(m, n, checker, function()
          rounds = rounds + n
        end)
      end
      redis.run_until(function()
        return rounds == till
      end)
    end
    meet(3)
    other:cli "save"
    meet(4)
    assert.are.same({ 7, 7, 0 }, { a.generation, b.generation, checker.failed })
    local epoch = a.epoch
    other:kill()
    other:start()
    meet(1)
    assert.are.same({ 9, 9, 2 }, { a.generation, b.generation, checker.failed })
    assert.are.same({}, checker.problems)
    assert.is_true(a.epoch > epoch)
    leave(other)
  end)

  it_redis("a snapshot without an arrival fails the generation", function()
    local other = redis.server()
    local a, b = member("a", 3, nil, other), member("b", 3, nil, other)
    redis.run_until(function()
      return a.epoch ~= 0 and b.epoch ~= 0
    end)
    other:cli "save"
    local reason
    a:wait(function(err)
      reason = err and err.reason or "passed"
    end)
    redis.run_until(function()
      return a.n_arrived == 1
    end)
    other:kill()
    other:start()
    redis.run_until(function()
      return reason
    end)
    assert.are.equal("Redis has lost the barrier", reason)
    leave(other)
  end)

  it_redis("a clock that jumps kills no member", function()
    local dir = assert(uv.fs_mkdtemp "/tmp/barrier-clock-XXXXXX")
    local cc = redis.start(os.getenv "CC" or "cc", { "-shared", "-fPIC", "-o", dir .. "/clock.so",
      "test/jumping_clock.c", "-ldl" }, { "PATH=" .. os.getenv "PATH" })
    if not cc or redis.run_out(cc).code ~= 0 then
      return pending "there is no C compiler that makes a library to be preloaded"
    end
    local other = redis.server({}, {
      "LD_PRELOAD=" .. dir .. "/clock.so", "JUMP=" .. dir .. "/jump",
    })
    local checker, stop = crowd(3, { ttl = 450 }, other)
    for _, seconds in ipairs { 3600, -3600, 1800 } do
      local file = assert(io.open(dir .. "/next", "w"))
      file:write(seconds)
      file:close()
      assert(os.rename(dir .. "/next", dir .. "/jump"))
      redis.run_for(250) -- longer than from one beat to the next
    end
    assert.is_true(math.abs(tonumber(other:cli("time"):match "%d+") - os.time() - 1800) < 600)
    stop()
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
    leave(other)
    redis.run_out(redis.start("rm", { "-r", dir }))
  end)

  -- }===

  ---Makes two network namespaces with a cable between them.
  local function with_network(f)
    local one, two = "barrier1-" .. uv.os_getpid(), "barrier2-" .. uv.os_getpid()
    local cable = "b" .. uv.os_getpid()
    local made = redis.run("ip", "netns", "add", one) and redis.run("ip", "netns", "add", two)
      and redis.run("ip", "-n", one, "link", "add", cable, "type", "veth", "peer", "name", cable,
        "netns", two)
    for i, namespace in ipairs { one, two } do
      made = made and redis.run("ip", "-n", namespace, "addr", "add", "10.213.77." .. i .. "/24",
        "dev", cable) and redis.run("ip", "-n", namespace, "link", "set", cable, "up")
        and redis.run("ip", "-n", namespace, "link", "set", "lo", "up")
    end
    local ok, problem = true, nil
    if made then
      ok, problem = pcall(f, one, two, function(state)
        assert(redis.run("ip", "-n", one, "link", "set", cable, state))
      end)
    end
    redis.run("ip", "netns", "del", two)
    redis.run("ip", "netns", "del", one)
    if not ok then
      error(problem, 0)
    end
    return made
  end

  it_thorough("a network that is cut names the member behind it, which comes back", function()
    local made = with_network(function(one, two, set)
      local dir = assert(uv.fs_mkdtemp "/tmp/barrier-net-XXXXXX")
      local other = redis.start("/usr/sbin/ip", {
        "netns", "exec", one, "redis-server", "--save", "", "--protected-mode", "no", "--dir", dir,
      }, { "PATH=" .. os.getenv "PATH" })
      local members = {}
      for i = 1, 3 do
        members[i] = redis.lua({ NETNS = i < 3 and one or two }, "test/redis_member.lua",
          "redis://10.213.77.1", "net", "3", "m" .. i, "1200")
      end
      local function until_printed(i, pattern, from)
        redis.run_until(function()
          return members[i].out:find(pattern, from)
        end, "m" .. i .. " printed " .. pattern .. ", but it printed " .. members[i].out:sub(-300))
      end
      for i = 1, 3 do
        until_printed(i, "/9 %d")
      end
      set "down" -- shorter than the lease: nobody hears of it
      redis.run_for(300)
      set "up"
      local from = #members[1].out + 1
      until_printed(1, "%d/%d+ %d\n", from)
      assert.is_nil(members[1].out:find "broken")
      set "down"
      for i = 1, 2 do
        until_printed(i, "barrier broken: m3 is gone")
      end
      set "up"
      until_printed(3, "barrier broken: m3 is gone")
      local lengths = {}
      for i = 1, 3 do
        lengths[i] = #members[i].out
      end
      for i = 1, 3 do
        until_printed(i, "%d/%d+ %d\n", lengths[i])
      end
      members[4] = other
      for _, process in ipairs(members) do
        process.process:kill "sigkill"
        redis.run_out(process)
      end
      redis.run("rm", "-r", dir)
    end)
    if not made then
      pending "no network namespaces can be made here: it needs root and ip"
    end
  end)

  it_thorough("a storm of killed, stopped and restarted processes and servers splits nothing",
    function()
      local storm = require "test.redis_storm"
      math.randomseed(20)
      local checker = storm(5, 4)
      assert.are.same({}, checker.problems)
      assert.is_true(checker.passed > 50)
    end)

  -- {=== getting in ===

  local function reason_of(b)
    local found
    b:wait(function(err)
      found = err and err.reason or "passed"
    end)
    redis.run_until(function()
      return found
    end)
    return found
  end

  ---The line of doc/redis.md.
  local COMMANDS
  for line in io.lines "doc/redis.md" do
    COMMANDS = COMMANDS or line:match "^ACL SETUSER .*&barrier:%* (%+.*)$"
  end

  it_redis("a user with no more rights than it needs can use it", function()
    local words = {
      "acl", "setuser", "app", "reset", "on", ">p:a@s%/s", "~barrier:*", "&barrier:*",
    }
    for word in COMMANDS:gmatch "%S+" do
      words[#words + 1] = word
    end
    assert.are.equal("OK\n", server:cli(unpack(words)))
    local url = "redis://app:p%3Aa%40s%25%2Fs@" .. redis.LOOPBACK .. ":" .. server.port
    local a, b = member("a", 2, { url = url, ttl = 300 }), member("b", 2, { url = url, ttl = 300 })
    local checker = redis.checker(2)
    local done = 0
    rounds_of(a, 3, checker, function() done = done + 1 end)
    rounds_of(b, 3, checker, function() done = done + 1 end)
    redis.run_until(function() return done == 2 end)
    -- Everything else that the script may come to.
    local timeout
    a:wait(10, function(err) timeout = err end)
    redis.run_until(function() return timeout end)
    assert.are.equal("TimeoutError", timeout.name)
    a:wait(10, function() end)
    a:abort "enough"
    a:reset()
    b:close()
    assert.truthy(("enough, b has left"):find(reason_of(a), 1, true))
    a:close()
    assert.are.same({}, checker.problems)
  end)

  it_redis("what is refused says where, and never shows the password", function()
    server:cli("acl", "setuser", "reader", "reset", "on", ">hidden", "~barrier:*", "&barrier:*",
      "+@all", "-evalsha")
    local place = redis.LOOPBACK .. ":" .. server.port
    local function with(login)
      return reason_of(member("a", 1, { url = "redis://" .. login .. "@" .. place }))
    end
    local wrong = with "reader:hidden2"
    assert.truthy(wrong:find "^WRONGPASS" and wrong:find(place, 1, true), wrong)
    local forbidden = with "reader:hidden"
    assert.truthy(forbidden:find "^NOPERM.*evalsha" and forbidden:find(place, 1, true), forbidden)
    assert.is_nil((wrong .. forbidden):find "hidden")
    server:cli("set", "barrier:{faults " .. count .. "}", "x")
    assert.are.equal(("WRONGTYPE: the key barrier:{faults %d} is something else in Redis: %s")
      :format(count, place), reason_of(member("a", 1)))
    local database = reason_of(member("a", 1, { url = server.url .. "/99" }))
    assert.truthy(database:find("out of range", 1, true))
    local unknown = reason_of(member("a", 1, { url = "redis://no-such-host.invalid:1234" }))
    assert.is_true(unknown == "no such host: no-such-host.invalid:1234"
      or unknown:find "no%-such%-host%.invalid:1234" ~= nil, unknown)
    local refused = reason_of(member("a", 1, {
      url = "redis://" .. redis.LOOPBACK .. ":1", ttl = 100,
    }))
    assert.are.equal("Redis has not answered for 300 ms (connection refused: 127.0.0.1:1)", refused)
  end)

  it_redis("a server with a password says so", function()
    local other = redis.server { "--requirepass", "hidden" }
    other.password = "hidden"
    local place = redis.LOOPBACK .. ":" .. other.port
    local denied = reason_of(member("a", 1, { url = "redis://" .. place }))
    assert.truthy(denied:find "^NOAUTH" and denied:find(place, 1, true), denied)
    local url = "redis://:hidden@" .. place .. "/3"
    assert.are.equal("passed", reason_of(member("a", 1, { url = url })))
    assert.are.equal("passed", reason_of(member("b", 1, {
      url = "unix://:hidden@" .. other.dir .. "/redis.sock",
    })))
    leave(other)
  end)

  ---The recipe of doc/redis.md.
  local function over_tls(port, certificate)
    return function(callback)
      local input, output = uv.new_pipe(false), uv.new_pipe(false)
      local process, problem
      process, problem = uv.spawn("openssl", {
        args = { "s_client", "-quiet", "-verify_return_error", "-CAfile", certificate, "-connect",
          "localhost:" .. port },
        stdio = { input, output, nil },
      }, function()
        process:close()
      end)
      if not process then
        return callback(problem)
      end
      callback(nil, {
        read_start = function(_, on_read) return output:read_start(on_read) end,
        write = function(_, data) return input:write(data) end,
        close = function()
          input:close()
          output:close()
          process:kill "sigterm"
        end,
      })
    end
  end

  it_redis("TLS through the pipes of openssl", function()
    local dir = assert(uv.fs_mkdtemp "/tmp/barrier-tls-XXXXXX")
    local made = redis.start("openssl", { "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
      "2", "-subj", "/CN=localhost", "-keyout", dir .. "/key", "-out", dir .. "/cert" },
      { "PATH=" .. os.getenv "PATH" })
    if not made or redis.run_out(made).code ~= 0 then
      return pending "there is no openssl"
    end
    local port = redis.free_port()
    local ok, other = pcall(redis.server, { "--tls-port", tostring(port), "--tls-cert-file",
      dir .. "/cert", "--tls-key-file", dir .. "/key", "--tls-auth-clients", "no" })
    if not ok then
      return pending "redis-server has no TLS"
    end
    local checker, stop = crowd(2, { connect = over_tls(port, dir .. "/cert"), ttl = 5000 }, other)
    stop()
    assert.are.same({ {}, 0 }, { checker.problems, checker.failed })
    leave(other)
    redis.run_out(redis.start("rm", { "-r", dir }))
  end, redis.has("openssl", "version"), "there is no openssl")

  -- }===
end)
