---How a member of a barrier in Redis (redis_client.lua) is connected: methods of its class. It has
---RESP3, the protocol of Redis. Nothing that arrives is trusted: neither in length, nor in depth,
---nor in type. A lost connection is made again, with pauses that grow.
local prefix = (...):gsub("[^.]+$", "")
local script = require(prefix .. "redis_script")
local environment = require(prefix .. "environment")
local uv = environment.luv()

---Does Neovim exit? Then no handle may be made or started any more.
local has_left = environment.core().has_left

---@class barrier.RedisClient
local Connection = { has_left = has_left }

-- {=== the protocol ===

local MAX_BYTES, MAX_ITEMS, MAX_DEPTH = 2 ^ 16, 2 ^ 10, 8
local NO_REDIS = "what answers there does not speak Redis's protocol"
Connection.NO_REDIS = NO_REDIS

---@param words (string|number)[]
---@return string
local function packed(words)
  local parts = {}
  for i, word in ipairs(words) do
    word = type(word) == "number" and ("%.0f"):format(word) or word
    parts[i] = "$" .. #word .. "\r\n" .. word .. "\r\n"
  end
  return table.concat(parts)
end

---@param words (string|number)[]
---@param first? string the words of `packed` that come first
---@param n? integer how many these are
---@return string
function Connection.encode(words, first, n)
  return "*" .. #words + (n or 0) .. "\r\n" .. (first or "") .. packed(words)
end

local function integer(line)
  local n = #line < 17 and line:find "^[+-]?%d+$" and tonumber(line)
  return n or error(NO_REDIS, 0)
end

local SIMPLE = { -- by their first byte, what is on a line alone
  [":"] = integer,
  ["+"] = tostring,
  ["-"] = function(line) return { error = line } end,
  ["_"] = function() return false end,
}
local LISTS = { ["*"] = 1, [">"] = 1, ["%"] = 2 } -- items for each counted

---Reads a value at `at`. Raises an error if that is none.
---@return integer? rest where the next one begins; nil if this one has not come in full
---@return any value a string, integer, array, error { error = text }, push { push = true, ... };
---false for null
local function parse(buffer, at, depth)
  local kind = buffer:sub(at, at)
  local simple, stop = SIMPLE[kind], buffer:find("\r\n", at, true)
  if not (simple or LISTS[kind] or kind == "$" or kind == "") or depth > MAX_DEPTH then
    error(NO_REDIS, 0)
  elseif not stop then
    return nil
  end
  local line, rest = buffer:sub(at + 1, stop - 1), stop + 2
  if simple then
    return rest, simple(line)
  end
  local n = integer(line)
  if n < 0 or n > (kind == "$" and MAX_BYTES or MAX_ITEMS) then
    error(NO_REDIS, 0)
  elseif kind == "$" then
    local after = rest + n + 2
    return #buffer >= after - 1 and after or nil, buffer:sub(rest, rest + n - 1)
  end
  local list = { push = kind == ">" or nil }
  for i = 1, n * LISTS[kind] do
    rest, list[i] = parse(buffer, rest, depth + 1)
    if not rest then
      return nil
    end
  end
  return rest, list
end

---@return fun(data: string, on_value: fun(value: any)): string? problem takes what has arrived
function Connection.reader()
  local buffer = ""
  return function(data, on_value)
    buffer = buffer .. data
    local ok, rest, value = pcall(parse, buffer, 1, 1)
    while ok and rest do
      buffer = buffer:sub(rest)
      on_value(value)
      ok, rest, value = pcall(parse, buffer, 1, 1)
    end
    return not (ok and #buffer <= 2 * MAX_BYTES) and NO_REDIS or nil
  end
end

-- }===

-- {=== connecting ===

local WORDS = {
  ECONNREFUSED = "connection refused", ECONNRESET = "connection reset", EACCES = "no permission",
  ENOENT = "no such socket", ETIMEDOUT = "no answer", EHOSTUNREACH = "no route to the host",
  ENETUNREACH = "no route to the network", EAI_NONAME = "no such host", EAI_NODATA = "no such host",
  EOF = "connection closed",
}

local function nothing() end

---A write to a connection that is lost raises SIGPIPE, which would end the process. libuv can only
---catch it, and the last handle that is closed sets it back to the default, whatever it was before.
---So one stays for good; it does not keep the loop alive.
local sigpipe

local function catch_sigpipe()
  if uv.constants.SIGPIPE and not (sigpipe and not sigpipe:is_closing()) then
    sigpipe = uv.new_signal()
    sigpipe:start("sigpipe", nothing)
    sigpipe:unref()
  end
end

function Connection.close_handle(handle)
  if handle and not handle:is_closing() then
    handle:close()
  end
end

---For barrier.close: without a connection the handle is not needed.
function Connection.release()
  Connection.close_handle(sigpipe)
end

---Where Redis is, for messages.
function Connection:place()
  local to = self.moved or self.endpoint
  return self.connect and "the option connect" or to.path or to.host .. ":" .. to.port
end

---Closes the connection, and makes another one after a pause.
function Connection:lose(problem)
  self:disconnect()
  if not self.timer or has_left() then
    return
  end
  self.problem = problem .. ": " .. self:place()
  self.state, self.attempts = "connecting", self.attempts + 1
  local pause = math.min(self.ttl / 6, 1000, 5 * 2 ^ math.min(self.attempts, 12))
  -- Jittered by the clock: math.random begins alike in every process.
  pause = pause * (0.5 + uv.hrtime() / 1000 % 1000 / 2000)
  self.soon:start(math.floor(pause), 0, function()
    self:open()
  end)
end

function Connection:disconnect()
  local connection = self.connection
  self.connection, self.beating, self.silent = nil, nil, 0
  if connection then
    connection.lost = true
    if connection.stream then
      pcall(connection.stream.close, connection.stream)
    end
  end
end

---@param callback fun(err?: string, stream?: table)
local function connect_to(endpoint, callback)
  local function try(found, i, last)
    local to = found[i]
    if not to or has_left() then
      return callback(last or "EAI_NONAME")
    end
    local stream = endpoint.path and uv.new_pipe(false) or uv.new_tcp()
    local function connected(err)
      if err then
        stream:close()
        return try(found, i + 1, err)
      elseif not endpoint.path then
        stream:nodelay(true)
      end
      callback(nil, stream)
    end
    local started, problem
    if endpoint.path then
      started, problem = stream:connect(endpoint.path, connected)
    else
      started, problem = stream:connect(to.addr, endpoint.port, connected)
    end
    if not started then
      connected(problem)
    end
  end
  if endpoint.path then
    return try({ {} }, 1)
  end
  assert(uv.getaddrinfo(endpoint.host, nil, { socktype = "stream" }, function(err, found)
    try(found or {}, 1, err)
  end))
end

function Connection:open()
  local connection = { replies = {}, head = 1, tail = 0, out = {} }
  self.connection, self.state = connection, "connecting"
  local function connected(err, stream)
    if connection.lost or connection.stream or has_left() then
      if stream then
        pcall(stream.close, stream)
      end
      return
    end
    connection.stream = stream
    if err or not stream then
      return self:failed(err or "no stream")
    end
    self:greet(connection)
  end
  local ok, problem = pcall(self.connect or function(callback)
    connect_to(self.moved or self.endpoint, callback)
  end, connected)
  if not ok and not connection.lost then
    self:failed(problem)
  end
end

---It could not connect, for an error of luv, such as "EAI_NONAME: unknown node or service".
function Connection:failed(err)
  local problem = WORDS[tostring(err):match "^[^:]*"] or tostring(err)
  if problem == "no such host" and self.epoch == 0 then
    return self:give_up(problem .. ": " .. self:place())
  end
  self:lose(problem)
  self.moved = nil
end

---Reads what Redis sends; each turn's commands are written in one piece.
---@return boolean started
function Connection:listen(connection)
  local read = Connection.reader()
  local ok, problem = pcall(connection.stream.read_start, connection.stream, function(err, data)
    if connection.lost then
      return
    elseif not data then
      return self:failed(err or "EOF")
    end
    local trouble = read(data, function(value)
      if not connection.lost then
        self:receive(value)
      end
    end)
    if trouble and not connection.lost then
      self:lose(trouble)
    elseif self.connection == connection then
      self:write()
    end
  end)
  if not ok then
    self:lose(tostring(problem))
  end
  return ok
end

---Begins to speak on a new connection, and joins.
function Connection:greet(connection)
  pcall(uv.unref, connection.stream)
  catch_sigpipe()
  if not self:listen(connection) then
    return
  end
  local endpoint = self.endpoint
  self:send(endpoint.hello, nothing)
  if endpoint.database ~= 0 then
    self:send({ "SELECT", endpoint.database }, nothing)
  end
  self:send({ "SCRIPT", "LOAD", script }, function(sha)
    if type(sha) ~= "string" then
      return self:lose(NO_REDIS)
    end
    connection.call = packed {
      "EVALSHA", sha, 3, self.key, self.key .. ":leases", self.key .. ":records", self.member,
      self.instance, self.ttl,
    }
    self:join()
  end)
  self:send({ "SUBSCRIBE", self.key }, nothing)
  self:write()
end

---Sends a command with the next `write`; `on_reply` gets what Redis answers.
---@param first? string the first nine words, packed
function Connection:send(words, on_reply, first)
  local connection = self.connection
  connection.tail = connection.tail + 1
  connection.replies[connection.tail] = on_reply
  local out = connection.out
  out[#out + 1] = self.encode(words, first, first and 9)
end

function Connection:write()
  local connection = self.connection
  local out = connection and connection.out
  if not out or not out[1] then
    return
  end
  connection.out = {}
  local ok, problem = pcall(connection.stream.write, connection.stream, table.concat(out))
  if not ok then
    self:lose(tostring(problem))
  end
end

---What Redis answers when it can do better later.
local PASSING = {}
for word in ("LOADING BUSY READONLY TRYAGAIN CLUSTERDOWN MASTERDOWN NOSCRIPT MOVED OOM MISCONF "
    .. "NOREPLICAS"):gmatch "%u+" do
  PASSING[word] = true
end

---An error that Redis answers; in Redis 6 the word of one in a script comes after a minus.
function Connection:complain(text)
  local word = text:match "^ERR .* %-(%u+)" or text:match "^%u+"
  if PASSING[word] then
    local host, port = text:match "^MOVED %d+ (%S*):(%d+)"
    self:lose(text)
    self.moved = host and not self.moved
      and { host = host ~= "" and host or self.endpoint.host, port = tonumber(port) } or nil
    return
  elseif text:find "unknown command.*HELLO" then
    text = "Redis 6.0 or newer is needed"
  elseif word == "WRONGTYPE" then
    text = "WRONGTYPE: the key " .. self.key .. " is something else in Redis"
  end
  self:give_up(text .. ": " .. self:place())
end

function Connection:receive(value)
  local connection = self.connection
  if type(value) == "table" and value.push then
    if value[1] == "message" then
      return self:on_message(tostring(value[3]))
    elseif value[1] ~= "subscribe" then
      return
    end
  end
  local on_reply = connection.replies[connection.head]
  if not on_reply then
    return self:lose(NO_REDIS)
  end
  connection.replies[connection.head] = nil
  connection.head = connection.head + 1
  if type(value) == "table" and value.error then
    return self:complain(value.error)
  end
  on_reply(value)
end

-- }===

return Connection
