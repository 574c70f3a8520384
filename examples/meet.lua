---Processes, on one machine or many, wait for each other, then each runs its program:
---
---    lua examples/meet.lua NAME PARTIES [-- PROGRAM ARGS...]
---
---They meet in the Redis server at $REDIS_URL (redis://127.0.0.1:6379). $TIMEOUT is how long each
---waits, in milliseconds (60000), $MEMBER what the others call it, $RUN which run of a job it is.
---The exit status is that of the program; it is 1, and the missing are named, if not all came.
local uv = require "luv"
local barrier = require "barrier"

local function fail(message)
  io.stderr:write("meet.lua: ", message, "\n")
  os.exit(1)
end

local name, parties = arg[1], tonumber(arg[2])
local timeout = tonumber(os.getenv "TIMEOUT" or "60000")
if not name or not parties or arg[3] and (arg[3] ~= "--" or not arg[4]) then
  fail "usage: lua meet.lua NAME PARTIES [-- PROGRAM ARGS...]"
elseif not timeout or timeout < 0 or timeout % 1 ~= 0 then
  fail "TIMEOUT must be an integer >= 0, in milliseconds"
end
local ok, b = pcall(barrier.redis, name, parties, {
  member = os.getenv "MEMBER",
  run = os.getenv "RUN",
})
if not ok then
  fail(b)
end

local function run_program()
  local process, problem
  process, problem = uv.spawn(arg[4], {
    args = { (table.unpack or unpack)(arg, 5) },
    stdio = { 0, 1, 2 },
  }, function(status, signal)
    process:close()
    os.exit(signal == 0 and status or 128 + signal)
  end)
  if not process then
    fail(arg[4] .. ": " .. problem)
  end
end

local function on_outcome(err, position)
  b:close(function()
    if err then
      fail(err.reason and tostring(err.reason) or err.message)
    end
    io.stderr:write(("meet.lua: all %d are there, this is %d\n"):format(parties, position))
    if arg[4] then
      run_program()
    end
  end)
end

b:wait(timeout, on_outcome)
uv.run()
