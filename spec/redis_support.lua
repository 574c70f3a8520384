---Redis servers of the specs: each on a port and in a folder of its own.
local uv = require "luv"
local support = require "spec.support"

local M = {}

M.LOOPBACK = "127.0.0.1"

---Runs the loop until `done()`; fails if that takes too long.
function M.run_until(done, what, limit)
  local late = false
  local watchdog = uv.new_timer()
  watchdog:start(limit or 30000, 0, function()
    late = true
  end)
  while not done() and not late do
    uv.run "once"
  end
  watchdog:close()
  if late and not done() then
    error("waited in vain until " .. (what or "it was done"), 0)
  end
end

---Lets the loop run for a while.
function M.run_for(ms)
  local over = false
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    over = true
  end)
  M.run_until(function()
    return over
  end)
end

---Starts a program: its output so far is `out` and `err`. Once it has ended and its output is
---complete, `code` is its exit status, or the signal that ended it. Returns nil if there is no
---such program.
function M.start(program, args, env)
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
  self.process = uv.spawn(program, { args = args, env = env, stdio = { nil, out, err } },
    function(status, signal)
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

function M.run_out(process)
  M.run_until(function()
    return process.code
  end, "a process ended")
  return process
end

---A process with the interpreter of the specs, and variables of its own. One of them, NETNS, is the
---network namespace that it runs in.
function M.lua(variables, ...)
  local all = uv.os_environ()
  all.LUA_PATH, all.LUA_CPATH, all.REDIS_URL = package.path, package.cpath, nil
  for name, value in pairs(variables) do
    all[name] = value
  end
  local env = {}
  for name, value in pairs(all) do
    env[#env + 1] = name .. "=" .. value
  end
  if variables.NETNS then
    local args = { "netns", "exec", variables.NETNS, support.interpreter, ... }
    return assert(M.start("/usr/sbin/ip", args, env))
  end
  return assert(M.start(support.interpreter, { ... }, env))
end

function M.free_port()
  local socket = uv.new_tcp()
  assert(socket:bind(M.LOOPBACK, 0))
  local port = socket:getsockname().port
  socket:close()
  return port
end

-- What is preloaded into the Lua of the specs is none of Redis' business.
local PLAIN = { "PATH=" .. (os.getenv "PATH" or "/usr/bin:/bin") }

function M.has(program, ...)
  local process = M.start(program, { ... }, PLAIN)
  return process and M.run_out(process).code == 0
end

M.has_redis = M.has("redis-server", "--version")

---`it`, where there is a Redis server, and where `available` is not false.
function M.it(name, f, available, why)
  local busted = require "busted"
  if M.has_redis and available ~= false then
    busted.it(name, f)
  else
    why = M.has_redis and why or "there is no redis-server"
    busted.pending(name .. " (left out: " .. why .. ")")
  end
end

---Runs a program of the system; true if it ends well.
function M.run(program, ...)
  local process = M.start(program, { ... }, {
    "PATH=" .. (os.getenv "PATH" or "") .. ":/usr/sbin:/sbin",
  })
  return process and M.run_out(process).code == 0
end

---What takes long runs under one Lua.
M.thorough = _VERSION == "Lua 5.4" or os.getenv "REDIS_THOROUGH" ~= nil

local Server = {}
Server.__index = Server

---@param args? string[] options of redis-server
---@param env? string[]
function M.server(args, env)
  local dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/barrier-redis-XXXXXX"))
  local self = { port = M.free_port(), dir = dir, args = args or {}, env = env }
  setmetatable(self, Server)
  self.url = "redis://" .. M.LOOPBACK .. ":" .. self.port
  self:start()
  return self
end

function Server:start()
  assert(not self.process or self.process.code, "it runs already")
  local args = { "--port", tostring(self.port), "--bind", M.LOOPBACK, "--dir", self.dir, "--save",
    "", "--unixsocket", self.dir .. "/redis.sock" }
  for _, arg in ipairs(self.args) do
    args[#args + 1] = arg
  end
  local env = { PLAIN[1] }
  for _, variable in ipairs(self.env or {}) do
    env[#env + 1] = variable
  end
  self.process = assert(M.start("redis-server", args, env))
  M.run_until(function()
    return self.process.out:find "eady to accept connections" or self.process.code
  end, "redis-server started")
  assert(not self.process.code, self.process.out)
end

---Runs redis-cli; what it printed.
function Server:cli(...)
  local words = { "-p", tostring(self.port), ... }
  if self.password then
    table.insert(words, 1, "--no-auth-warning")
    table.insert(words, 1, self.password)
    table.insert(words, 1, "-a")
  end
  return M.run_out(M.start("redis-cli", words, PLAIN)).out
end

---Ends the server as it would at a loss of power.
function Server:kill()
  if not self.process.code then
    self.process.process:kill "sigkill"
    M.run_out(self.process)
  end
end

function Server:close()
  self:kill()
  M.run_out(M.start("rm", { "-r", self.dir }, PLAIN))
  uv.run "nowait" -- luv 1.44 crashes where a Lua state is closed with a handle that is closing
end

-- {=== who learned what ===

local Checker = {}
Checker.__index = Checker

---Collects what each wait came to, and finds outcomes that do not agree.
function M.checker(parties)
  return setmetatable({ parties = parties, outcomes = {}, passed = 0, failed = 0, problems = {} },
    Checker)
end

function Checker:problem(...)
  self.problems[#self.problems + 1] = table.concat({ ... }, " ")
end

---@param key string epoch and generation
function Checker:note(member, key, position, reason)
  local outcome = self.outcomes[key] or { positions = {} }
  self.outcomes[key] = outcome
  if position then
    self.passed = self.passed + 1
    if outcome.positions[position] then
      self:problem(key .. ":", member, "and", outcome.positions[position], "both have", position)
    elseif position < 0 or position >= self.parties or position % 1 ~= 0 then
      self:problem(member, "has position", position)
    end
    outcome.positions[position] = member
  else
    self.failed = self.failed + 1
  end
  local word = position and "passed" or "failed: " .. reason
  outcome.word = outcome.word or word
  if outcome.word ~= word then
    self:problem(key .. ":", member, word .. ", but others", outcome.word)
  end
end

---A callback of `wait`. Timeouts and what is of this member alone is no outcome of a generation.
function Checker:callback(b, after)
  return function(err, position)
    local mine = err and (err.name ~= "BrokenBarrierError"
      or tostring(err.reason):find "^Redis has not answered" or tostring(err.reason):find "seats"
      or tostring(err.reason):find "^another process"
      or err.reason == "the barrier is closed")
    if not mine then
      local epoch = err and err.epoch or b.epoch
      local generation = err and err.generation or b.generation
      self:note(b.member, ("%.0f/%d"):format(epoch, generation), position,
        err and err.message .. tostring(err.reason))
    end
    if after then
      after(err, position)
    end
  end
end

-- }===

---Closes all barriers of a list, and runs the loop until that is done.
function M.close_all(list)
  local left = #list
  for _, b in ipairs(list) do
    b:close(function()
      left = left - 1
    end)
  end
  M.run_until(function()
    return left == 0
  end, "all barriers were closed")
  uv.run "nowait"
end

return M
