---Runs commands of the shell at the same time, and shows what each of them wrote, in their order:
---
---    lua examples/parallel.lua [-j JOBS] [-k] COMMAND...
---
---JOBS (4) is how many run at a time. With -k the first failure kills the rest. The exit status is
---1 if a command has failed.
local uv = require "luv"
local barrier = require "barrier"

local limit, commands, kills = 4, {}, false
local i = 1
while arg[i] do
  if arg[i] == "-j" then
    i = i + 1
    limit = tonumber((arg[i] or ""):match "^[1-9]%d*$")
  elseif arg[i] == "-k" then
    kills = true
  else
    commands[#commands + 1] = arg[i]
  end
  i = i + 1
end
if not limit or not commands[1] then
  io.stderr:write "usage: parallel.lua [-j JOBS] [-k] COMMAND...\n"
  os.exit(1)
end

local group = barrier.group { limit = limit, stop_on_error = kills }
local outputs, shown = {}, 0

---Shows the output of the commands that are next.
local function show()
  while outputs[shown + 1] do
    shown = shown + 1
    io.write(outputs[shown])
    io.flush()
  end
end

---Runs a command. It has ended when two things have, in whatever order: the shell and its output.
local function run(number, done)
  local output, chunks, parts = uv.new_pipe(false), {}, barrier.group()
  local ended = parts:add "status"
  local process, pid
  process, pid = uv.spawn("sh", {
    args = { "-c", "exec 2>&1\n" .. commands[number] },
    stdio = { nil, output },
    detached = true, -- a process group of its own
  }, function(status, signal)
    process:close()
    ended(nil, signal ~= 0 and "signal " .. signal or status ~= 0 and "exit status " .. status)
  end)
  if not process then
    output:close()
    return nil, pid
  end
  local closed = parts:add "output"
  output:read_start(function(_, chunk)
    chunks[#chunks + 1] = chunk
    if not chunk then
      output:close(closed)
    end
  end)
  parts:wait(function(_, results)
    outputs[number] = table.concat(chunks)
    show()
    done(results.status)
  end)
  return function()
    uv.kill(-pid, "sigterm")
  end
end

for number in ipairs(commands) do
  group:start(number, function(done)
    return run(number, done)
  end)
end

local status = 0
group:join(function(err, _, errors)
  for number in ipairs(commands) do
    outputs[number] = outputs[number] or ""
  end
  show()
  for number, command in ipairs(commands) do
    local problem = errors[number] or group.late[number]
    if problem then
      io.stderr:write("parallel: ", command, ": ", problem, "\n")
    end
  end
  status = err and 1 or 0
end)
uv.run()
os.exit(status)
