---One measurement in one process: prints nanoseconds of CPU time for each
---operation (bytes for `memory`).
---
---    lua bench/measure.lua WHAT PARTIES TRIPS
local uv = require "luv"
local barrier = require "barrier"

local what, parties, trips = arg[1], tonumber(arg[2]), tonumber(arg[3])

local function clock(operations, f)
  collectgarbage()
  collectgarbage()
  local start = os.clock()
  f()
  return (os.clock() - start) / operations * 1e9
end

---Every party waits again and again, until one of them has waited `trips` times. The timing
---excludes the setup and the end of the others, which are still waiting then.
---@param wait fun(times: integer) waits that many times
local function cycle(wait)
  for _ = 1, parties - 1 do
    coroutine.wrap(wait)(2000000000)
  end
  return clock(parties * trips, function()
    coroutine.wrap(function()
      wait(trips)
      uv.stop()
    end)()
    uv.run()
  end)
end

---`parties` coroutines, which wait for one more that never comes.
local function crowd(b)
  local coroutines = {}
  for i = 1, parties do
    coroutines[i] = coroutine.create(function()
      pcall(b.wait, b)
    end)
    coroutine.resume(coroutines[i])
  end
  return coroutines
end

---Shuffles the list, the same way every time.
local function shuffle(list)
  local seed = 42
  for i = #list, 2, -1 do
    seed = (seed * 16807) % 2147483647
    local j = seed % i + 1
    list[i], list[j] = list[j], list[i]
  end
  return list
end

local function resident()
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^VmRSS:%s+(%d+)")
    if kilobytes then
      return tonumber(kilobytes) * 1024
    end
  end
end

---Resident bytes for each coroutine that `suspend` suspends.
local function memory(suspend)
  local coroutines = {}
  for i = 1, parties do
    coroutines[i] = false
  end
  collectgarbage()
  local before = resident()
  for i = 1, parties do
    coroutines[i] = coroutine.create(suspend)
    coroutine.resume(coroutines[i])
  end
  collectgarbage()
  return (resident() - before) / parties
end

local measurements = {}

function measurements.floor()
  local floor = require "floor"
  local coroutines = {}
  for i = 1, parties do
    coroutines[i] = coroutine.create(function()
      while true do
        coroutine.yield()
      end
    end)
  end
  floor.run(coroutines, 1)
  return clock(parties * trips, function()
    floor.run(coroutines, trips)
  end)
end

---Measures a barrier as users use it: `b:wait()`.
local function cycle_of(b)
  return cycle(function(times)
    for _ = 1, times do
      b:wait()
    end
  end)
end

function measurements.ours()
  return cycle_of(barrier.new(parties))
end

function measurements.naive()
  return cycle_of(require("naive").new(parties))
end

function measurements.create()
  return clock(trips, function()
    for _ = 1, trips do
      barrier.new(parties)
    end
  end)
end

function measurements.timeout()
  local b = barrier.new(parties)
  return cycle(function(times)
    for _ = 1, times do
      b:wait(3600000)
    end
  end)
end

function measurements.callback()
  local b = barrier.new(parties)
  local left = trips
  local function on_pass(_, position)
    if position == 0 then
      left = left - 1
    end
    if left > 0 then
      b:wait(measurements.on_pass)
    end
  end
  measurements.on_pass = on_pass
  for _ = 1, parties - 1 do
    b:wait(on_pass)
  end
  return clock(parties * trips, function()
    b:wait(on_pass)
    uv.run()
  end)
end

---Every party arrives and does not wait, again and again.
local function arrive(b)
  return clock(parties * trips, function()
    for _ = 1, parties * trips do
      b:arrive()
    end
  end)
end

function measurements.arrive()
  return arrive(barrier.new(parties))
end

function measurements.arrive_counter()
  return arrive(require("counter").new(parties))
end

---A party more, and a party less.
local function register(b)
  return clock(parties * trips, function()
    for _ = 1, parties * trips do
      b:register()
      b:deregister()
    end
  end)
end

function measurements.register()
  return register(barrier.new(2))
end

function measurements.register_counter()
  return register(require("counter").new(2))
end

---Everybody watches one trip after the other. One arrives in each turn of the loop.
local function watch(b)
  for _ = 1, parties do
    coroutine.wrap(function()
      while true do
        b:await_trip()
      end
    end)()
  end
  local left, idle = trips, uv.new_idle()
  idle:start(function()
    if left == 0 then
      idle:stop()
    else
      left = left - 1
      b:arrive()
    end
  end)
  return clock(parties * trips, function()
    uv.run()
  end)
end

function measurements.watch()
  return watch(barrier.new(1))
end

function measurements.watch_counter()
  return watch(require("counter").new(1))
end

function measurements.cancel()
  local b = barrier.new(parties + 1)
  local coroutines = shuffle(crowd(b))
  local cost = clock(parties, function()
    for i = 1, parties do
      b:cancel(coroutines[i])
    end
  end)
  uv.run()
  return cost
end

function measurements.close()
  local b = barrier.new(parties + 1)
  local coroutines = shuffle(crowd(b))
  return clock(parties, function()
    for i = 1, parties do
      coroutine.close(coroutines[i])
    end
  end)
end

function measurements.close_waiter()
  local b = barrier.new(parties + 1)
  local waiters = {}
  for i = 1, parties do
    waiters[i] = b:wait(print)
  end
  shuffle(waiters)
  return clock(parties, function()
    for i = 1, parties do
      waiters[i]:close()
    end
  end)
end

---A stranger resumes every waiter, which cancels its wait.
function measurements.stranger()
  local b = barrier.new(parties + 1)
  local coroutines = shuffle(crowd(b))
  return clock(parties, function()
    for i = 1, parties do
      coroutine.resume(coroutines[i])
    end
  end)
end

---Every waiter times out, all at once.
function measurements.expire()
  local b = barrier.new(parties + 1)
  for _ = 1, parties do
    coroutine.wrap(function()
      pcall(b.wait, b, 0)
    end)()
  end
  return clock(parties, function()
    uv.run()
  end)
end

function measurements.abort()
  local b = barrier.new(parties + 1)
  crowd(b)
  return clock(parties, function()
    b:abort("bench")
    uv.run()
  end)
end

---What `abort` does, without a barrier: plain Lua raises an error table in each coroutine.
function measurements.raise()
  local class, b = {}, barrier.new(1)
  local coroutines = {}
  for i = 1, parties do
    coroutines[i] = coroutine.create(function()
      pcall(function()
        coroutine.yield()
        error(setmetatable({ name = "BrokenBarrierError", message = "barrier aborted",
          barrier = b, reason = "bench" }, class))
      end)
    end)
    coroutine.resume(coroutines[i])
  end
  return clock(parties, function()
    for i = 1, parties do
      coroutine.resume(coroutines[i])
    end
  end)
end

---From the trip to the last resume.
function measurements.last()
  local b = barrier.new(parties)
  local tripped, last, total = 0, 0, 0
  for _ = 1, trips do
    for _ = 1, parties - 1 do
      coroutine.wrap(function()
        if b:wait() == parties - 2 then
          last = uv.hrtime()
        end
      end)()
    end
    coroutine.wrap(function()
      tripped = uv.hrtime()
      b:wait()
    end)()
    uv.run()
    total = total + (last - tripped)
  end
  return total / trips
end

---From the trip to the first resume.
function measurements.first()
  local b = barrier.new(2)
  local first, total = 0, 0
  coroutine.wrap(function()
    for _ = 1, trips do
      b:wait()
      total = total + (uv.hrtime() - first)
    end
  end)()
  coroutine.wrap(function()
    for _ = 1, trips do
      first = uv.hrtime()
      b:wait()
      local co = coroutine.running()
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        timer:close()
        coroutine.resume(co)
      end)
      coroutine.yield()
    end
  end)()
  uv.run()
  return total / trips
end

function measurements.memory()
  local b = barrier.new(parties + 1)
  return memory(function()
    b:wait()
  end)
end

function measurements.memory_plain()
  return memory(function()
    coroutine.yield()
  end)
end

print(string.format("%.2f", measurements[what]()))
