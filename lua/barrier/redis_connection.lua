---How a member of a barrier in Redis (redis_client.lua) is connected: methods of its class. A lost
---connection is made again, with pauses that grow; nothing that arrives is trusted.
local prefix = (...):match "^(.*%.)[^.]*$" or ""
local protocol = require(prefix .. "redis_protocol")
local script = require(prefix .. "redis_script")
local environment = require(prefix .. "environment")
local uv = environment.luv()

---Does Neovim exit? Then no handle may be made or started any more.
---@type fun(): boolean
local has_left = (environment.core() or {}).has_left or function()
  return false
end

---@class barrier.RedisClient
local Connection = { has_left = has_left }

---What Redis answers when it can do better later.
local PASSING = {
  LOADING = true, BUSY = true, READONLY = true, TRYAGAIN = true, CLUSTERDOWN = true,
  MASTERDOWN = true, NOSCRIPT = true, MOVED = true, OOM = true, MISCONF = true, NOREPLICAS = true,
  UNKILLABLE = true,
}
local WORDS = {
  ECONNREFUSED = "connection refused", ECONNRESET = "connection reset", EACCES = "no permission",
  ENOENT = "no such socket", ETIMEDOUT = "no answer", EHOSTUNREACH = "no route to the host",
  ENETUNREACH = "no route to the network", EAI_NONAME = "no such host", ENOTFOUND = "no such host",
  EAI_NODATA = "no such host", EOF = "connection closed",
}

local function nothing() end

local function close(handle)
  if handle and not handle:is_closing() then
    handle:close()
  end
end
Connection.close_handle = close

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
  self.problem = problem
  self.state = "connecting"
  self.attempts = self.attempts + 1
  local most = math.min(self.ttl / 6, 1000)
  local pause = math.min(most, 5 * 2 ^ math.min(self.attempts, 12))
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
    close(connection.signal)
  end
end

---@param callback fun(err?: string, stream?: table)
local function connect_to(endpoint, callback)
  if endpoint.path then
    local pipe = uv.new_pipe(false)
    pipe:connect(endpoint.path, function(err)
      callback(err, pipe)
    end)
    return
  end
  local options = { socktype = "stream", family = "unspec" }
  local ok, problem = uv.getaddrinfo(endpoint.host, nil, options, function(err, found)
    local i = 0
    local function try(last)
      if has_left() then
        return
      end
      i = i + 1
      if err or not found[i] then
        return callback(err or last or "EAI_NONAME")
      end
      local tcp = uv.new_tcp()
      local started, refused = tcp:connect(found[i].addr, endpoint.port, function(failed)
        if failed then
          close(tcp)
          return try(failed)
        end
        tcp:nodelay(true)
        callback(nil, tcp)
      end)
      if not started then
        tcp:close()
        try(refused)
      end
    end
    try()
  end)
  if not ok then
    callback(problem)
  end
end

function Connection:open()
  local connection = { replies = {}, head = 1, tail = 0, read = protocol.reader() }
  self.connection = connection
  self.state = "connecting"
  local function connected(err, stream)
    if connection.lost or connection.stream or has_left() then
      if stream then
        pcall(stream.close, stream)
      end
      return
    end
    connection.stream = stream
    if err or not stream then
      return self:failed(tostring(err or "no stream"):match "^[^:]*", err)
    end
    self:greet(connection)
  end
  local ok, problem
  if self.connect then
    ok, problem = pcall(self.connect, connected)
  else
    ok, problem = pcall(connect_to, self.moved or self.endpoint, connected)
  end
  if not ok and not connection.lost then
    self:lose(tostring(problem))
  end
end

---It could not connect.
function Connection:failed(code, err)
  local problem = ("%s: %s"):format(WORDS[code] or tostring(err), self:place())
  self.moved = nil
  if WORDS[code] == "no such host" and self.epoch == 0 then
    return self:give_up(problem)
  end
  self:lose(problem)
end

---Sends a command with the next `write`; `on_reply` gets what Redis answers.
function Connection:send(words, on_reply, first, n)
  local connection = self.connection
  connection.tail = connection.tail + 1
  connection.replies[connection.tail] = on_reply
  local out = connection.out
  out[#out + 1] = protocol.encode(words, first, n)
end

---Sends all commands of this turn in one piece.
function Connection:write()
  local connection = self.connection
  local data = connection and connection.out
  if not data or not data[1] then
    return
  end
  connection.out = {}
  local ok, problem = pcall(connection.stream.write, connection.stream, table.concat(data))
  if not ok then
    self:lose(tostring(problem))
  end
end

---Begins to speak on a new connection, and joins.
function Connection:greet(connection)
  connection.out = {}
  pcall(uv.unref, connection.stream)
  if uv.constants.SIGPIPE then -- or a write to a connection that is lost ends the process
    connection.signal = uv.new_signal()
    connection.signal:start("sigpipe", nothing)
    connection.signal:unref()
  end
  local ok, problem = pcall(connection.stream.read_start, connection.stream, function(err, data)
    if connection.lost then
      return
    elseif not data then
      return self:lose(("%s: %s"):format(WORDS[err or "EOF"] or tostring(err), self:place()))
    end
    local problem = connection.read(data, function(value)
      if not connection.lost then
        self:receive(value)
      end
    end)
    if problem and not connection.lost then
      self:lose(problem .. ": " .. self:place())
    elseif self.connection == connection then
      self:write()
    end
  end)
  if not ok then
    return self:lose(tostring(problem))
  end
  local hello, endpoint = { "HELLO", 3 }, self.endpoint
  if endpoint.password then
    hello = { "HELLO", 3, "AUTH", endpoint.user, endpoint.password }
  end
  self:send(hello, nothing)
  if endpoint.database ~= 0 then
    self:send({ "SELECT", endpoint.database }, nothing)
  end
  self:send({ "SCRIPT", "LOAD", script }, function(sha)
    if type(sha) ~= "string" then
      self:lose("what answers there does not speak Redis's protocol: " .. self:place())
    elseif not connection.lost then
      connection.call = protocol.words {
        "EVALSHA", sha, 5, self.key, self.key .. ":leases", self.key .. ":arrivals",
        self.key .. ":free", self.key .. ":gone", self.member, self.instance, self.ttl,
      }
      self:join()
    end
  end)
  self:send({ "SUBSCRIBE", self.key }, nothing)
  self:write()
end

---An error that Redis answers.
function Connection:complain(text)
  local host, port = text:match "^MOVED %d+ (%S*):(%d+)"
  for word in text:gmatch "%u%u%u+" do
    if PASSING[word] then
      local again = self.moved
      self.moved = host and not again and {
        host = host ~= "" and host or self.endpoint.host, port = tonumber(port),
      } or nil
      if self.moved or word == "NOSCRIPT" then
        self.attempts = 0
      end
      return self:lose(text .. ": " .. self:place())
    end
  end
  if text:find "unknown command" and text:find "HELLO" then
    text = "Redis 6.0 or newer is needed"
  elseif text:find "WRONGTYPE" then
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
    return self:lose("what answers there does not speak Redis's protocol: " .. self:place())
  end
  connection.replies[connection.head] = nil
  connection.head = connection.head + 1
  if type(value) == "table" and value.error then
    return self:complain(value.error)
  end
  on_reply(value)
end

return Connection
