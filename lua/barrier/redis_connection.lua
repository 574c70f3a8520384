---A connection to Redis: where it is, RESP3, its protocol, and one command at a time. Nothing that
---arrives is trusted: neither in length, nor in depth, nor in type.
local prefix = (...):gsub("[^.]+$", "")
local script = require(prefix .. "redis_script")
local environment = require(prefix .. "environment")
local uv = environment.luv()

---Does Neovim exit? Then no handle may be made or started any more.
local has_left = environment.core().has_left

local NO_REDIS = "what answers there does not speak Redis's protocol"

---@class barrier.RedisConnection
---@field member table notified by on_ready(), on_answer(value), on_message(text), on_lost(problem),
---on_refused(problem)
---@field to barrier.RedisEndpoint
---@field stream? table
---@field is_closed? boolean
---@field greetings integer how many commands of the greeting are not answered
---@field head? string the first words of each command; nil while it greets
---@field purpose? string of the command that is not answered
local Connection = { NO_REDIS = NO_REDIS }
Connection.__index = Connection

-- {=== the URL ===

---@class barrier.RedisEndpoint
---@field host? string
---@field port? integer
---@field path? string of a socket, in place of these
---@field hello string[]
---@field database integer

local FORMS = "url must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or "
  .. "unix://[[USER]:PASSWORD@]/PATH"

local function decoded(s)
  return (s:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

---@param url string
---@return barrier.RedisEndpoint?
---@return string? problem which never shows the URL: there may be a password in it
function Connection.read_url(url)
  local scheme, login, place = url:match "^(%a+)://(.-)([^@]*)$"
  local user, password = (login or ""):match "^([^:]*):(.*)@$"
  local authority, database = (place or ""):match "^([^/?#]+)/?(%d*)$"
  local host, port = (authority or ""):match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then
    host, port = (authority or ""):match "^([^:%[%]]+):?(%d*)$"
  end
  local path = scheme == "unix" and place:match "^/.+$"
  if scheme == "rediss" then
    return nil, FORMS .. "; for TLS see the option connect"
  elseif not (path or scheme == "redis" and host) or login ~= "" and not password then
    return nil, FORMS
  end
  local endpoint = {
    host = host, port = tonumber(port ~= "" and port or 6379), path = path and decoded(path),
    database = tonumber(database ~= "" and database or 0), hello = { "HELLO", 3 },
  }
  if password then
    endpoint.hello = { "HELLO", 3, "AUTH", decoded(user ~= "" and user or "default"),
      decoded(password) }
  end
  if not path and (endpoint.port < 1 or endpoint.port > 65535) then
    return nil, "the port in url must be from 1 to 65535"
  elseif not path and endpoint.database > 2 ^ 31 - 1 then
    return nil, "the database in url must be an integer >= 0 and < 2^31"
  end
  return endpoint
end

-- }===

-- {=== the protocol ===

local MAX_BYTES, MAX_ITEMS, MAX_DEPTH = 2 ^ 16, 2 ^ 10, 8
local HEAD = 11 -- the number of words that are the same in each call

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
---@param head? string words that come first, packed
---@param n? integer how many these are
---@return string
function Connection.encode(words, head, n)
  return "*" .. #words + (n or 0) .. "\r\n" .. (head or "") .. packed(words)
end

local function integer(line)
  return #line < 17 and line:find "^[+-]?%d+$" and tonumber(line) or error(NO_REDIS, 0)
end

local LINES = { -- by their first byte, what is on a line alone
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
  local kind, line, rest = buffer:match("^([-:+_$*>%%])([^\r]*)\r\n()", at)
  if depth > MAX_DEPTH or not kind and buffer:find("^[^-:+_$*>%%]", at) then
    error(NO_REDIS, 0)
  elseif not kind then
    return nil
  elseif LINES[kind] then
    return rest, LINES[kind](line)
  end
  local n = integer(line)
  if n < 0 or n > (LISTS[kind] and MAX_ITEMS or MAX_BYTES) then
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

---A write to a connection that is lost raises SIGPIPE, which would end the process. libuv can only
---catch it, and the last handle that is closed sets it back to the default, whatever it was before.
---So one stays for good; it does not keep the loop alive.
local sigpipe

local function catch_sigpipe()
  if uv.constants.SIGPIPE and not (sigpipe and not sigpipe:is_closing()) then
    sigpipe = uv.new_signal()
    sigpipe:start("sigpipe", function() end)
    sigpipe:unref()
  end
end

---For barrier.close: without a connection the handle is not needed.
function Connection.release()
  if sigpipe and not sigpipe:is_closing() then
    sigpipe:close()
  end
end

---Connects to a socket, or to one of the addresses of a host, each time to another.
---@param attempt integer
---@param callback fun(err?: string, stream?: table)
local function connect_to(to, attempt, callback)
  local function connect(stream, address, port)
    local function connected(err)
      if err then
        stream:close()
      end
      callback(err, not err and stream or nil)
    end
    local started, problem
    if port then
      started, problem = stream:connect(address, port, connected)
    else
      started, problem = stream:connect(address, connected)
    end
    if not started then
      connected(problem)
    end
  end
  if to.path then
    return connect(uv.new_pipe(false), to.path)
  end
  assert(uv.getaddrinfo(to.host, nil, { socktype = "stream" }, function(err, found)
    if err or not found[1] or has_left() then
      return callback(err or "EAI_NONAME")
    end
    local stream = uv.new_tcp()
    stream:nodelay(true)
    connect(stream, found[attempt % #found + 1].addr, to.port)
  end))
end

---Connects as the fields endpoint, moved, attempts and connect of the member say; its field
---connection is the connection as long as it is not lost.
---@param member barrier.RedisMember
function Connection.open(member)
  local to = member.moved or member.endpoint
  local self = setmetatable({ member = member, to = to, greetings = 4 }, Connection)
  member.connection = self
  local function connected(err, stream)
    if self.is_closed or self.stream or has_left() then
      if stream then
        pcall(stream.close, stream)
      end
    elseif err or not stream then
      self:lose(err or "no stream")
    else
      self.stream = stream
      pcall(uv.unref, stream)
      self:greet()
    end
  end
  local ok, problem = pcall(member.connect or function()
    connect_to(self.to, member.attempts, connected)
  end, connected)
  if not ok and not self.is_closed then
    self:lose(problem)
  end
end

function Connection:close()
  self.is_closed, self.member.connection = true, nil
  if self.stream then
    pcall(self.stream.close, self.stream)
  end
end

---Where Redis is, for messages.
function Connection:place()
  return ": " .. (self.member.connect and "the option connect" or self.to.path
    or self.to.host .. ":" .. self.to.port)
end

---@param problem any a text, or an error of luv, such as "EAI_NONAME: unknown node or service"
---@param moved? barrier.RedisEndpoint
function Connection:lose(problem, moved)
  problem = WORDS[tostring(problem):match "^[^:]*"] or tostring(problem)
  self:close()
  if problem == "no such host" and self.member.epoch == 0 then
    return self.member:on_refused(problem .. self:place())
  end
  self.member:on_lost(problem .. self:place(), moved)
end

-- }===

-- {=== speaking ===

function Connection:write(data)
  local ok, problem = pcall(self.stream.write, self.stream, data)
  if not ok and not self.is_closed then
    self:lose(problem)
  end
end

---Listens, and says hello.
function Connection:greet()
  catch_sigpipe()
  local read = Connection.reader()
  local function on_read(err, data)
    local trouble = err or not data and "EOF" or not self.is_closed and read(data, function(value)
      if not self.is_closed then
        self:receive(value)
      end
    end)
    if trouble and not self.is_closed then
      self:lose(trouble)
    end
  end
  local ok, problem = pcall(self.stream.read_start, self.stream, on_read)
  if not ok then
    return self:lose(problem)
  end
  local endpoint, encode = self.member.endpoint, Connection.encode
  self:write(encode(endpoint.hello) .. encode { "SELECT", endpoint.database }
    .. encode { "SUBSCRIBE", self.member.key } .. encode { "SCRIPT", "LOAD", script })
end

---Runs the script, once Redis has answered what came before.
---@param words string[]
---@param purpose string of the call
function Connection:call(words, purpose)
  self.purpose = purpose
  self:write(Connection.encode(words, self.head, HEAD))
end

---What Redis answers when it can do better later.
local PASSING = {}
for word in ("LOADING BUSY READONLY TRYAGAIN CLUSTERDOWN MASTERDOWN NOSCRIPT MOVED OOM MISCONF "
    .. "NOREPLICAS"):gmatch "%u+" do
  PASSING[word] = true
end

---Takes an error that Redis answers; in Redis 6 the word of one in a script comes after a minus.
function Connection:complain(text)
  local word = text:match "^ERR .* %-(%u+)" or text:match "^%u+"
  local member = self.member
  if PASSING[word] then
    local host, port = text:match "^MOVED %d+ (%S*):(%d+)"
    return self:lose(text, host and self.to == member.endpoint
      and { host = host ~= "" and host or self.to.host, port = tonumber(port) } or nil)
  elseif text:find "unknown command.*HELLO" then
    text = "Redis 6.0 or newer is needed"
  elseif word == "WRONGTYPE" then
    text = "WRONGTYPE: the key " .. member.key .. " is something else in Redis"
  end
  self:close()
  member:on_refused(text .. self:place())
end

local function is_strings(list)
  for _, value in ipairs(list) do
    if type(value) ~= "string" then
      return false
    end
  end
  return list[1] ~= nil
end

function Connection:receive(value)
  local member, list, purpose = self.member, type(value) == "table" and value or {}, self.purpose
  if list.push and list[1] ~= "subscribe" then
    if list[1] == "message" then
      member:on_message(tostring(list[3]))
    end
  elseif list.error then
    self:complain(list.error)
  elseif self.greetings > 1 then
    self.greetings = self.greetings - 1
  elseif self.greetings == 1 and type(value) == "string" then
    self.greetings, self.head = 0, packed {
      "EVALSHA", value, 3, member.key, member.key .. ":absent", member.key .. ":present",
      member.member, member.instance, member.ttl, member.parties, member.run,
    }
    member:sync()
  elseif purpose and is_strings(list) then
    self.purpose = nil
    member:on_answer(list, purpose)
  else
    self:lose(NO_REDIS)
  end
end

-- }===

return Connection
