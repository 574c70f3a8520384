---Load tests: a lot of waits, of parties, of barriers, and of other I/O.
---
---    lua test/load.lua quick|full [PART...]
---
---Parts, all of them by default:
---
---  endurance  100 million waits of all kinds, without growth of memory or handles: as many
---             as a program makes in 24 hours at over a thousand waits a second
---  crowd      one barrier for a million parties: trips, then everybody fails or leaves
---  many       100,000 barriers at once, which trip, time out, and are collected
---  beside_io  barriers that trip for ever beside a TCP echo, timers and files, all of which
---             must get their turn; prints their latency with and without the barriers
---
---`quick` is smaller. No time is asserted.
local uv = require "luv"
local barrier = require "barrier"

local FULL = arg[1] == "full"
local LONG = 3600000
local LUA_BOUND, RESIDENT_BOUND = 64, 2048 -- growth in kilobytes that counts as none

---Can a coroutine wait inside pcall? Not in PUC Lua 5.1.
local pcall_yields = coroutine.wrap(function()
  return pcall(coroutine.yield)
end)() == nil

local function check(condition, ...)
  if not condition then
    error(string.format(...), 2)
  end
end

local function say(...)
  print(string.format(...))
end

local function collect()
  if jit then
    jit.flush() -- compiled code keeps what it has seen
  end
  for _ = 1, 3 do
    collectgarbage()
  end
end

---@return integer kilobytes resident, or 0 without /proc
local function resident()
  local status = io.open "/proc/self/status"
  local text = status and status:read "*a" or ""
  if status then
    status:close()
  end
  return tonumber(text:match "VmRSS:%s+(%d+)") or 0
end

local function handles()
  local n = 0
  uv.walk(function()
    n = n + 1
  end)
  return n
end

local function shuffle(list)
  for i = #list, 2, -1 do
    local j = math.random(i)
    list[i], list[j] = list[j], list[i]
  end
end

local function co(f, ...)
  local c = coroutine.create(f)
  local ok, err = coroutine.resume(c, ...)
  check(ok, "%s", tostring(err))
  return c
end

---Lua must use as much memory after the second round as after the first. (Resident memory
---depends on how the holes that the first round left are filled.)
local function check_rounds(used)
  local growth = used[2] - used[1]
  check(growth < LUA_BOUND, "Lua's memory grew by %.0f kB in the second round", growth)
end

local parts = {}

-- {{{ crowd

---Counts how often each position was given out, and each kind of error.
local function tally()
  local t = { positions = {}, errors = {}, total = 0 }
  function t.note(err, position)
    t.total = t.total + 1
    if err then
      local text = tostring(err)
      t.errors[text] = (t.errors[text] or 0) + 1
    else
      t.positions[position] = (t.positions[position] or 0) + 1
    end
  end
  ---Checks that everybody has passed, each with a position of their own. Starts over.
  function t.check_trip(parties)
    check(t.total == parties, "%d of %d have passed", t.total, parties)
    for i = 0, parties - 1 do
      check(t.positions[i] == 1, "position %d was given out %s times", i, t.positions[i])
    end
    t.positions, t.total = {}, 0
  end
  ---Checks that everybody has failed with this error. Starts over.
  function t.check_error(text, parties)
    check(t.total == parties and t.errors[text] == parties, "%d of %d have failed, %s with %s",
      t.total, parties, t.errors[text], text)
    t.errors, t.total = {}, 0
  end
  return t
end

---Coroutines that each wait once whenever they are resumed.
local function crowd_of_coroutines(b, parties, note)
  local list = {}
  for i = 1, parties do
    list[i] = coroutine.create(function()
      while true do
        local ok, result = pcall(b.wait, b)
        note(not ok and result or nil, result)
        coroutine.yield()
      end
    end)
  end
  return list, coroutine.resume
end

---Callbacks that each wait once whenever asked.
local function crowd_of_callbacks(b, parties, note)
  local list = {}
  for i = 1, parties do
    list[i] = false
  end
  return list, function(_, i)
    list[i] = b:wait(note)
  end
end

---Everybody leaves for good, in random order. At each step the others are counted right.
local function all_leave(b, list, leave)
  shuffle(list)
  for i = 1, #list do
    leave(list[i])
    check(b.n_waiting == #list - i, "%d are waiting instead of %d", b.n_waiting, #list - i)
  end
end

local function run_crowd(name, parties, make, leave, error_of_leaving)
  local b, t = barrier.new(parties), tally()
  local list, come = make(b, parties, t.note)
  for _ = 1, 3 do
    for i = 1, parties do
      come(list[i], i)
    end
    uv.run()
    t.check_trip(parties)
  end
  for i = 1, parties - 1 do
    come(list[i], i)
  end
  b:abort "load"
  uv.run()
  t.check_error("BrokenBarrierError: barrier aborted: load", parties - 1)
  b:reset()
  list[parties] = nil
  for i = 1, parties - 1 do
    come(list[i], i)
  end
  all_leave(b, list, function(x)
    leave(b, x)
  end)
  uv.run()
  if error_of_leaving then
    t.check_error(error_of_leaving, parties - 1)
  end
  check(t.total == 0, "%d too many were told", t.total)
  say("  %s: %d trips of %d, abort, and everybody left", name, b.generation, parties)
end

local function cancel(b, c)
  check(b:cancel(c), "a waiting coroutine cannot be cancelled")
end

local function close_coroutine(_, c)
  check(coroutine.close(c), "a waiting coroutine cannot be closed")
end

local function close_waiter(_, w)
  w:close()
end

function parts.crowd()
  local parties = FULL and 1000000 or 100000
  local used = {}
  for round = 1, 2 do
    if pcall_yields then
      run_crowd("coroutines, cancelled", parties, crowd_of_coroutines, cancel,
        "CancelledError: wait cancelled")
    end
    collect()
    if coroutine.close then
      run_crowd("coroutines, closed", parties, crowd_of_coroutines, close_coroutine)
    end
    collect()
    run_crowd("callbacks, closed", parties, crowd_of_callbacks, close_waiter)
    collect()
    used[round] = collectgarbage "count"
    say("  afterwards %.0f kB in Lua, %d kB resident", used[round], resident())
  end
  check_rounds(used)
end

-- }}}

-- {{{ many

---One round of all barriers: at each, two callbacks and a coroutine pass in one turn.
local function all_trip(barriers, timeout)
  local passed = 0
  local function on_pass(err)
    check(err == nil, "%s", tostring(err))
    passed = passed + 1
  end
  for i = 1, #barriers do
    co(function()
      barriers[i]:wait(timeout)
      passed = passed + 1
    end)
    barriers[i]:wait(timeout, on_pass)
    barriers[i]:wait(on_pass)
  end
  uv.run()
  check(passed == 3 * #barriers, "%d of %d have passed", passed, 3 * #barriers)
end

local function all_time_out(barriers)
  local timed_out = 0
  for i = 1, #barriers do
    barriers[i]:wait(i % 50, function(err)
      check(err.name == "TimeoutError", "%s", tostring(err))
      timed_out = timed_out + 1
    end)
  end
  uv.run()
  check(timed_out == #barriers, "%d of %d have timed out", timed_out, #barriers)
end

---Uses `count` barriers, then drops them with coroutines that wait.
local function use_many(count, alive)
  local barriers = {}
  for i = 1, count do
    barriers[i] = barrier.new(3)
    alive[barriers[i]] = true
  end
  for _ = 1, 3 do
    all_trip(barriers)
    all_trip(barriers, LONG)
    all_time_out(barriers)
  end
  for i = 1, count do
    co(function()
      barriers[i]:wait()
    end)
  end
end

function parts.many()
  local count = FULL and 100000 or 20000
  all_trip({ barrier.new(3) }, LONG) -- makes the handles
  local before, used = handles(), {}
  for round = 1, 2 do
    local alive = setmetatable({}, { __mode = "k" })
    use_many(count, alive)
    check(handles() == before, "%d handles instead of %d", handles(), before)
    collect()
    check(next(alive) == nil, "a barrier that nobody can reach was not collected")
    used[round] = collectgarbage "count"
    say("  %d barriers: 6 trips and 3 timeouts each, %d handles, all collected; %.0f kB in Lua",
      count, before, used[round])
  end
  check_rounds(used)
end

-- }}}

-- {{{ endurance

local waits, done

---Coroutines that pass one barrier for ever.
local function loop_of_coroutines(parties)
  local b = barrier.new(parties)
  for _ = 1, parties do
    co(function()
      while not done do
        waits = waits + 1
        b:wait()
      end
    end)
  end
  return b
end

---Callbacks that wait at one barrier for ever, whatever happens.
local function loop_of_callbacks(parties, timeout)
  local b = barrier.new(parties)
  local function again()
    if not done then
      waits = waits + 1
      if timeout then
        b:wait(timeout, again)
      else
        b:wait(again)
      end
    end
  end
  for _ = 1, parties do
    again()
  end
  return b
end

---A party that makes trouble after each of its waits for the others of its barrier, which
---come again whatever happens.
local function trouble(b, others)
  local turn = 0
  local function again()
    if done then
      return
    end
    waits = waits + 1
    turn = turn % 5 + 1
    if turn == 1 then
      b:reset()
    elseif turn == 2 then
      b:abort(turn)
      b:reset()
    elseif turn == 3 and others[1] then
      b:cancel(others[math.random(#others)])
    elseif turn == 4 then
      waits = waits + 1
      b:wait(print):close()
    end
    b:wait(again)
  end
  again()
end

---Coroutines and callbacks of one barrier, one of which makes trouble.
local function loop_of_trouble(parties)
  local b = barrier.new(parties)
  local others = {}
  for i = 1, pcall_yields and parties - 2 or 0 do
    others[i] = co(function()
      while not done do
        waits = waits + 1
        pcall(b.wait, b, i % 3 == 0 and LONG or nil)
      end
    end)
  end
  local function again()
    if not done then
      waits = waits + 1
      b:wait(again)
    end
  end
  for _ = #others + 2, parties do
    again()
  end
  trouble(b, others)
  return b
end

---Each turn makes a barrier and drops it with everybody who waits in it.
local function loop_of_drops()
  local b = barrier.new(1)
  local function again()
    if not done then
      waits = waits + 31
      local dropped = barrier.new(100)
      co(function()
        dropped:wait()
      end)
      for _ = 1, 29 do
        dropped:wait(print)
      end
      b:wait(again)
    end
  end
  again()
  return b
end

local function take_sample(samples)
  collect()
  local sample = { lua = collectgarbage "count", resident = resident(), handles = handles() }
  samples[#samples + 1] = sample
  say("  %10d waits: %6.0f kB in Lua, %6d kB resident, %d handles", waits, sample.lua,
    sample.resident, sample.handles)
end

function parts.endurance()
  local total = FULL and 100000000 or 2000000
  waits, done = 0, false
  local start = uv.hrtime()
  local barriers = {
    loop_of_coroutines(2), loop_of_coroutines(10), loop_of_coroutines(100),
    loop_of_callbacks(3), loop_of_callbacks(50, LONG), loop_of_callbacks(200, 0),
    loop_of_trouble(10), loop_of_trouble(60), loop_of_drops(),
  }
  local samples = {}
  local sampler = uv.new_timer()
  sampler:start(0, 1, function()
    if waits >= total * (#samples + 2) / 12 then -- the first comes after a warm-up
      take_sample(samples)
    end
    if #samples == 11 then
      done = true
      sampler:close()
      uv.stop()
    end
  end)
  uv.run()
  local trips = 0
  for i = 1, #barriers do
    trips = trips + barriers[i].generation
    check(barriers[i].generation > 0 or i == 6, "barrier %d never tripped", i)
    if i > 4 then
      barriers[i]:reset() -- timeouts would keep the loop alive
    end
  end
  uv.run()
  local first, last = samples[1], samples[#samples]
  say("  %d waits and %d trips in %.0f s", waits, trips, (uv.hrtime() - start) / 1e9)
  check(last.lua - first.lua < LUA_BOUND, "Lua's memory grew by %.0f kB", last.lua - first.lua)
  check(last.resident - first.resident < RESIDENT_BOUND, "resident memory grew by %d kB",
    last.resident - first.resident)
  check(last.handles == first.handles, "%d handles have become %d", first.handles, last.handles)
end

-- }}}

-- {{{ beside_io

---Measures round trips one after the other, in a process of its own. Prints microseconds.
local function client(port, messages)
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
      if not done then
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
    if not done then
      b:wait(again)
    end
  end
  again()
  local c = barrier.new(2)
  local function reset()
    if not done then
      c:wait(reset)
      c:reset()
    end
  end
  reset()
  return { loop_of_coroutines(2), loop_of_coroutines(100), loop_of_callbacks(3),
    loop_of_callbacks(2, 0) }
end

local function measure_io(messages, with_barriers)
  local result = { reads = 0, ticks = 0, late = 0 }
  waits, done = 0, false
  local server, port = start_echo()
  local timer = start_ticking(result)
  start_reading(result)
  local barriers = with_barriers and start_barriers() or {}
  start_client(port, messages, function(text)
    local n, p50, p99, max = text:match "(%S+)%s+(%S+)%s+(%S+)%s+(%S+)"
    result.echoes = tonumber(n)
    result.p50, result.p99, result.max = tonumber(p50), tonumber(p99), tonumber(max)
    done = true
    timer:close()
    server:close()
    uv.stop()
  end)
  uv.run()
  for i = 1, #barriers do
    check(barriers[i].generation > 0, "barrier %d never tripped", i)
    barriers[i]:reset()
  end
  result.waits = waits
  check(result.echoes == messages, "%s of %d echoes", result.echoes, messages)
  check(result.reads > 0 and result.ticks > 0, "no file was read, or no timer fired")
  return result
end

function parts.beside_io()
  local messages = FULL and 50000 or 3000
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
  row("timer, late on average", alone.late / alone.ticks * 1000, beside.late / beside.ticks * 1000)
end

-- }}}

if arg[1] == "client" then
  client(tonumber(arg[2]), tonumber(arg[3]))
  return
end

-- Endurance runs first: a leak then finds no holes that others have left.
local names = { "endurance", "crowd", "many", "beside_io" }
if arg[2] then
  names = { (unpack or table.unpack)(arg, 2) }
end
for _, name in ipairs(names) do
  say("%s:", name)
  parts[name]()
  collect()
end
