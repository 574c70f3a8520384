-- examples/redis_rendezvous.lua: processes that meet through a Redis server of their own.
local uv = require "luv"
local support = require "spec.support"

local EXAMPLE = uv.cwd() .. "/examples/redis_rendezvous.lua"
local LOOPBACK = "127.0.0.1"
local unpack = table.unpack or unpack

---Runs the loop until `done()`; fails if that takes too long.
local function run_until(done, what)
  local late = false
  local watchdog = uv.new_timer()
  watchdog:start(30000, 0, function()
    late = true
  end)
  while not done() and not late do
    uv.run "once"
  end
  watchdog:close()
  assert(not late, "waited in vain until " .. what)
end

---Starts a program: its output so far is `out` and `err`. Once it has ended and its output is
---complete, `code` is its exit status, or the signal that ended it. Returns nil if there is no
---such program.
local function start(program, args, env)
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local self = { out = "", err = "" }
  local left = 3 -- the process and its two pipes
  local code
  local function done()
    left = left - 1
    self.code = left == 0 and code or nil
  end
  local function collect(pipe, key)
    pipe:read_start(function(_, data)
      if data then
        self[key] = self[key] .. data
      else
        pipe:close(done)
      end
    end)
  end
  self.process = uv.spawn(program, {
    args = args,
    env = env,
    stdio = { nil, out, err },
  }, function(status, signal)
    code = signal == 0 and status or "signal " .. signal
    self.process:close(done)
  end)
  if not self.process then
    out:close()
    err:close()
    return nil
  end
  collect(out, "out")
  collect(err, "err")
  return self
end

local function run_out(process)
  run_until(function()
    return process.code
  end, "a process ended; its output: " .. process.out .. process.err)
end

---Starts redis-server. It runs without what the specs preload into their Lua.
local function start_redis(...)
  return start("redis-server", { ... }, { "PATH=" .. (os.getenv "PATH" or "/usr/bin:/bin") })
end

local has_redis = (function()
  local version = start_redis "--version"
  if version then
    run_out(version)
  end
  return version and version.code == 0
end)()

---A port that nobody uses.
local function free_port()
  local socket = uv.new_tcp()
  assert(socket:bind(LOOPBACK, 0))
  local port = socket:getsockname().port
  socket:close()
  return port
end

local running -- every process that a spec has started
local handles -- what it has to close
local port

---Starts the example with these settings in its environment.
local function member(settings, ...)
  local variables = uv.os_environ()
  variables.LUA_PATH, variables.LUA_CPATH = package.path, package.cpath
  variables.REDIS_HOST, variables.TTL, variables.TIMEOUT = nil, nil, nil
  variables.REDIS_PORT = port
  for name, value in pairs(settings) do
    variables[name] = value
  end
  local env = {}
  for name, value in pairs(variables) do
    env[#env + 1] = name .. "=" .. value
  end
  local self = assert(start(support.interpreter, { EXAMPLE, ... }, env))
  running[#running + 1] = self
  return self
end

---Runs the loop until a member has joined a meeting.
local function join(...)
  local self = member(...)
  run_until(function()
    return self.out:find "^joined" or self.code
  end, "a member joined")
  assert.is_nil(self.code, self.out .. self.err)
  return self
end

---Expects that a process ends with this output and status.
local function ends(self, code, out, err)
  run_out(self)
  assert.are.equal(err or "", self.err)
  assert.are.equal(out, self.out)
  assert.are.equal(code, self.code)
end

local function joined(generation, position, parties)
  return ("joined generation %d, position %d of %d\n"):format(generation, position, parties)
end

---Who the others say a member is.
local function name_of(self)
  return uv.os_gethostname() .. ":" .. self.process:get_pid()
end

describe("the example redis_rendezvous", function()
  before_each(function()
    running, handles = {}, {}
  end)

  after_each(function()
    for _, process in ipairs(running) do
      if not process.code then
        process.process:kill "sigkill"
        run_out(process)
      end
    end
    for _, handle in ipairs(handles) do
      handle:close()
    end
    uv.run "nowait" -- closes them
  end)

  it("refuses bad arguments", function()
    local parties = "PARTIES must be an integer from 1 to 2147483647"
    local rounds = "ROUNDS must be an integer from 1 to 2147483647"
    local number = "the number of arguments must be an integer from 2 to 3"
    for _, case in ipairs {
      { number },
      { number, "name" },
      { number, "name", "2", "3", "4" },
      { parties, "name", "" },
      { parties, "name", "0" },
      { parties, "name", "-1" },
      { parties, "name", "2.5" },
      { parties, "name", "two" },
      { parties, "name", "2147483648" },
      { parties, "name", "99999999999999999999999" },
      { rounds, "name", "2", "0" },
      { rounds, "name", "2", "often" },
    } do
      local self = member({ REDIS_PORT = "1" }, unpack(case, 2))
      ends(self, 1, "", "usage: redis_rendezvous.lua NAME PARTIES [ROUNDS]\n" .. case[1] .. "\n")
    end
  end)

  it("refuses a bad environment", function()
    for name, max in pairs { REDIS_PORT = 65535, TTL = 2147483647, TIMEOUT = 2147483647 } do
      for _, value in ipairs { "0", "1e2", ("%.0f"):format(max + 1) } do
        local self = member({ REDIS_PORT = "1", [name] = value }, "name", "2")
        local rule = ("%s must be an integer from 1 to %d\n"):format(name, max)
        ends(self, 1, "", "usage: redis_rendezvous.lua NAME PARTIES [ROUNDS]\n" .. rule)
      end
    end
  end)

  it("says that there is no server", function()
    port = free_port()
    ends(member({}, "name", "2"), 1, ("broken: %s:%d: ECONNREFUSED\n"):format(LOOPBACK, port))
  end)

  it("says that there is no such host", function()
    local self = member({ REDIS_HOST = "no host", REDIS_PORT = "1" }, "name", "2")
    run_out(self)
    assert.is_truthy(self.out:find "^broken: no host:1: EAI_%u+\n$", self.out)
    assert.are.equal(1, self.code)
  end)

  ---Expects how a member ends whose server answers `answer` to whatever it is sent.
  local function answered(answer, code, out, settings)
    local server, client = uv.new_tcp(), uv.new_tcp()
    handles = { server, client }
    assert(server:bind(LOOPBACK, 0))
    server:listen(1, function()
      server:accept(client)
      client:read_start(function(_, data)
        if data and answer then
          client:write(answer)
          answer = nil
        end
      end)
    end)
    port = server:getsockname().port
    ends(member(settings or {}, "name", "2"), code, out)
  end

  it("says that the server is none of Redis", function()
    answered("HTTP/1.1 400 Bad Request\r\n\r\n", 1, "broken: HTTP/1.1 400 Bad Request\n")
  end)

  it("passes on the errors of Redis", function()
    answered("-NOAUTH a password is needed\r\n", 1, "broken: NOAUTH a password is needed\n")
  end)

  it("does not wait for a server that never answers", function()
    answered(nil, 1, "broken: Redis does not answer\n", { TTL = "60" })
  end)

  it("does not mind that its lease was renewed too late for a meeting that took place", function()
    local hello, arrived, renewed = "%0\r\n", "*2\r\n:7\r\n:0\r\n", ":0\r\n"
    local message = ">3\r\n$7\r\nmessage\r\n$2\r\nme\r\n$0\r\n\r\n"
    local out = joined(7, 0, 2) .. "everyone is there\n"
    answered(hello .. arrived .. message .. renewed, 0, out)
  end)

  if not has_redis then
    pending "meets through Redis: there is no redis-server"
    return
  end

  local dir, server

  ---Starts the server on `port`, and waits until it serves.
  local function start_server()
    local address = { "--bind", LOOPBACK, "--port", tostring(port) }
    -- With `save` it also saves what it has when it is stopped.
    server = assert(start_redis("--dir", dir, "--save", "3600 1", unpack(address)))
    run_until(function()
      return server.out:find("Ready to accept connections", 1, true) or server.code
    end, "the server is ready")
    assert.is_nil(server.code, server.out)
  end

  local function stop_server()
    server.process:kill "sigterm"
    run_out(server)
  end

  ---Sends the server a command, and returns its answer, of one line.
  local function command(line)
    local answer = ""
    local client = uv.new_tcp()
    client:connect(LOOPBACK, port, function(err)
      assert(not err, err)
      client:write(line .. "\r\n")
      client:read_start(function(_, data)
        answer = answer .. (data or "")
      end)
    end)
    run_until(function()
      return answer:find "\n$"
    end, "the server has answered")
    client:close()
    return answer
  end

  describe("with a server", function()
    before_each(function()
      dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
      port = free_port()
      start_server()
    end)

    after_each(function()
      if not server.code then
        server.process:kill "sigkill"
        run_out(server)
      end
      uv.fs_unlink(dir .. "/dump.rdb")
      assert(uv.fs_rmdir(dir))
    end)

    it("lets the members go on when all have arrived", function()
      local first = join({}, "name", "3")
      local second = join({}, "name", "3")
      -- Another meeting takes place meanwhile.
      local other = join({}, "other", "2")
      ends(member({}, "other", "2"), 0, joined(0, 1, 2) .. "everyone is there\n")
      ends(other, 0, joined(0, 0, 2) .. "everyone is there\n")
      assert.are.equal(joined(0, 0, 3), first.out)
      assert.are.equal(joined(0, 1, 3), second.out)

      local third = member({}, "name", "3")
      ends(third, 0, joined(0, 2, 3) .. "everyone is there\n")
      ends(first, 0, joined(0, 0, 3) .. "everyone is there\n")
      ends(second, 0, joined(0, 1, 3) .. "everyone is there\n")
    end)

    it("lets one party meet itself", function()
      local once = "joined generation %d, position 0 of 1\neveryone is there\n"
      ends(member({}, "a name\r\n", "1", "2"), 0, once:format(0) .. once:format(1))
      ends(member({}, "", "1"), 0, once:format(0))
    end)

    it("finds the server by name", function()
      local out = joined(0, 0, 1) .. "everyone is there\n"
      ends(member({ REDIS_HOST = "localhost" }, "name", "1"), 0, out)
    end)

    it("lets them meet again and again", function()
      local members, rounds = {}, 50
      for i = 1, 4 do
        members[i] = member({}, "name", "4", tostring(rounds))
      end
      local positions = {}
      for i = 1, 4 do
        run_out(members[i])
        assert.are.equal("", members[i].err)
        assert.are.equal(0, members[i].code)
        local round = 0
        for generation, position, rest in
          members[i].out:gmatch "joined generation (%d+), position (%d) of 4\n([^\n]*)\n"
        do
          assert.are.equal(tostring(round), generation)
          assert.are.equal("everyone is there", rest)
          positions[round .. " " .. position] = true
          round = round + 1
        end
        assert.are.equal(rounds, round)
      end
      for round = 0, rounds - 1 do
        for position = 0, 3 do
          assert.is_true(positions[round .. " " .. position], round .. " " .. position)
        end
      end
      -- Nothing is left behind but the number of meetings.
      assert.are.equal(":1\r\n", command "DBSIZE")
      assert.are.equal("$2\r\n50\r\n", command "HGET rendezvous:{name} generation")
    end)

    it("tells the others that a member was killed", function()
      local settings = { TTL = "1500" }
      local killed = join(settings, "name", "4")
      local second = join(settings, "name", "4")
      local third = join(settings, "name", "4")
      killed.process:kill "sigkill"
      local broken = "broken: " .. name_of(killed) .. " is gone\n"
      ends(second, 1, joined(0, 1, 4) .. broken)
      ends(third, 1, joined(0, 2, 4) .. broken)
    end)

    it("notices a closed connection before the lease ends", function()
      local killed = join({ TTL = "1000000" }, "name", "3")
      local other = join({ TTL = "1500" }, "name", "3")
      killed.process:kill "sigkill"
      ends(other, 1, joined(0, 1, 3) .. "broken: " .. name_of(killed) .. " is gone\n")
    end)

    it("does not count a member that was killed before the others came", function()
      local killed = join({ TTL = "1000000" }, "name", "3")
      killed.process:kill "sigkill"
      run_out(killed)
      local first = join({}, "name", "3")
      local second = join({}, "name", "3")
      ends(member({}, "name", "3"), 0, joined(1, 2, 3) .. "everyone is there\n")
      ends(first, 0, joined(1, 0, 3) .. "everyone is there\n")
      ends(second, 0, joined(1, 1, 3) .. "everyone is there\n")
    end)

    it("tells the others, and a member itself, that its lease has ended", function()
      local stopped = join({ TTL = "1500" }, "name", "3")
      local other = join({ TTL = "1500" }, "name", "3")
      stopped.process:kill "sigstop"
      local broken = "broken: " .. name_of(stopped) .. " is gone\n"
      ends(other, 1, joined(0, 1, 3) .. broken)
      stopped.process:kill "sigcont"
      ends(stopped, 1, joined(0, 0, 3) .. broken)
    end)

    it("tells the others that a member has given up", function()
      local other = join({ TTL = "1500" }, "name", "3")
      local hasty = join({ TIMEOUT = "2000" }, "name", "3")
      ends(hasty, 1, joined(0, 1, 3) .. "broken: not all came within 2000 ms\n")
      ends(other, 1, joined(0, 0, 3) .. "broken: " .. name_of(hasty) .. " is gone\n")
    end)

    it("refuses another number of parties, and the others go on", function()
      local first = join({}, "name", "3")
      local second = join({}, "name", "3")
      ends(member({}, "name", "2"), 1, "broken: PARTIES is 3 for the others, not 2\n")
      ends(member({}, "name", "4"), 1, "broken: PARTIES is 3 for the others, not 4\n")
      ends(member({}, "name", "3"), 0, joined(0, 2, 3) .. "everyone is there\n")
      ends(first, 0, joined(0, 0, 3) .. "everyone is there\n")
      ends(second, 0, joined(0, 1, 3) .. "everyone is there\n")
      -- The next meeting may be of another size.
      ends(member({}, "name", "1"), 0, joined(1, 0, 1) .. "everyone is there\n")
    end)

    it("says that the server has stopped, and works when it has started again", function()
      local first = join({ TTL = "1000000" }, "name", "3")
      local second = join({ TTL = "1000000" }, "name", "3")
      stop_server()
      for i, self in ipairs { first, second } do
        run_out(self)
        local lost = self.out:match "\nbroken: lost the connection to Redis: (.*)\n$"
        assert.is_truthy(lost == "closed" or lost == "ECONNRESET", self.out)
        assert.are.equal(joined(0, i - 1, 3), self.out:match "^[^\n]*\n")
        assert.are.equal(1, self.code)
      end
      start_server()
      -- It still has the two, with their leases, and knows that they are gone.
      assert.are.equal(":2\r\n", command "ZCARD rendezvous:{name}:0")
      first = join({}, "name", "3")
      second = join({}, "name", "3")
      ends(member({}, "name", "3"), 0, joined(1, 2, 3) .. "everyone is there\n")
      ends(first, 0, joined(1, 0, 3) .. "everyone is there\n")
      ends(second, 0, joined(1, 1, 3) .. "everyone is there\n")
    end)

    it("says that the server no longer answers", function()
      local self = join({ TTL = "1500" }, "name", "2")
      server.process:kill "sigstop"
      ends(self, 1, joined(0, 0, 2) .. "broken: Redis does not answer\n")
    end)

    it("is not ended by the signal that a write to a lost connection sends", function()
      local self = join({}, "name", "2")
      self.process:kill "sigpipe"
      ends(member({}, "name", "2"), 0, joined(0, 1, 2) .. "everyone is there\n")
      ends(self, 0, joined(0, 0, 2) .. "everyone is there\n")
    end)

    it("says that somebody has emptied the server", function()
      local self = join({ TTL = "1500" }, "name", "2")
      assert.are.equal("+OK\r\n", command "FLUSHALL")
      ends(self, 1, joined(0, 0, 2) .. "broken: the meeting is no longer in Redis\n")
    end)

    it("understands answers that come in pieces", function()
      local real_port = port
      local proxy, client, upstream = uv.new_tcp(), uv.new_tcp(), uv.new_tcp()
      local bytes, sender = {}, uv.new_timer()
      local pipe = uv.new_signal() -- if the member ends too early
      pipe:start("sigpipe", function() end)
      handles = { proxy, client, upstream, sender, pipe }
      proxy:bind(LOOPBACK, 0)
      proxy:listen(1, function()
        proxy:accept(client)
        client:nodelay(true)
        upstream:connect(LOOPBACK, real_port, function()
          client:read_start(function(_, data)
            if data then
              upstream:write(data)
            end
          end)
          upstream:read_start(function(_, data)
            for byte in (data or ""):gmatch "." do
              bytes[#bytes + 1] = byte
            end
          end)
        end)
      end)
      sender:start(0, 1, function()
        if bytes[1] then
          client:write(table.remove(bytes, 1))
        end
      end)
      port = proxy:getsockname().port
      local slow = join({}, "name", "2", "2")
      port = real_port
      ends(member({}, "name", "2"), 0, joined(0, 1, 2) .. "everyone is there\n")
      run_until(function()
        return slow.out:find "\njoined"
      end, "the slow one came again")
      ends(member({}, "name", "2"), 0, joined(1, 1, 2) .. "everyone is there\n")
      local all = joined(0, 0, 2) .. "everyone is there\n" .. joined(1, 0, 2)
      ends(slow, 0, all .. "everyone is there\n")
    end)
  end)
end)
