---A barrier for processes on many machines, which Redis keeps: `barrier.redis(name, parties)`.
local prefix = (...):gsub("[^.]+$", "")
local barrier = require(prefix:sub(1, -2))
local Client = require(prefix .. "redis_client")
local waits = require(prefix .. "redis_waits")

local M = { release = Client.release }

local PRIVATE = {} -- the key of what an object is made of: a Client, or a wait

-- {=== arguments ===

local MAX_BYTES, MAX_REASON, MAX_INTEGER = 1000, 10000, 2 ^ 31 - 1

local function is_callable(value)
  local metatable = (debug and debug.getmetatable or getmetatable)(value)
  return type(value) == "function" or type(metatable) == "table" and metatable.__call ~= nil
end

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

local function check_callback(callback, position, method)
  if callback ~= nil and not is_callable(callback) then
    error(("bad argument #%d to '%s' (callback must be callable, got %s)"):format(position, method,
      type(callback)), 3)
  end
end

local function private(self, method)
  local found = type(self) == "table" and rawget(self, PRIVATE)
  if not found then
    error(("calling '%s' on bad self (redis barrier expected, got %s)"):format(method,
      type(self)), 3)
  end
  return found
end

-- }===

-- {=== the barrier ===

local Waiter = {}
local waiter_metatable = {
  __index = Waiter, __name = "barrier.Waiter", __metatable = "barrier.Waiter",
}

---@param on_close? fun() called from the loop
function Waiter:close(on_close)
  local wait = private(self, "close")
  wait.waiter:close(on_close)
  waits.leave(wait)
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

local function submit(client, request)
  local refused = client.closing and "the barrier is closed" or client.replaced
  if not refused then
    client:submit(request)
    waits.rest(client)
  elseif request.refuse then
    barrier.new(1):wait(function() -- in a turn of the loop
      request.refuse(refused, true)
    end)
  end
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
  local client = private(self, "wait")
  if timeout ~= nil and type(timeout) ~= "number" then
    check(is_callable(timeout), 1, "wait", "timeout or callback expected, got %s", type(timeout))
    check(callback == nil, 2, "wait", "nothing comes after the callback")
    timeout, callback = nil, timeout
  end
  check(timeout == nil or is_integer(timeout, 0, 2 ^ 53), 1, "wait",
    "timeout must be an integer >= 0, in milliseconds, got %s", shown(timeout))
  check_callback(callback, 2, "wait")
  check(select("#", ...) == 0 or (...) == nil, 3, "wait", "nothing comes after the callback")
  local wait = waits.new(client, "wait")
  function wait.request.dropped()
    if wait.inner.n_waiting == 0 then -- it could not suspend, or has left again
      waits.leave(wait)
    end
    return wait.settled
  end
  client.waits[wait] = true
  if timeout then
    waits.start_timer(wait, timeout)
  end
  submit(client, wait.request)
  if callback ~= nil then
    wait.waiter = wait.inner:wait(function()
      callback(waits.deliver(wait))
    end)
    return setmetatable({ [PRIVATE] = wait }, waiter_metatable)
  end
  wait.co = coroutine.running()
  waits.stay(wait)
  local err, position = waits.deliver(wait)
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
  local client = private(self, "arrive")
  check_callback(callback, 1, "arrive")
  local wait = waits.new(client, "arrive")
  wait.inner:wait(function()
    local err = wait.settled[1] ~= "counted" and waits.deliver(wait) or nil
    if callback ~= nil then
      callback(err)
    end
  end)
  submit(client, wait.request)
end

---Breaks the barrier: until it is reset, every wait, in whatever process, fails with a
---`barrier.BrokenBarrierError`.
---@param reason? string|number|boolean it goes to other processes; at most 10000 bytes
function Redis:abort(reason)
  local client = private(self, "abort")
  local kind, text = type(reason), reason ~= nil and tostring(reason) or ""
  check(kind == "string" or kind == "number" or kind == "boolean" or kind == "nil", 1, "abort",
    "the reason goes to other processes: a string, number or boolean expected, got %s", kind)
  check(#text <= MAX_REASON, 1, "abort", "the reason must have at most %d bytes, not %d",
    MAX_REASON, #text)
  submit(client, {
    kind = "abort", reason = "a" .. (reason ~= nil and kind:sub(1, 1) or "") .. text,
    done = function() end,
  })
end

---Returns the barrier to its empty state. Every waiting party, in whatever process, gets a
---`barrier.BrokenBarrierError`.
function Redis:reset()
  local client = private(self, "reset")
  submit(client, { kind = "reset", done = function()
    client.heard.broken = false
  end })
end

---Takes a coroutine of this process out of the barrier. Its wait raises a `barrier.CancelledError`
---in the next turn of the loop.
---@param co thread
---@return boolean found true if it was waiting at this barrier
function Redis:cancel(co)
  local client = private(self, "cancel")
  check(type(co) == "thread", 1, "cancel", "coroutine expected, got %s", type(co))
  for wait in pairs(client.waits) do
    if wait.co == co and wait.inner:cancel(co) then
      waits.leave(wait)
      return true
    end
  end
  return false
end

---Leaves the barrier. Its waits fail; if other members remain, so does the generation.
---@param callback? fun() called from the loop, once Redis knows or does not answer
function Redis:close(callback)
  local client = private(self, "close")
  check_callback(callback, 1, "close")
  local closed = barrier.new(2)
  waits.owners[closed] = self
  closed:wait(function()
    if callback ~= nil then
      callback()
    end
  end)
  local closing = client.closing
  client.closing = closing or {}
  if client.state == "closed" then
    closed:arrive()
    return
  end
  table.insert(client.closing, closed)
  if not closing then
    client:refuse_all "the barrier is closed"
    client:leave(function()
      for _, each in ipairs(client.closing) do
        each:arrive()
      end
    end)
    waits.rest(client)
  end
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

---Reads a URL.
---@param url string
---@return { host?: string, port?: integer, path?: string, hello: table, database: integer }?
---@return string? problem which never shows the URL: there may be a password in it
local function read_url(url)
  local scheme, rest = url:match "^(%a+)://(.*)$"
  local login, place = (rest or ""):match "^(.*)@(.-)$"
  local user, password = (login or ""):match "^([^:]*):(.*)$"
  local endpoint = { database = 0, hello = { "HELLO", 3 } }
  if password then
    user = user ~= "" and user or "default"
    endpoint.hello = { "HELLO", 3, "AUTH", decoded(user), decoded(password) }
  end
  place = place or rest or ""
  if scheme == "rediss" then
    return nil, FORMS .. "; for TLS see the option connect"
  elseif scheme == "unix" and place:find "^/." and (password or not login) then
    endpoint.path = decoded(place)
    return endpoint
  end
  local authority, database = place:match "^([^/?#]+)/?(%d*)$"
  local host, port = (authority or ""):match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then
    host, port = (authority or ""):match "^([^:%[%]]+):?(%d*)$"
  end
  if scheme ~= "redis" or not host or login and not password then
    return nil, FORMS
  end
  endpoint.host, endpoint.port = host, tonumber(port ~= "" and port or 6379)
  endpoint.database = tonumber(database ~= "" and database or 0)
  if endpoint.port < 1 or endpoint.port > 65535 then
    return nil, "the port in url must be from 1 to 65535"
  elseif endpoint.database > 2 ^ 31 - 1 then
    return nil, "the database in url must be an integer >= 0 and < 2^31"
  end
  return endpoint
end

-- }===

-- {=== making one ===

local GETTERS = {
  name = function(client) return client.name end,
  member = function(client) return client.member end,
  parties = function(client) return client.parties end,
  n_waiting = function(client) return client.heard.waiting end,
  n_arrived = function(client) return client.heard.arrived end,
  broken = function(client) return client.heard.broken end,
  generation = function(client) return client.over end,
  epoch = function(client) return client.over_epoch end,
}

local metatable = { __name = "barrier.Redis", __metatable = "barrier.Redis" }

function metatable.__index(self, key)
  local getter = GETTERS[key]
  if getter then
    return getter(private(self, key))
  end
  return Redis[key]
end

function metatable.__newindex(_, key)
  error(("cannot assign to '%s': the members of a barrier are read-only"):format(tostring(key)), 2)
end

function metatable.__tostring(self)
  local client = private(self, "tostring")
  local heard = client.heard
  return ('<barrier.Redis object "%s" of "%s" [%s]>'):format(client.name, client.member,
    heard.broken and "broken" or ("filling, arrived:%d/%d"):format(heard.arrived, client.parties))
end

local OPTIONS = { member = "string", run = "string", ttl = "number", url = "string" }

---@param options table
---@return string? problem
local function examine(options)
  for key, value in pairs(options) do
    if key == "connect" then
      if not is_callable(value) then
        return "option 'connect' must be callable, got " .. type(value)
      end
    elseif not OPTIONS[key] then
      return "unknown option '" .. tostring(key) .. "'; there are connect, member, run, ttl, url"
    elseif key == "ttl" then
      if not is_integer(value, 100, MAX_INTEGER) then
        return "option 'ttl' must be an integer >= 100 and < 2^31, in milliseconds, got "
          .. shown(value)
      end
    elseif type(value) ~= "string" then
      return ("option '%s' must be a string, got %s"):format(key, type(value))
    elseif key ~= "url" and (#value > MAX_BYTES or value == "" and key == "member") then
      return ("option '%s' must have 1 to %d bytes"):format(key, MAX_BYTES)
    end
  end
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
  local problem = examine(options)
  check(not problem, 3, "redis", "%s", problem)
  local endpoint
  endpoint, problem = read_url(options.url or os.getenv "REDIS_URL"
    or "redis://127.0.0.1:6379/0")
  check(endpoint, 3, "redis", "%s%s", problem, options.url and "" or " (in $REDIS_URL)")
  local client = Client.new {
    name = name, parties = parties, run = options.run or "", ttl = options.ttl or 10000,
    endpoint = endpoint, connect = options.connect, member = options.member,
    waits = {}, over = 0, over_epoch = 0, -- `generation` and `epoch`, as of the last wait
    on_rest = waits.rest, on_tick = waits.sweep,
  }
  client.object = setmetatable({ [PRIVATE] = client }, metatable)
  client:start()
  return client.object
end

---What barrier.stuck says of a local barrier that serves one in Redis.
---@param b barrier.Barrier
---@return string?
function M.describe(b)
  local self = waits.owners[b]
  return self and tostring(self) .. waits.missing(self[PRIVATE])
end

-- }===

return M
