---A part of load.lua: barriers that trip for ever beside other users of the loop.
local uv = require "luv"
local barrier = require "barrier"

---@param loops loops
---@param check fun(condition: any, ...)
---@param say fun(...)
return function(loops, check, say)
  local M = {}

  ---Measures round trips one after the other, in a process of its own. Prints microseconds.
  function M.client(port, messages)
    local times = {}
    local tcp = uv.new_tcp()
    local start
    local function send()
      start = uv.hrtime()
      tcp:write "ping"
    end
    tcp:connect("127.0.0.1", port, function(problem)
      assert(not problem, problem)
      tcp:nodelay(true)
      tcp:read_start(function(_, data)
        if not data then
          return
        end
        times[#times + 1] = (uv.hrtime() - start) / 1000
        if #times < messages then
          send()
        else
          tcp:close()
        end
      end)
      send()
    end)
    uv.run()
    table.sort(times)
    print(#times, times[math.ceil(#times / 2)], times[math.ceil(#times * 0.99)], times[#times])
  end

  local function start_echo()
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(8, function()
      local peer = uv.new_tcp()
      server:accept(peer)
      peer:nodelay(true)
      peer:read_start(function(_, data)
        if data then
          peer:write(data)
        else
          peer:close()
        end
      end)
    end)
    return server, server:getsockname().port
  end

  local function start_client(port, messages, on_exit)
    local out, text = uv.new_pipe(false), ""
    local process
    process = uv.spawn(uv.exepath(), {
      args = { arg[0], "client", tostring(port), tostring(messages) },
      stdio = { nil, out, 2 },
    }, function(code)
      process:close()
      check(code == 0, "the client failed")
      on_exit(text)
    end)
    out:read_start(function(_, data)
      if data then
        text = text .. data
      else
        out:close()
      end
    end)
  end

  ---Reads this file for ever, and counts in `result.reads`.
  local function start_reading(result)
    local file = uv.fs_open(arg[0], "r", 0)
    local function read()
      uv.fs_read(file, 4096, 0, function(_, data)
        check(data and #data > 0, "nothing was read")
        result.reads = result.reads + 1
        if not loops.done then
          read()
        end
      end)
    end
    read()
  end

  ---Ticks every millisecond, and adds up in `result.late` how late the ticks are.
  local function start_ticking(result)
    local timer, due = uv.new_timer(), uv.hrtime() / 1e6 + 1
    timer:start(1, 1, function()
      local now = uv.hrtime() / 1e6
      result.late = result.late + math.max(0, now - due)
      result.ticks = result.ticks + 1
      due = now + 1
    end)
    return timer
  end

  ---Barriers of every kind that never let the loop rest.
  local function start_barriers()
    local b = barrier.new(2)
    b:abort "load"
    local function again() -- on a broken barrier
      if not loops.done then
        b:wait(again)
      end
    end
    again()
    local c = barrier.new(2)
    local function reset()
      if not loops.done then
        c:wait(reset)
        c:reset()
      end
    end
    reset()
    return { loops.coroutines(2), loops.coroutines(100), loops.callbacks(3),
      loops.callbacks(2, 0) }
  end

  local function measure_io(messages, with_barriers)
    local result = { reads = 0, ticks = 0, late = 0 }
    loops.waits, loops.done = 0, false
    local server, port = start_echo()
    local timer = start_ticking(result)
    start_reading(result)
    local barriers = with_barriers and start_barriers() or {}
    start_client(port, messages, function(text)
      local n, p50, p99, max = text:match "(%S+)%s+(%S+)%s+(%S+)%s+(%S+)"
      result.echoes = tonumber(n)
      result.p50, result.p99, result.max = tonumber(p50), tonumber(p99), tonumber(max)
      loops.done = true
      timer:close()
      server:close()
      uv.stop()
    end)
    uv.run()
    for i = 1, #barriers do
      check(barriers[i].generation > 0, "barrier %d never tripped", i)
      barriers[i]:reset()
    end
    result.waits = loops.waits
    check(result.echoes == messages, "%s of %d echoes", result.echoes, messages)
    check(result.reads > 0 and result.ticks > 0, "no file was read, or no timer fired")
    return result
  end

  ---@param messages integer
  function M.run(messages)
    local alone, beside = measure_io(messages, false), measure_io(messages, true)
    check(beside.waits > messages, "only %d waits", beside.waits)
    say("  %d echoes over TCP, while there were %d waits, %d reads of files, %d ticks", messages,
      beside.waits, beside.reads, beside.ticks)
    say("  %-32s %9s %9s %6s", "microseconds", "alone", "beside", "ratio")
    local function row(name, a, b)
      say("  %-32s %9.0f %9.0f %6.1f", name, a, b, b / a)
    end
    row("echo, half of them within", alone.p50, beside.p50)
    row("echo, 99 of 100 within", alone.p99, beside.p99)
    row("echo, the slowest", alone.max, beside.max)
    row("timer, late on average", alone.late / alone.ticks * 1000,
      beside.late / beside.ticks * 1000)
  end

  return M
end
