---A barrier for processes on many machines, which Redis keeps: `barrier.redis(name, parties)`.
---Each wait is a wait at a local barrier of two, whose other party is what Redis answers.
local prefix = (...):match "^(.*%.)[^.]*$" or ""
local barrier = require(prefix:sub(1, -2))
local protocol = require(prefix .. "redis_protocol")
local Client = require(prefix .. "redis_client")
local waits = require(prefix .. "redis_waits")

local M = {}

local PRIVATE = {} -- the key of what a barrier is made of

local MAX_BYTES, MAX_REASON = 1000, 10000
local MAX_PARTIES, MAX_TIMEOUT = 2 ^ 31 - 1, 2 ^ 53

-- {=== arguments ===

local function is_callable(value)
  if type(value) == "function" then
    return true
  end
  local metatable = (debug and debug.getmetatable or getmetatable)(value)
  return type(metatable) == "table" and metatable.__call ~= nil
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

---@return table private
local function private(self, method)
  local found = type(self) == "table" and rawget(self, PRIVATE)
  if not found then
    error(("calling '%s' on bad self (redis barrier expected, got %s)"):format(method,
      type(self)), 3)
  end
  return found
end

local function check_callback(callback, position, method)
  if callback ~= nil and not is_callable(callback) then
    error(("bad argument #%d to '%s' (callback must be callable, got %s)"):format(position, method,
      type(callback)), 3)
  end
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

---@return boolean
function Waiter:is_closing()
  return private(self, "is_closing").waiter:is_closing()
end

---@class barrier.Redis
---@field name string
---@field member string
---@field parties integer
---@field n_waiting integer how many wait, as last heard
---@field n_arrived integer how many have arrived, waiting or not, as last heard
---@field broken boolean was it aborted, and not reset since, as last heard?
---@field generation integer how many generations are over, tripped or failed; as of the last wait
---@field epoch integer grows when Redis has lost the barrier: together they never repeat
local Redis = {}

---Waits until all parties have arrived, in whatever process.
---@param timeout? integer milliseconds, >= 0, from this call on
---@param callback? barrier.callback
---@return integer position
---@overload fun(self: barrier.Redis, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Redis, timeout: integer?, cb: barrier.callback): barrier.Waiter
function Redis:wait(timeout, callback, ...)
  local p = private(self, "wait")
  if timeout ~= nil and type(timeout) ~= "number" then
    check(is_callable(timeout), 1, "wait", "timeout or callback expected, got %s", type(timeout))
    check(callback == nil, 2, "wait", "nothing comes after the callback")
    timeout, callback = nil, timeout
  end
  check(timeout == nil or is_integer(timeout, 0, MAX_TIMEOUT), 1, "wait",
    "timeout must be an integer >= 0, in milliseconds, got %s", shown(timeout))
  check_callback(callback, 2, "wait")
  check(select("#", ...) == 0 or (...) == nil, 3, "wait", "nothing comes after the callback")
  local wait = waits.new(p, timeout)
  p.submit(wait.request)
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

---@param body fun(position: integer): ...
function Redis:with(body)
  private(self, "with")
  check(is_callable(body), 1, "with", "body must be callable, got %s", type(body))
  return body(self:wait())
end

---One party arrives and does not wait.
---@param callback? fun(err?: barrier.Error) when Redis has counted it, or has not
function Redis:arrive(callback)
  local p = private(self, "arrive")
  check_callback(callback, 1, "arrive")
  local wait = waits.new(p)
  p.waits[wait] = nil
  wait.request.kind, wait.request.dropped = "arrive", nil
  wait.inner:wait(function()
    local kind = wait.settled[1]
    local err = kind ~= "counted" and waits.deliver(wait) or nil
    if callback ~= nil then
      callback(err)
    end
  end)
  p.submit(wait.request)
end

---Breaks the barrier until `reset`: all waits fail, in whatever process.
---@param reason? string|number|boolean
function Redis:abort(reason)
  local p = private(self, "abort")
  local kind = type(reason)
  check(kind == "string" or kind == "number" or kind == "boolean" or kind == "nil", 1, "abort",
    "the reason goes to other processes: a string, number or boolean expected, got %s", kind)
  check(#tostring(reason) <= MAX_REASON, 1, "abort",
    "the reason must have at most %d bytes, not %d", MAX_REASON, #tostring(reason))
  p.submit { kind = "abort", reason = waits.encode_reason(reason), done = p.rest }
end

---Back to the empty state, in whatever process.
function Redis:reset()
  local p = private(self, "reset")
  p.submit { kind = "reset", done = function()
    p.client.heard.broken = false
  end }
end

---Takes a coroutine out: its `wait` raises a CancelledError.
---@param co thread
---@return boolean found
function Redis:cancel(co)
  local p = private(self, "cancel")
  check(type(co) == "thread", 1, "cancel", "coroutine expected, got %s", type(co))
  for wait in pairs(p.waits) do
    if wait.co == co and wait.inner:cancel(co) then
      waits.leave(wait)
      return true
    end
  end
  return false
end

---Leaves the barrier. What waits fails, here and, if there are other members, there too.
---@param callback? fun() called from the loop, once Redis knows, or does not answer
function Redis:close(callback)
  local p = private(self, "close")
  check_callback(callback, 1, "close")
  local done = barrier.new(2)
  waits.owners[done] = self
  done:wait(function()
    if callback ~= nil then
      callback()
    end
  end)
  p.close(function()
    done:arrive()
  end)
end

local GETTERS = {
  name = function(p) return p.client.name end,
  member = function(p) return p.client.member end,
  parties = function(p) return p.client.parties end,
  n_waiting = function(p) return p.client.heard.waiting end,
  n_arrived = function(p) return p.client.heard.arrived end,
  broken = function(p) return p.client.heard.broken end,
  generation = function(p) return p.generation end,
  epoch = function(p) return p.epoch end,
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
  local client = private(self, "tostring").client
  local heard = client.heard
  return ('<barrier.Redis object "%s" of "%s" [%s]>'):format(client.name, client.member,
    heard.broken and "broken" or ("filling, arrived:%d/%d"):format(heard.arrived, client.parties))
end

---What a barrier is made of.
local function assemble(self, client)
  local p = { self = self, client = client, waits = {}, generation = 0, epoch = 0 }
  local closing -- callbacks of close
  function p.submit(request)
    local refused = closing and "the barrier is closed" or client.replaced
    if not refused then
      client:submit(request)
      p.rest()
    elseif request.refuse then
      barrier.new(1):wait(function() -- in a turn of the loop
        request.refuse(refused, true)
      end)
    end
  end
  function p.withdraw(wait)
    client:submit {
      kind = "withdraw", target = wait.request, belief = wait.request.belief,
      done = function(reply)
        client:forget(wait.request)
        if reply[1] == "withdrawn" and not wait.settled then
          waits.time_out(wait)
        elseif reply[1] ~= "withdrawn" then
          waits.settle(wait, reply)
        end
      end,
    }
  end
  ---Only as long as there is something to wait for does it keep the loop alive.
  function p.rest()
    local busy = next(p.waits) or client.queue[1] or client.low < client.next or client.leaving
    busy = busy and true or false
    if client.timer and client.busy ~= busy then
      client.busy = busy
      client.timer[busy and "ref" or "unref"](client.timer)
    end
  end
  function p.close(on_closed)
    local first = not closing
    closing = closing or {}
    if client.state == "closed" then
      return on_closed()
    end
    closing[#closing + 1] = on_closed
    if first then
      client:refuse_all "the barrier is closed"
      client:leave(function()
        for _, f in ipairs(closing) do
          f()
        end
      end)
      p.rest()
    end
  end
  client.on_rest = p.rest
  function client.on_join(epoch, generation)
    if p.epoch == 0 then
      p.epoch, p.generation = epoch, generation
    end
  end
  function client.wanted()
    return next(p.waits) ~= nil
  end
  function client.on_tick()
    for wait in pairs(p.waits) do
      if wait.inner.n_waiting == 0 and not wait.settled then
        waits.leave(wait)
      end
    end
  end
  return p
end

local OPTIONS = { url = "string", member = "string", run = "string", ttl = "number" }

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
      if not is_integer(value, 100, MAX_PARTIES) then
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

---@class (exact) barrier.RedisOptions
---redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or unix://[[USER]:PASSWORD@]/PATH. Default:
---$REDIS_URL, or redis://127.0.0.1:6379/0
---@field url? string
---@field member? string who this is, for messages. Default: host, process and a random part
---@field run? string which run of a job this is
---@field ttl? integer milliseconds after which a silent member is gone; default 10000
---Makes the connection: a stream with luv's methods read_start, write and close.
---@field connect? fun(callback: fun(err?: string, stream?: table))

---The barrier of that name in a Redis server, for processes on many machines.
---@param name string
---@param parties integer >= 1
---@param options? barrier.RedisOptions
---@return barrier.Redis
function M.new(name, parties, options)
  check(type(name) == "string", 1, "redis", "name must be a string, got %s", type(name))
  check(#name > 0 and #name <= MAX_BYTES, 1, "redis", "name must have 1 to %d bytes", MAX_BYTES)
  check(is_integer(parties, 1, MAX_PARTIES), 2, "redis",
    "parties must be an integer >= 1 and < 2^31, got %s", shown(parties))
  check(options == nil or type(options) == "table", 3, "redis", "options must be a table, got %s",
    type(options))
  options = options or {}
  local problem = examine(options)
  check(not problem, 3, "redis", "%s", problem)
  local url = options.url or os.getenv "REDIS_URL" or "redis://127.0.0.1:6379/0"
  local endpoint
  endpoint, problem = protocol.endpoint(url)
  check(endpoint, 3, "redis", "%s%s", problem, options.url and "" or " (in $REDIS_URL)")
  local self = {}
  local client = Client.new {
    name = name, parties = parties, run = options.run or "", ttl = options.ttl or 10000,
    endpoint = endpoint, connect = options.connect, member = options.member,
  }
  self[PRIVATE] = assemble(self, client)
  client:start()
  return setmetatable(self, metatable)
end

---What barrier.stuck says of a local barrier that serves one in Redis.
---@param b barrier.Barrier
---@return string?
function M.describe(b)
  local self = waits.owners[b]
  local text = self and waits.missing(self[PRIVATE])
  return self and tostring(self) .. (text ~= "" and ", " .. text or "")
end

-- }===

return M
