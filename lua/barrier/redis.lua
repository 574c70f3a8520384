---A barrier for processes on many machines, which Redis keeps: `barrier.redis(name, parties)`.
local prefix = (...):gsub("[^.]+$", "")
local barrier = require(prefix:sub(1, -2))
local await = require(prefix .. "await")
local uv = require(prefix .. "environment").luv()
local Member = require(prefix .. "redis_connection")
local is_callable, has_left = await.is_callable, Member.has_left

local M = { release = Member.release }

-- {=== arguments ===

local MAX_BYTES, MAX_REASON, MAX_INTEGER = 1000, 10000, 2 ^ 31 - 1
local MAX_CARRIED = 500 -- requests in one call
local CALLABLE = "callback must be callable, got %s"

local function is_integer(value, least, most)
  return type(value) == "number" and value >= least and value <= most and value % 1 == 0
end

local function shown(value)
  return type(value) == "number" and tostring(value) or type(value)
end

---Raises an argument error where the method was called, unless `holds`.
local function check(holds, position, method, rule, ...)
  if not holds then
    error(("bad argument #%d to '%s' (" .. rule .. ")"):format(position, method, ...), 3)
  end
end

local PRIVATE = {} -- the key of what an object is made of: a barrier.RedisMember, or a wait

local function private(self, method)
  local found = type(self) == "table" and rawget(self, PRIVATE)
  if not found then
    error(("calling '%s' on bad self (redis barrier expected, got %s)"):format(method,
      type(self)), 3)
  end
  return found
end

-- }===

-- {=== what a wait comes to ===

---By the first byte of a reason: its message, and how to read the rest.
local REASONS = {
  r = { "barrier reset" },
  b = { "barrier broken", tostring },
  ["0"] = { "barrier aborted" },
  s = { "barrier aborted", tostring },
  n = { "barrier aborted", tonumber },
  t = { "barrier aborted", function(text) return text == "true" end },
}
local LETTERS = { ["nil"] = "0", string = "s", number = "n", boolean = "t" } -- of an abort's reason

---The members that have not arrived, as last heard: "missing: a, b and 3 others; 1 seat is empty".
local function missing(self)
  local names, empty, parts = self.names, self.empty, {}
  if names[1] then
    local others = self.absent - #names
    parts[1] = "missing: " .. table.concat(names, ", ")
      .. (others > 0 and (" and %d other%s"):format(others, others == 1 and "" or "s") or "")
  end
  if empty > 0 then
    parts[#parts + 1] = empty == 1 and "1 seat is empty" or empty .. " seats are empty"
  end
  return parts[1] and ", " .. table.concat(parts, "; ") or ""
end

---What a wait passes on; generation and epoch of the object are those of this wait from now on.
---@return barrier.Error? err
---@return any position
local function deliver(self, result)
  local epoch, generation = result.epoch, result.generation
  if epoch and (epoch > self.epoch or generation > self.generation) then
    self.epoch, self.generation = epoch, generation
  end
  if result.position then
    return nil, result.position
  end
  result.epoch, result.generation = epoch or self.epoch, generation or self.generation
  result.barrier = self.object
  return setmetatable(result, barrier[result.name])
end

---The party of a request goes on in the next turn, if it still waits.
local function settle(request, result)
  local wait = request.wait
  if wait then
    request.wait, wait.result = nil, result
    if wait.inner.n_waiting > 0 then
      wait.inner:arrive()
    elseif wait.alarm then
      wait.alarm:close()
    end
  end
end

local function timed_out(wait, text, names)
  return {
    name = "TimeoutError", timeout = wait.timeout, missing = names,
    message = ("wait timed out after %d ms, %s"):format(wait.timeout, text),
  }
end

-- }===

-- {=== requests ===

---What an object is made of. At most one call is under way. It carries all requests that Redis has
---not answered or that may have an outcome; so the call after a lost connection is like any other.
---@class barrier.RedisMember
---@field [string] any
Member.__index = Member

---@class barrier.RedisRequest
---@field kind "wait"|"withdraw"|"cancel"|"abort"|"reset" it waits; its time has passed; it has left
---@field argument? string|integer a reason; or the generation that it takes for the one under way
---@field silent? 1 it arrives and does not wait
---@field wait? table its party, until that has its result: at `inner`, a local barrier of two
---@field counted? integer the generation in which it was counted
---@field [string] any

---@return barrier.RedisRequest
function Member:submit(kind, argument, wait, silent)
  local request = {
    number = self.next, kind = kind, argument = argument, wait = wait, silent = silent,
  }
  self.next = self.next + 1
  self.silence = self.silence < 9 and self.silence or 0
  if wait or not self.ended then
    table.insert(self.requests, request)
    self:soon()
  end
  return request
end

---Sends what there is in the next turn of the loop.
function Member:soon()
  if not self.is_due then
    self.is_due = true
    await.turn(self.object, nil, function()
      self.is_due = false
      if self.ended then
        self:fail_all(self.ended)
      elseif self:is_idle() and not has_left() then
        self:open()
      end
      self:sync()
      self:tidy()
    end)
  end
end

---A party that waits, or with `silent` only arrives.
function Member:wait(timeout, silent)
  local wait = { member = self, inner = barrier.new(2), timeout = timeout }
  await.owners[wait.inner] = self.object
  local request = self:submit("wait", nil, wait, silent)
  wait.alarm = timeout and wait.inner:await_trip(timeout, function(err)
    if err and (request.was_sent or self.head) then
      request.kind, self.beats = "withdraw", true -- Redis is asked whether it has passed
      self:soon()
    elseif err then
      self:leave(request, timed_out(wait, "Redis has not answered"
        .. (self.problem and " (" .. self.problem .. ")" or ""), {}))
    end
  end)
  return wait
end

---The party of a request leaves. What Redis may have counted is withdrawn.
function Member:leave(request, result)
  settle(request, result)
  request.kind, request.is_over = "cancel", not request.was_sent
  if not self:is_idle() then
    self:soon()
  end
end

---All waits fail.
function Member:fail_all(reason)
  for _, request in ipairs(self.requests) do
    if request.wait then
      self:leave(request, request.kind == "withdraw" and timed_out(request.wait, reason, {})
        or { name = "BrokenBarrierError", message = "barrier broken", reason = reason })
    end
  end
end

---Takes out the parties that have left by themselves: cancelled, closed, resumed by something else,
---or without having been suspended. Forgets what is over. Keeps the loop alive as long as there is
---something to wait for.
function Member:tidy()
  local requests = {}
  for _, request in ipairs(self.requests) do
    if request.wait and request.wait.inner.n_waiting == 0 then
      self:leave(request, {})
    end
    requests[#requests + 1] = not request.is_over and request or nil
  end
  self.requests = requests
  if self.timer then
    local busy = self.leaving or requests[1] and self.silence < 9 and not self:is_idle()
    self.timer[busy and "ref" or "unref"](self.timer)
  end
end

-- }===

-- {=== what Redis says ===

---Sends what Redis has not answered, and asks for outcomes, once the last call is answered.
function Member:sync()
  self.again = true
  if not self.head or self.purpose then
    return
  end
  self:tidy()
  local words, carried = { "" }, {}
  for _, request in ipairs(self.last_epoch > 0 and self.requests or {}) do
    local is_known = request.kind == "wait" and request.counted == self.last_generation
    if not is_known and #carried < MAX_CARRIED then
      request.was_sent, request.argument = true, request.argument or self.generation
      carried[#carried + 1] = request
      words[#words + 1] = ("%d %s %d "):format(request.number, request.kind, request.silent or 0)
        .. request.argument
    end
  end
  self.again = self.last_epoch == 0 or #carried == MAX_CARRIED
  local purpose = self.leaving and not self.again and "leave" or self.beats and "beat" or "call"
  local low = self.requests[1] and self.requests[1].number or self.next
  words[1] = ("%s %.0f %.0f %d %d"):format(purpose, self.last_epoch, self.last_generation,
    self.answered, low)
  self.carried, self.beats = carried, false
  self:call(purpose, words)
end

---Redis has answered a call, see redis_script.lua.
function Member:on_answer(purpose, answer)
  self.silence, self.attempts, self.problem = 0, 0, nil
  local word, reason, n = tostring(answer[1]), tostring(answer[2]), {}
  for digits in word:gmatch "%d+" do
    n[#n + 1] = #digits < 16 and tonumber(digits) or nil
  end
  if purpose == "leave" then
    return self:stop()
  elseif word == "refused" or word == "replaced" then
    self.ended = self.ended or word == "replaced" and reason or nil
    return self:refuse(reason)
  elseif not n[5] then
    return self:lose(Member.NO_REDIS)
  end
  self.last_epoch, self.last_generation, self.n_arrived, self.n_waiting = n[1], n[2], n[3], n[4]
  self.broken = n[5] == 1
  if self.epoch == 0 then
    self.epoch, self.generation = self.last_epoch, self.last_generation
  end
  if n[7] then
    self.empty, self.absent, self.names = n[6], n[7], {}
    for i = #self.carried + 2, #answer do
      local name = tostring(answer[i])
      self.names[#self.names + 1] = #self.names < 8 and name ~= self.member and name or nil
    end
  end
  for i, request in ipairs(self.carried) do
    local outcome, at, value = tostring(answer[i + 1]):match "^(%a+) ?(%-?%d*) ?(.*)$"
    self:learn(request, outcome, tonumber(at) or 0, value)
  end
  self:tidy()
  for _, request in ipairs(self.requests) do
    self.again = self.again or request.counted and request.counted < self.last_generation
  end
  if self.again then
    self:sync()
  end
end

---Learns what has become of a request.
function Member:learn(request, word, generation, value)
  self.answered = math.max(self.answered, request.number)
  if word == "counted" and (not request.silent or request.kind == "cancel") then
    request.counted, request.position = generation, tonumber(value) or 0
    return
  end
  local wait, result = request.wait, { epoch = self.last_epoch, generation = generation + 1 }
  if word == "failed" then
    local kind = REASONS[value:sub(1, 1)] or REASONS.r
    result.name, result.message = "BrokenBarrierError", kind[1]
    result.reason = kind[2] and kind[2](value:sub(2))
  elseif word == "passed" or word == "counted" then
    result.position, result.epoch = tonumber(value) or 0, word == "passed" and result.epoch or nil
  elseif word == "withdrawn" and wait and wait.timeout then
    result = timed_out(wait, ("%d of %d had arrived%s"):format(self.n_arrived + 1, self.parties,
      missing(self)), self.names)
  elseif wait then
    return self:lose(Member.NO_REDIS)
  end
  request.is_over = true
  settle(request, result)
end

---A trip or a failure was published: "EPOCH GENERATION " and a reason, if it has failed.
function Member:on_message(message)
  local epoch, generation, reason = message:match "^(%d+) (%d+) (.*)$"
  generation = tonumber(generation)
  if not generation or tonumber(epoch) ~= self.last_epoch then
    return self:sync()
  end
  self.last_generation = math.max(self.last_generation, generation + 1)
  self.n_arrived, self.n_waiting = 0, 0
  local word = reason == "" and "passed" or "failed"
  for _, request in ipairs(self.requests) do
    if request.counted == generation and not request.is_over then
      self:learn(request, word, generation, reason == "" and request.position or reason)
    end
  end
  self:tidy()
  if reason ~= "" then
    self:sync()
  end
end

---Redis refuses this member: nothing is sent until there is another request.
function Member:refuse(reason)
  self:disconnect()
  self:fail_all(reason)
  for _, request in ipairs(self.requests) do
    request.is_over = request.is_over or request.kind ~= "cancel"
  end
  if self.leaving then
    return self:stop()
  end
  self:tidy()
end

-- }===

-- {=== making one ===

local function token()
  local bytes = uv.random and uv.random(12) or uv.hrtime() .. "-" .. uv.os_getpid()
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

---@param endpoint table see Member.read_url
local function new_member(name, parties, options, endpoint)
  local instance = token()
  return setmetatable({
    name = name, parties = parties, run = options.run or "", ttl = options.ttl or 10000,
    member = options.member
      or ("%s:%d:%s"):format(uv.os_gethostname(), uv.os_getpid(), instance:sub(1, 6)),
    endpoint = endpoint, connect = options.connect, instance = instance,
    -- Names may have any bytes, but the first } ends a hash tag.
    key = "barrier:{" .. name:gsub("[%%{}]", { ["%"] = "%25", ["{"] = "%7B", ["}"] = "%7D" })
      .. "}",
    requests = {}, next = 1, answered = 0, -- the highest number that Redis has answered
    epoch = 0, generation = 0, last_epoch = 0, last_generation = 0, -- of the last wait; last heard
    n_arrived = 0, n_waiting = 0, broken = false, names = {}, absent = 0, empty = 0, -- last heard
    silence = 0, attempts = 0, -- thirds of `ttl` without an answer; connections
    closed = barrier.new(1), -- trips when the member has left
  }, Member)
end

-- }===

-- {=== the object ===

local Waiter = { __name = "barrier.Waiter", __metatable = "barrier.Waiter" }
Waiter.__index = Waiter

---@param on_close? fun() called from the loop
function Waiter:close(on_close)
  local wait = private(self, "close")
  wait.waiter:close(on_close)
  wait.member:tidy()
end

---@return boolean is_closing
function Waiter:is_closing()
  return private(self, "is_closing").waiter:is_closing()
end

---A barrier that processes share through a Redis server. Its fields can be read, not assigned.
---@class barrier.Redis
---The name that it was given.
---@field name string
---What this process is called in messages.
---@field member string
---The number of parties that have to arrive.
---@field parties integer
---The number of parties that wait, as last heard from Redis.
---@field n_waiting integer
---The number of parties that have arrived, waiting or not, as last heard from Redis.
---@field n_arrived integer
---True after `abort`, until `reset`, as last heard from Redis.
---@field broken boolean
---The number of generations that are over, tripped or failed, as of the last wait.
---@field generation integer
---Grows when Redis has lost the barrier. Epoch and generation together never repeat.
---@field epoch integer
local Redis = {}

---Calls so that errors are caught, where a coroutine can wait in such a call.
local try = (jit or _VERSION ~= "Lua 5.1") and pcall or function(f, ...)
  return true, f(...)
end

---Waits until all parties have arrived, in whatever process.
---
---Each member holds a lease. If a member dies, is closed or is restarted, the wait fails with a
---`barrier.BrokenBarrierError` that names it. The timeout is decided by Redis: its error names the
---members that are missing. In all else it is as `b:wait()`.
---@param timeout? integer milliseconds from the call, >= 0
---@param callback? nil
---@return integer position 0 to parties - 1, different for each party
---@overload fun(self: barrier.Redis, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Redis, timeout: integer?, callback: barrier.callback): barrier.Waiter
function Redis:wait(timeout, callback, ...)
  local member = private(self, "wait")
  if timeout ~= nil and type(timeout) ~= "number" then
    check(is_callable(timeout), 1, "wait", "timeout or callback expected, got %s", type(timeout))
    check(callback == nil, 2, "wait", "nothing comes after the callback")
    timeout, callback = nil, timeout
  end
  check(timeout == nil or is_integer(timeout, 0, 2 ^ 53), 1, "wait",
    "timeout must be an integer >= 0, in milliseconds, got %s", shown(timeout))
  check(callback == nil or is_callable(callback), 2, "wait", CALLABLE, type(callback))
  check(select("#", ...) == 0 or (...) == nil, 3, "wait", "nothing comes after the callback")
  local wait = member:wait(timeout)
  if callback ~= nil then
    wait.waiter = wait.inner:wait(function()
      callback(deliver(member, wait.result))
    end)
    return setmetatable({ [PRIVATE] = wait }, Waiter)
  end
  local ok, err = try(wait.inner.wait, wait.inner)
  local position
  if ok then
    err, position = deliver(member, wait.result)
  else
    member:tidy() -- it was cancelled, or could not be suspended
    err = getmetatable(err) == barrier.CancelledError and deliver(member, err) or err
  end
  if err then
    error(err, 0)
  end
  return position
end

---Waits, then calls `body` with the position.
---@param body fun(position: integer): ...
---@return any ... what `body` returned
function Redis:with(body)
  private(self, "with")
  check(is_callable(body), 1, "with", "body must be callable, got %s", type(body))
  return body(self:wait())
end

---One party arrives and does not wait.
---
---It is a request to Redis, so its outcome comes later.
---@param callback? fun(err?: barrier.Error) called from the loop when Redis has answered
function Redis:arrive(callback)
  local member = private(self, "arrive")
  check(callback == nil or is_callable(callback), 1, "arrive", CALLABLE, type(callback))
  local wait = member:wait(nil, 1)
  wait.inner:wait(function()
    local err = deliver(member, wait.result)
    if callback ~= nil then
      callback(err)
    end
  end)
end

---Breaks the barrier: until it is reset, every wait, in whatever process, fails with a
---`barrier.BrokenBarrierError`.
---@param reason? string|number|boolean it goes to other processes; at most 10000 bytes
function Redis:abort(reason)
  local member = private(self, "abort")
  local letter, text = LETTERS[type(reason)], reason ~= nil and tostring(reason) or ""
  check(letter, 1, "abort", "the reason goes to other processes: a string, number or boolean "
    .. "expected, got %s", type(reason))
  check(#text <= MAX_REASON, 1, "abort", "the reason must have at most %d bytes, not %d",
    MAX_REASON, #text)
  member:submit("abort", letter .. text)
end

---Returns the barrier to its empty state. Every waiting party, in whatever process, gets a
---`barrier.BrokenBarrierError`.
function Redis:reset()
  private(self, "reset"):submit("reset", "")
end

---Takes a coroutine of this process out of the barrier. Its wait raises a `barrier.CancelledError`
---in the next turn of the loop.
---@param co thread
---@return boolean found true if it was waiting at this barrier
function Redis:cancel(co)
  local member = private(self, "cancel")
  check(type(co) == "thread", 1, "cancel", "coroutine expected, got %s", type(co))
  for _, request in ipairs(member.requests) do
    if request.wait and request.wait.inner:cancel(co) then
      member:tidy()
      return true
    end
  end
  return false
end

---Leaves the barrier. Its waits fail; if other members remain, so does the generation.
---@param callback? fun() called from the loop, once Redis knows or does not answer
function Redis:close(callback)
  local member = private(self, "close")
  check(callback == nil or is_callable(callback), 1, "close", CALLABLE, type(callback))
  if callback ~= nil then
    member.closed:await_trip(function()
      callback()
    end)
  end
  member:close()
end

-- }===

-- {=== making one ===

local metatable = { __name = "barrier.Redis", __metatable = "barrier.Redis" }

local FIELDS = {
  name = true, member = true, parties = true, n_waiting = true, n_arrived = true, broken = true,
  generation = true, epoch = true,
}

function metatable.__index(self, key)
  if FIELDS[key] then
    return private(self, key)[key]
  end
  return Redis[key]
end

function metatable.__newindex(_, key)
  error(("cannot assign to '%s': the members of a barrier are read-only"):format(tostring(key)), 2)
end

function metatable.__tostring(self)
  local member = private(self, "tostring")
  return ('<barrier.Redis object "%s" of "%s" [%s]>'):format(member.name, member.member,
    member.broken and "broken"
    or ("filling, arrived:%d/%d"):format(member.n_arrived, member.parties))
end

---Each option may be left out.
---@class (exact) barrier.RedisOptions
---redis://HOST[:PORT][/DATABASE] or unix:///PATH. A login, [USER]:PASSWORD@, may come before HOST
---or /PATH. Default: the environment variable REDIS_URL, or redis://127.0.0.1:6379/0.
---@field url? string
---What this process is called in messages. Default: host, process and a random part.
---@field member? string
---Which run of a job this is, such as a build's number. Processes of another run are refused.
---@field run? string
---Milliseconds, an integer >= 100, after which a silent member is gone; default 10000.
---@field ttl? integer
---A function that makes the connection: `connect(callback)` calls `callback(err, stream)`. The
---stream has luv's methods read_start, write and close. For TLS, a tunnel, Sentinel.
---@field connect? fun(callback: fun(err?: string, stream?: table))

---By name, what it must be, if it is not.
local OPTIONS = {
  connect = function(value)
    return not is_callable(value) and "be callable, got " .. type(value)
  end,
  ttl = function(value)
    return not is_integer(value, 100, MAX_INTEGER)
      and "be an integer >= 100 and < 2^31, in milliseconds, got " .. shown(value)
  end,
}
for key, most in pairs { member = MAX_BYTES, run = MAX_BYTES, url = math.huge } do
  OPTIONS[key] = function(value)
    return type(value) ~= "string" and "be a string, got " .. type(value)
      or (#value > most or key == "member" and value == "") and "have 1 to 1000 bytes"
  end
end

---What barrier.redis calls.
---@param name string
---@param parties integer
---@param options? barrier.RedisOptions
---@return barrier.Redis
function M.new(name, parties, options)
  check(type(name) == "string", 1, "redis", "name must be a string, got %s", type(name))
  check(#name > 0 and #name <= MAX_BYTES, 1, "redis", "name must have 1 to %d bytes", MAX_BYTES)
  check(is_integer(parties, 1, MAX_INTEGER), 2, "redis",
    "parties must be an integer >= 1 and < 2^31, got %s", shown(parties))
  check(options == nil or type(options) == "table", 3, "redis", "options must be a table, got %s",
    type(options))
  options = options or {}
  for key, value in pairs(options) do
    check(OPTIONS[key], 3, "redis", "unknown option '%s'; there are connect, member, run, ttl, url",
      tostring(key))
    local problem = OPTIONS[key](value)
    check(not problem, 3, "redis", "option '%s' must %s", key, problem)
  end
  local endpoint, problem = Member.read_url(options.url or os.getenv "REDIS_URL"
    or "redis://127.0.0.1:6379/0")
  check(endpoint, 3, "redis", "%s%s", problem, options.url and "" or " (in $REDIS_URL)")
  local member = new_member(name, parties, options, endpoint)
  member.object = setmetatable({ [PRIVATE] = member }, metatable)
  await.owners[member.closed] = member.object
  member:start()
  return member.object
end

---What barrier.stuck says of one.
---@param b barrier.Redis
---@return string
function M.describe(b)
  return tostring(b) .. missing(private(b, "describe"))
end

-- }===

return M
