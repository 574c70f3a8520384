---Processes, on one machine or many, meet through a Redis server (6.0 or newer):
---
---    lua examples/redis_rendezvous.lua NAME PARTIES [ROUNDS]
---
---PARTIES processes with the same NAME go on once all have arrived, ROUNDS times (once). The
---environment may set REDIS_HOST (127.0.0.1), REDIS_PORT (6379), TTL (3000 ms) and TIMEOUT (60000
---ms). A member is dead when its connection closes or, since a machine may vanish without closing
---it, when it has not renewed its lease for TTL ms. That breaks the meeting for the others, as does
---a member that gives up after TIMEOUT. Whoever comes later begins the next meeting.
local uv = require "luv"
local barrier = require "barrier"

---With ARGV[3] it arrives, and returns generation and position. Without, it renews the lease,
---and returns 0 if the meeting is over. Each member has a channel that tells how that ended.
local SCRIPT = [[
local name, me, ttl, parties = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local generation = tonumber(redis.call('HGET', name, 'generation') or 0)
local leases = name .. ':' .. generation -- a sorted set of the members, by end of lease
local ended -- why, if this call ends the meeting

local function finish(reason) -- '': everyone is there
  ended = reason
  for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('PUBLISH', name .. ':' .. member, reason)
  end
  redis.call('DEL', leases)
  generation = redis.call('HINCRBY', name, 'generation', 1)
  leases = name .. ':' .. generation
end

local members = redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local listeners = redis.call('PUBSUB', 'NUMSUB', name .. ':' .. members[i])[2]
  if listeners == 0 or tonumber(members[i + 1]) <= now then
    finish(members[i] .. ' is gone')
    break
  end
end
local joined = { generation, redis.call('ZCARD', leases) }
local agreed = joined[2] > 0 and redis.call('HGET', name, 'parties') or parties
local present = redis.call('ZSCORE', leases, me)
if parties and agreed ~= parties then
  return { err = 'PARTIES is ' .. agreed .. ' for the others, not ' .. parties }
elseif parties and present then
  return { err = me .. ' is already there' }
elseif not parties and not present then
  return ended and { err = ended } or 0 -- from Redis 7 on, messages to oneself come after this
elseif joined[2] + 1 == tonumber(parties) then
  finish('')
else
  redis.call('ZADD', leases, now + ttl, me)
  redis.call('EXPIRE', leases, 86400)
end
redis.call('HSET', name, 'parties', agreed)
redis.call('EXPIRE', name, 86400)
return parties and joined or 1
]]

local function integer(what, text, min, max)
  local n = tonumber(text:match "^%d+$")
  if not n or n < min or n > max then
    io.stderr:write("usage: redis_rendezvous.lua NAME PARTIES [ROUNDS]\n", what)
    io.stderr:write((" must be an integer from %d to %d\n"):format(min, max))
    os.exit(1)
  end
  return n
end

integer("the number of arguments", tostring(#arg), 2, 3)
local parties = integer("PARTIES", arg[2], 1, 2 ^ 31 - 1)
local all_rounds = integer("ROUNDS", arg[3] or "1", 1, 2 ^ 31 - 1)
local host, name = os.getenv "REDIS_HOST" or "127.0.0.1", "rendezvous:{" .. arg[1] .. "}"
local port = integer("REDIS_PORT", os.getenv "REDIS_PORT" or "6379", 1, 65535)
local ttl = integer("TTL", os.getenv "TTL" or "3000", 1, 2 ^ 31 - 1)
local timeout = integer("TIMEOUT", os.getenv "TIMEOUT" or "60000", 1, 2 ^ 31 - 1)
local me = ("%s:%d"):format(uv.os_gethostname(), uv.os_getpid())

local b = barrier.new(2) -- the two are this program and Redis
local socket, beat = uv.new_tcp(), uv.new_timer()
local beats = 0 -- since Redis was last heard
local buffer = "" -- what Redis has sent, and nobody has read yet
local joined = false -- does Redis count this process in a meeting?

---Closes the connection. Whoever waits at the barrier, or will, fails with the reason.
local function leave(reason)
  if not socket:is_closing() then
    socket:close()
    beat:close()
    b:abort(reason)
  end
end

---Sends a command in RESP, Redis' protocol.
local function send(...)
  local words = { ... }
  for i, word in ipairs(words) do
    words[i] = "$" .. #tostring(word) .. "\r\n" .. word .. "\r\n"
  end
  socket:write { "*" .. #words .. "\r\n", table.concat(words) }
end

---Reads a value in RESP3 at `at`: returns where the next one begins, the value, and its
---kind, or nothing if the value has not come in full.
local function parse(at)
  local kind, line, rest = buffer:match("^(.)([^\r]*)\r\n()", at)
  local n, list = tonumber(line), {}
  if not kind or kind == "$" and #buffer <= rest + n then
    return
  elseif kind == "$" then
    return rest + n + 2, buffer:sub(rest, rest + n - 1), kind
  elseif kind == ":" then
    return rest, n, kind
  elseif not kind:find "[*>%%]" then -- an error, or this is no Redis
    return rest, kind == "-" and line or kind .. line, "-"
  end
  for i = 1, kind == "%" and 2 * n or n do -- a map; an array or a message
    rest, list[i] = parse(rest)
    if not rest then
      return
    end
  end
  return rest, list, kind
end

local function receive(value, kind)
  if kind == "*" then
    joined = true
    print(("joined generation %d, position %d of %d"):format(value[1], value[2], parties))
  end
  if kind == "*" and value[2] + 1 == parties or kind == ">" and value[3] == "" then
    joined = false
    b:arrive()
  elseif kind == ">" and value[1] == "message" then
    leave(value[3])
  elseif kind == "-" then
    leave(value)
  elseif value == 0 and joined then
    leave "the meeting is no longer in Redis"
  end
end

local function read(err, data)
  if not data then
    return leave("lost the connection to Redis: " .. (err or "closed"))
  end
  beats, buffer = 0, buffer .. data
  local at, value, kind = parse(1)
  while at and not socket:is_closing() do
    buffer = buffer:sub(at)
    receive(value, kind)
    at, value, kind = parse(1)
  end
end

local function arrive()
  send("EVAL", SCRIPT, 1, name, me, ttl, parties)
end

local function meet(rounds)
  b:wait(timeout, function(err)
    local problem = err and (err.reason or ("not all came within %d ms"):format(timeout))
    print(problem and "broken: " .. problem or "everyone is there")
    if err or rounds == 1 then
      os.exit(err and 1 or 0)
    end
    arrive()
    meet(rounds - 1)
  end)
end

local function connected(err)
  if err then
    return leave(("%s:%d: %s"):format(host, port, err))
  end
  socket:read_start(read)
  send("HELLO", 3)
  send("SUBSCRIBE", name .. ":" .. me)
  arrive()
end

io.stdout:setvbuf "line"
if uv.constants.SIGPIPE then uv.new_signal():start("sigpipe", function() end) end -- see `read`
beat:start(math.ceil(ttl / 3), math.ceil(ttl / 3), function()
  beats = beats + 1
  if beats > 3 then
    leave "Redis does not answer"
  elseif joined then
    send("EVAL", SCRIPT, 1, name, me, ttl)
  end
end)
uv.getaddrinfo(host, nil, { socktype = "stream" }, function(err, found)
  if err then
    connected(err)
  elseif not socket:is_closing() then
    socket:connect(found[1].addr, port, connected)
  end
end)
meet(all_rounds)
uv.run()
