---Puts a TCP server, in this process, under load:
---
---    lua examples/load.lua [CLIENTS [ROUNDS]]
---
---All clients (20) send a request at the same instant, and again when the last of them has
---got its answer, for some rounds (5). The server hangs up on every 25th request: a client
---to which that happens deregisters, and the others go on without it. The report of each round
---only watches the barrier: no round waits for it.
local uv = require "luv"
local barrier = require "barrier"

local function integer(text, default)
  local n = tonumber((text or default):match "^%d+$")
  if not n or n < 1 or n > 10000 then
    io.stderr:write "usage: load.lua [CLIENTS [ROUNDS]], both from 1 to 10000\n"
    os.exit(1)
  end
  return n
end

local clients, rounds = integer(arg[1], "20"), integer(arg[2], "5")

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", 0))
local port = server:getsockname().port
local requests = 0
server:listen(128, function()
  local connection = uv.new_tcp()
  assert(server:accept(connection))
  connection:read_start(function(_, request)
    requests = requests + (request and 1 or 0)
    if not request or requests % 25 == 0 then
      connection:close()
    else
      connection:write(request)
    end
  end)
end)

local start = barrier.new(clients)
local stats = {} -- of each round: when requests were sent, and answered
for round = 1, rounds do
  stats[round] = { sent = {}, answered = {} }
end

---Sends a request and waits for the answer. Returns an error if there is none.
local function request(socket, times)
  times.sent[#times.sent + 1] = uv.hrtime()
  socket:write "ping"
  local err, answer = barrier.await(socket.read_start, socket)
  socket:read_stop()
  if answer then
    times.answered[#times.answered + 1] = uv.hrtime()
  end
  return not answer and (err or "the server hung up")
end

local function client(number)
  local socket = uv.new_tcp()
  local err = barrier.await(socket.connect, socket, "127.0.0.1", port)
  for round = 1, rounds do
    if not err then
      start:wait()
      err = request(socket, stats[round])
    end
  end
  if err then
    print(("client %d: %s"):format(number, err))
  end
  socket:close()
  start:deregister() -- when no party is left, the barrier trips a last time
end

local function report(round)
  local sent, answered = stats[round].sent, stats[round].answered
  local function took(times)
    return (times[#times] - sent[1]) / 1e6
  end
  io.write(("round %d: %d sent within %.2f ms, "):format(round, #sent, took(sent)))
  if #answered == 0 then
    print "none answered"
  else
    print(("%d answered within %.2f ms"):format(#answered, took(answered)))
  end
end

for number = 1, clients do
  coroutine.wrap(client)(number)
end

coroutine.wrap(function()
  repeat
    local generation = start:await_trip()
    if generation > 1 then
      report(generation - 1) -- whose clients have come back, or are gone
    end
  until start.parties == 0
  server:close()
end)()
uv.run()
