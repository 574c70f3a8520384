---How a member of a barrier in Redis (see redis.lua) is connected: methods of its class. It has
---RESP3, the protocol of Redis. Nothing that arrives is trusted: neither in length, nor in depth,
---nor in type. A lost connection is made again, with pauses that grow.
local prefix = (...):gsub("[^.]+$", "")
local script = require(prefix .. "redis_script")
local environment = require(prefix .. "environment")
local uv = environment.luv()
local byte, find, sub = string.byte, string.find, string.sub

---@class barrier.RedisMember
---@field endpoint table see `read_url` in redis.lua
---@field link? { stream?: table, buffer: string } the connection that is there, or being made
---@field greetings integer how many commands of the greeting Redis has not answered
---@field head? string of each call, once it is greeted: the words that are always the same
---@field purpose? string of the call that Redis has not answered
---@field silence integer thirds of `ttl` without an answer
---@field [string] any
local Member = {}
Member.__index = Member
Member.has_left = environment.core().has_left -- then no handle may be made or started

-- {=== the protocol ===

local MAX_BYTES, MAX_ITEMS, MAX_DEPTH = 2 ^ 16, 2 ^ 10, 8
Member.NO_REDIS = "what answers there does not speak Redis's protocol"

---@param words string[] they are changed
---@return string
local function packed(words)
  for i = 1, #words do
    words[i] = "$" .. #words[i] .. "\r\n" .. words[i] .. "\r\n"
  end
  return table.concat(words)
end

---@param words string[] they are changed
---@return string
function Member.encode(words)
  return "*" .. #words .. "\r\n" .. packed(words)
end

local BULK, PUSH = ("$>"):byte(1, 2)
local LISTS = { [("*"):byte()] = 1, [PUSH] = 1, [("%"):byte()] = 2 } -- items for each counted
local LINES = { -- what is on a line alone
  [("+"):byte()] = tostring,
  [(":"):byte()] = tostring,
  [("-"):byte()] = function(line) return { error = line } end,
  [("_"):byte()] = function() return false end,
}

local function length(digits, most)
  local n = #digits < 9 and tonumber(digits)
  return n and n >= 0 and n <= most and n % 1 == 0 and n or error(Member.NO_REDIS, 0)
end

---Reads a value at `at`. Raises an error if that is none.
---@return integer? rest where the next one begins; nil if this one has not come in full
---@return any value a string, array, error { error = text }, push { push = true, ... }; false for
---null
function Member.parse(buffer, at, depth)
  local kind, eol = byte(buffer, at), find(buffer, "\r\n", at, true)
  if depth > MAX_DEPTH or kind and not (kind == BULK or LISTS[kind] or LINES[kind]) then
    error(Member.NO_REDIS, 0)
  elseif not eol then
    return nil
  end
  local line, rest = sub(buffer, at + 1, eol - 1), eol + 2
  if kind == BULK then
    local last = eol + 1 + length(line, MAX_BYTES)
    return #buffer >= last + 2 and last + 3 or nil, sub(buffer, rest, last)
  elseif LINES[kind] then
    return rest, LINES[kind](line)
  end
  local list = {}
  list.push = kind == PUSH or nil
  for i = 1, length(line, MAX_ITEMS) * LISTS[kind] do
    rest, list[i] = Member.parse(buffer, rest, depth + 1)
    if not rest then
      return nil
    end
  end
  return rest, list
end

---Takes what has arrived. Nothing is sent from here: a request that this calls for is sent in the
---next turn of the loop.
function Member:read(link, data)
  local buffer = link.buffer .. data
  while buffer ~= "" and self.link == link do
    local rest = self:take_usual(buffer)
    if not rest then
      local ok, after, value = pcall(Member.parse, buffer, 1, 1)
      if not ok or not after and #buffer > 2 * MAX_BYTES then
        return self:lose(Member.NO_REDIS)
      elseif not after then
        break
      end
      rest = after
      self:receive(value)
    end
    buffer = sub(buffer, rest)
  end
  link.buffer = buffer
end

-- }===

-- {=== connecting ===

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
function Member.release()
  if sigpipe and not sigpipe:is_closing() then
    sigpipe:close()
  end
end

---Connects to a socket, or to one of the addresses of a host, each time to another.
---@param callback fun(err?: string, stream?: table)
local function connect_to(to, attempt, callback)
  local stream
  local function on_connected(err)
    callback(err, stream)
  end
  if to.path then
    stream = uv.new_pipe(false)
    stream:connect(to.path, on_connected)
    return
  end
  assert(uv.getaddrinfo(to.host, nil, { socktype = "stream" }, function(err, found)
    if err or not found[1] or Member.has_left() then
      return callback(err or "EAI_NONAME")
    end
    stream = uv.new_tcp()
    stream:nodelay(true)
    local started, problem = stream:connect(found[attempt % #found + 1].addr, to.port, on_connected)
    if not started then
      callback(problem, stream)
    end
  end))
end

function Member:open()
  local link, to = { buffer = "" }, self.moved or self.endpoint
  self.link, self.greetings = link, 4
  local function on_connected(err, stream)
    local is_wanted = self.link == link and not link.stream and not Member.has_left()
    if stream and (err or not is_wanted) then
      pcall(stream.close, stream)
    end
    if is_wanted and (err or not stream) then
      self:lose(err or "no stream")
    elseif is_wanted then
      link.stream = stream
      self:greet(link)
    end
  end
  local ok, problem = pcall(self.connect or function()
    connect_to(to, self.attempts, on_connected)
  end, on_connected)
  if not ok and self.link == link then
    self:lose(problem)
  end
end

function Member:disconnect()
  local stream = self.link and self.link.stream
  self.link, self.head, self.purpose = nil, nil, nil
  if stream then
    pcall(stream.close, stream)
  end
end

local WORDS = {
  ECONNREFUSED = "connection refused", ECONNRESET = "connection reset", EACCES = "no permission",
  ENOENT = "no such socket", ETIMEDOUT = "no answer", EHOSTUNREACH = "no route to the host",
  ENETUNREACH = "no route to the network", EAI_NONAME = "no such host", EAI_NODATA = "no such host",
  EOF = "connection closed",
}

---A problem, and where Redis is, for messages.
---@param problem any a text, or an error of luv, such as "EAI_NONAME: unknown node or service"
function Member:located(problem)
  local to = self.moved or self.endpoint
  problem = tostring(problem)
  return (WORDS[problem:match "^[^:]*"] or problem) .. ": "
    .. (self.connect and "the option connect" or to.path or to.host .. ":" .. to.port)
end

---Makes another connection after a pause.
---@param moved? table where Redis has said that it is
function Member:lose(problem, moved)
  local text = self:located(problem)
  self:disconnect()
  self.problem, self.moved, self.attempts = text, moved, self.attempts + 1
  if self.last_epoch == 0 and tostring(problem):find "^EAI_NO" then -- the URL is wrong
    self:refuse(text)
  elseif not Member.has_left() then
    local pause = math.min(self.ttl / 6, 1000, 5 * 2 ^ math.min(self.attempts, 12))
    -- Jittered by the clock: math.random begins alike in every process.
    pause = pause * (0.5 + uv.hrtime() / 1000 % 1000 / 2000)
    self.pause:start(math.floor(pause), 0, function()
      self:open()
    end)
  end
end

function Member:is_idle()
  return not self.link and not (self.pause and self.pause:is_active())
end

-- }===

-- {=== speaking ===

---Calls a method of the stream, which may be the user's.
function Member:try(link, method, argument)
  local ok, problem = pcall(link.stream[method], link.stream, argument)
  if not ok and self.link == link then
    self:lose(problem)
  end
end

---Says hello, and listens.
function Member:greet(link)
  catch_sigpipe()
  pcall(uv.unref, link.stream)
  local encode = Member.encode
  self:try(link, "read_start", function(err, data)
    if self.link == link and data and not err then
      self:read(link, data)
    elseif self.link == link then
      self:lose(err or "EOF")
    end
  end)
  self:try(link, "write", self.endpoint.hello .. encode { "SELECT", self.endpoint.database }
    .. encode { "SUBSCRIBE", self.key } .. encode { "SCRIPT", "LOAD", script })
end

---Runs the script, once Redis has answered what came before.
---@param words string[] those that are not in each call
function Member:call(purpose, words)
  self.purpose = purpose
  self:try(self.link, "write", "*" .. #words + 9 .. "\r\n" .. self.head .. packed(words))
end

---What Redis answers when it can do better later.
local PASSING = " LOADING BUSY READONLY TRYAGAIN CLUSTERDOWN MASTERDOWN NOSCRIPT MOVED OOM MISCONF "
  .. "NOREPLICAS "

---Takes an error that Redis answers; in Redis 6 the word of one in a script comes after a minus.
function Member:complain(text)
  local word = text:match "^ERR .* %-(%u+)" or text:match "^%u+" or ""
  if PASSING:find(" " .. word .. " ", 1, true) then
    local host, port = text:match "^MOVED %d+ (%S*):(%d+)"
    return self:lose(text, host and not self.moved
      and { host = host ~= "" and host or self.endpoint.host, port = tonumber(port) } or nil)
  elseif text:find "unknown command.*HELLO" then
    text = "Redis 6.0 or newer is needed"
  elseif word == "WRONGTYPE" then
    text = "WRONGTYPE: the key " .. self.key .. " is something else in Redis"
  end
  self:refuse(self:located(text))
end

function Member:receive(value)
  local list, purpose = type(value) == "table" and value or {}, self.purpose
  if list.push and list[1] ~= "subscribe" then
    if list[1] == "message" then
      self:on_message(tostring(list[3]))
    end
  elseif list.error then
    self:complain(list.error)
  elseif self.greetings > 1 then
    self.greetings = self.greetings - 1
  elseif self.greetings == 1 and type(value) == "string" then
    self.greetings, self.beats, self.head = 0, true, packed {
      "EVALSHA", value, "1", self.key, self.member, self.instance, ("%d"):format(self.ttl),
      ("%d"):format(self.parties), self.run,
    }
    self:soon()
  elseif purpose then
    self:on_answer(purpose, list)
  else
    self:lose(Member.NO_REDIS)
  end
end

-- }===

-- {=== its life ===

function Member:start()
  if not Member.has_left() then
    self.timer, self.pause = uv.new_timer(), uv.new_timer()
    self.pause:unref()
    local period = math.floor(self.ttl / 3)
    self.timer:start(period, period, function()
      self:tick()
    end)
    self:soon()
  end
end

---Three times in `ttl`: renews the lease, and reads the truth.
function Member:tick()
  local is_free = self.head and not self.purpose
  self.silence = (is_free or self:is_idle()) and 0 or self.silence + 1
  if self.silence == 9 then
    self:fail_all(("Redis has not answered for %d ms (%s)"):format(3 * self.ttl,
      self.problem or "no answer"))
  end
  if self.leaving and self.silence > 3 then
    return self:stop() -- the lease has to run out
  elseif not is_free and self.link and self.silence % 2 == 0 then
    self:lose "no answer"
  elseif self.head then
    self.beats = true
    self:sync() -- or the next call is one, if there is one under way
  end
  self:tidy()
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

function Member:stop()
  self:disconnect()
  self.timer:close()
  self.pause:close()
  self.timer, self.pause, self.leaving = nil, nil, false
  self.closed:arrive()
end

function Member:close()
  if not self.timer then
    self.closed:arrive()
  elseif not self.leaving then
    self.ended, self.leaving, self.silence = "the barrier is closed", true, 0
    self:fail_all(self.ended)
    if self:is_idle() or self.last_epoch == 0 and not self.purpose then
      self:stop()
    else
      self:soon()
    end
  end
end

-- }===

return Member
