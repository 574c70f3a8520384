---Load tests: a lot of waits, of parties, of barriers, and of other I/O.
---
---    lua test/load.lua quick|full [PART...]
---
---Parts, all of them by default:
---
---  endurance  100 million waits of all kinds, without growth of memory or handles: as many
---             as a program makes in 24 hours at over a thousand waits a second
---  crowd      one barrier for a million parties: trips, then all parties fail or leave
---  burst      a barrier for two that is joined by a million now and then, and gives the memory
---             back
---  many       100,000 barriers at once, which trip, time out, and are collected
---  beside_io  barriers that trip for ever beside a TCP echo, timers and files, all of which
---             must get their turn; prints their latency with and without the barriers
---
---`quick` is smaller. No time is asserted.
local uv = require "luv"
local barrier = require "barrier"

---What a file beside this one returns.
local function require_part(name)
  return dofile((arg[0]:gsub("load%.lua$", name .. ".lua")))
end

local loops = require_part "load_loops" ---@type loops

local FULL = arg[1] == "full"
local LONG = 3600000
local LUA_BOUND, RESIDENT_BOUND = 64, 2048 -- growth in kilobytes that counts as none

---True if a coroutine can wait inside pcall: not in PUC Lua 5.1.
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
  ---Checks that all parties have passed, each with a position of its own. Starts over.
  function t.check_trip(parties)
    check(t.total == parties, "%d of %d have passed", t.total, parties)
    for i = 0, parties - 1 do
      check(t.positions[i] == 1, "position %d was given out %s times", i, t.positions[i])
    end
    t.positions, t.total = {}, 0
  end
  ---Checks that all parties have failed with this error. Starts over.
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

---All parties leave for good, in random order. At each step the others are counted right.
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

local function take_sample(samples)
  collect()
  local sample = { lua = collectgarbage "count", resident = resident(), handles = handles() }
  samples[#samples + 1] = sample
  say("  %10d waits: %6.0f kB in Lua, %6d kB resident, %d handles", loops.waits, sample.lua,
    sample.resident, sample.handles)
end

function parts.endurance()
  local total = FULL and 100000000 or 2000000
  loops.waits, loops.done = 0, false
  local start = uv.hrtime()
  local barriers = {
    loops.callbacks(200, 0), -- may never trip
    loops.coroutines(2), loops.coroutines(10), loops.coroutines(100),
    loops.callbacks(3), loops.callbacks(50, LONG), loops.arrivals(20), loops.members(5),
    loops.watchers(10), loops.trouble(10), loops.trouble(60), loops.drops(),
  }
  local samples = {}
  local sampler = uv.new_timer()
  sampler:start(0, 1, function()
    if loops.waits >= total * (#samples + 2) / 12 then -- the first comes after a warm-up
      take_sample(samples)
    end
    if #samples == 11 then
      loops.done = true
      sampler:close()
      uv.stop()
    end
  end)
  uv.run()
  local trips = 0
  for i = 1, #barriers do
    trips = trips + barriers[i].generation
    check(barriers[i].generation > 0 or i == 1, "barrier %d never tripped", i)
    if i == 1 or i > 4 then
      barriers[i]:reset() -- timeouts would keep the loop alive
    end
  end
  uv.run()
  local first, last = samples[1], samples[#samples]
  say("  %d waits and %d trips in %.0f s", loops.waits, trips, (uv.hrtime() - start) / 1e9)
  check(last.lua - first.lua < LUA_BOUND, "Lua's memory grew by %.0f kB", last.lua - first.lua)
  check(last.resident - first.resident < RESIDENT_BOUND, "resident memory grew by %d kB",
    last.resident - first.resident)
  check(last.handles == first.handles, "%d handles have become %d", first.handles, last.handles)
end

-- }}}

-- {{{ burst

---A barrier of two parties that are joined by a crowd now and then. Returns how much more
---memory of Lua it has afterwards.
local function burst(b, crowd)
  local passed = 0
  local function note(err)
    check(err == nil, "%s", tostring(err))
    passed = passed + 1
  end
  b:register(crowd)
  for _ = 1, crowd do
    b:wait(note)
  end
  b:await_trip(note)
  b:arrive()
  b:deregister()
  uv.run()
  check(passed == crowd + 1, "%d of %d have passed", passed, crowd + 1)
  check(b:deregister(crowd - 1), "the crowd cannot leave")
  for _ = 1, 2 do -- it needs little now
    b:wait(note)
    b:wait(note)
    uv.run()
  end
  collect()
end

function parts.burst()
  local crowd = FULL and 1000000 or 100000
  local b = barrier.new(2)
  local used = {}
  collect()
  used[0] = collectgarbage "count"
  for round = 1, 3 do
    burst(b, crowd)
    used[round] = collectgarbage "count"
    say("  after a burst of %d: %.0f kB in Lua, %d kB resident", crowd, used[round], resident())
    check(used[round] - used[0] < LUA_BOUND, "the burst left %.0f kB in Lua",
      used[round] - used[0])
  end
  check(b.parties == 2 and b.generation == 9, "%s after %d trips", tostring(b), b.generation)
end

-- }}}

local io_part = require_part "load_io"(loops, check, say)

function parts.beside_io()
  io_part.run(FULL and 50000 or 3000)
end

if arg[1] == "client" then
  io_part.client(tonumber(arg[2]), tonumber(arg[3]))
  return
end

-- Endurance runs first: a leak then finds no holes that others have left.
local names = { "endurance", "crowd", "burst", "many", "beside_io" }
if arg[2] then
  names = { (unpack or table.unpack)(arg, 2) }
end
for _, name in ipairs(names) do
  say("%s:", name)
  parts[name]()
  collect()
end
