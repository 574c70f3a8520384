---A barrier for processes on many machines, which Redis keeps: `barrier.redis(name, parties)`.
local prefix = (...):gsub("[^.]+$", "")
local barrier = require(prefix:sub(1, -2))
local await = require(prefix .. "await")
local uv = require(prefix .. "environment").luv()
local Member = require(prefix .. "redis_member")
local is_callable = await.is_callable

local M = { release = Member.release }

-- {=== arguments ===

local MAX_BYTES, MAX_REASON, MAX_INTEGER = 1000, 10000, 2 ^ 31 - 1
local LETTERS = { ["nil"] = "0", string = "s", number = "n", boolean = "t" } -- of an abort's reason
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

-- {=== the URL ===

local FORMS = "url must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or "
  .. "unix://[[USER]:PASSWORD@]/PATH"

local function decoded(s)
  return (s:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

---@return { host?: string, port: integer, path?: string, hello: string, database: string }?
---@return string? problem which never shows the URL: there may be a password in it
local function read_url(url)
  local scheme, login, place = url:match "^(%a+)://(.-)([^@]*)$"
  local user, password = (login or ""):match "^([^:]*):(.*)@$"
  local path = scheme == "unix" and place:match "^/.+$"
  local authority, database = (place or ""):match "^([^/?#]+)/?(%d*)$"
  local host, port = (authority or ""):match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then
    host, port = (authority or ""):match "^([^:%[%]]+):?(%d*)$"
  end
  if scheme == "rediss" then
    return nil, FORMS .. "; for TLS see the option connect"
  elseif not (path or scheme == "redis" and host) or login ~= "" and not password then
    return nil, FORMS
  end
  port, database = tonumber(port) or 6379, database ~= "" and database or "0"
  if port < 1 or port > 65535 then
    return nil, "the port in url must be from 1 to 65535"
  elseif tonumber(database) > 2 ^ 31 - 1 then
    return nil, "the database in url must be an integer >= 0 and < 2^31"
  end
  return {
    host = host, port = port, path = path and decoded(path), database = database,
    hello = Member.encode(password and { "HELLO", "3", "AUTH",
      decoded(user ~= "" and user or "default"), decoded(password) } or { "HELLO", "3" }),
  }
end

-- }===

-- {=== a member ===

local function token()
  local bytes = uv.random and uv.random(12) or uv.hrtime() .. "-" .. uv.os_getpid()
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

---@param options barrier.RedisOptions
---@param endpoint table see `read_url`
---@return barrier.RedisMember
local function new_member(name, parties, options, endpoint)
  local instance = token()
  return setmetatable({
    name = name, parties = parties, run = options.run or "", ttl = options.ttl or 10000,
    member = options.member
      or ("%s:%d:%s"):format(uv.os_gethostname(), uv.os_getpid(), instance:sub(1, 10)),
    endpoint = endpoint, connect = options.connect, instance = instance,
    -- Names may have any bytes, but the first } ends a hash tag.
    key = "barrier:{" .. name:gsub("[%%{}]", { ["%"] = "%25", ["{"] = "%7B", ["}"] = "%7D" })
      .. "}",
    requests = {}, carried = {}, -- those without an outcome; those of the last call
    spare = {}, -- at most one barrier for the next request
    next = 1, answered = 0, -- the next number; the highest that Redis has answered
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

---The party of a request waits; `callback` gets its outcome.
---@return barrier.Waiter
local function call_back(member, request, callback)
  local inner = request.inner
  local waiter = inner:wait(function()
    callback(member:deliver(request.result, inner))
  end)
  request.is_begun = true
  return waiter
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
  if timeout ~= nil or callback ~= nil or ... then
    check(timeout == nil or is_integer(timeout, 0, 2 ^ 53), 1, "wait",
      "timeout must be an integer >= 0, in milliseconds, got %s", shown(timeout))
    check(callback == nil or is_callable(callback), 2, "wait", CALLABLE, type(callback))
    check((...) == nil, 3, "wait", "nothing comes after the callback")
  end
  local request = member:wait(timeout, 0, callback ~= nil or await.can_wait())
  local inner = request.inner
  if callback ~= nil then
    local waiter = call_back(member, request, callback)
    return setmetatable({ [PRIVATE] = { waiter = waiter, member = member } }, Waiter)
  end
  request.is_begun = true
  local ok, err = try(inner.wait, inner)
  local position
  if ok then
    err, position = member:deliver(request.result, inner)
  else
    member:tidy() -- it was cancelled, or could not be suspended
    err = getmetatable(err) == barrier.CancelledError and member:deliver(err) or err
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
  local request = member:wait(nil, 1, true)
  call_back(member, request, function(err)
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
  member:submit { kind = "abort", silent = 0, argument = letter .. text }
end

---Returns the barrier to its empty state. Every waiting party, in whatever process, gets a
---`barrier.BrokenBarrierError`.
function Redis:reset()
  private(self, "reset"):submit { kind = "reset", silent = 0, argument = "" }
end

---Takes a coroutine of this process out of the barrier. Its wait raises a `barrier.CancelledError`
---in the next turn of the loop.
---@param co thread
---@return boolean found true if it was waiting at this barrier
function Redis:cancel(co)
  local member = private(self, "cancel")
  check(type(co) == "thread", 1, "cancel", "coroutine expected, got %s", type(co))
  for _, request in ipairs(member.requests) do
    if request.inner and request.inner:cancel(co) then
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
  local endpoint, problem = read_url(options.url or os.getenv "REDIS_URL"
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
  return tostring(b) .. private(b, "describe"):missing()
end

-- }===

return M
