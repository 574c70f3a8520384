---One measurement in one process. It prints nanoseconds of CPU time for each operation, unless it
---says something else.
---
---    lua bench/measure.lua LIBRARY WHAT N TIMES
---
---LIBRARY: ours; shared, the same with barrier.shared; by_hand; inside Neovim also plenary, nio and
---async. N is a number of parties, jobs or barriers; TIMES of trips, groups and the like.
local harness = require "harness"
local barrier = require "barrier"
local uv, lib, N, TIMES = harness.uv, harness.lib, harness.N, harness.TIMES
local clock, run_loop, stop = harness.clock, harness.run_loop, harness.stop

---Every party waits again and again, until one of them has waited TIMES times. The timing
---excludes the setup and the end of the others, which are still waiting then.
---@param wait fun(times: integer) waits that many times
local function cycle(wait)
  for _ = 1, N - 1 do
    coroutine.wrap(wait)(2000000000)
  end
  return clock(N * TIMES, function()
    coroutine.wrap(function()
      wait(TIMES)
      stop()
    end)()
    run_loop()
  end)
end

---N coroutines, which wait for one more that never comes.
local function crowd(b)
  local coroutines = {}
  for i = 1, N do
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

---The cost of `leave` for each of N parties, in random order.
---@param leave fun(party: any, b: any)
local function leaving(parties_of, leave)
  local b = lib.barrier(N + 1)
  local parties = shuffle(parties_of(b))
  local cost = clock(N, function()
    for i = 1, N do
      leave(parties[i], b)
    end
  end)
  uv.run()
  return cost
end

local measurements = require "measure_more"

-- {=== waits ===

function measurements.wait()
  local b = lib.barrier(N)
  return cycle(function(times)
    for _ = 1, times do
      b:wait()
    end
  end)
end

function measurements.floor()
  local coroutines = {}
  for i = 1, N do
    coroutines[i] = coroutine.create(function()
      while true do
        coroutine.yield()
      end
    end)
  end
  local floor = require "floor"
  floor.run(coroutines, 1)
  return clock(N * TIMES, function()
    floor.run(coroutines, TIMES)
  end)
end

function measurements.timeout()
  local b = lib.barrier(N)
  return cycle(function(times)
    for _ = 1, times do
      b:wait(3600000)
    end
  end)
end

function measurements.callback()
  local b, left = lib.barrier(N), TIMES
  local function on_pass(_, position)
    if position == 0 then
      left = left - 1
    end
    if left > 0 then
      b:wait(measurements.on_pass)
    else
      stop()
    end
  end
  measurements.on_pass = on_pass
  for _ = 1, N - 1 do
    b:wait(on_pass)
  end
  return clock(N * TIMES, function()
    b:wait(on_pass)
    run_loop()
  end)
end

---N barriers of two parties each. Every pair meets TIMES times.
function measurements.many()
  local left = N
  local pairs_of = {}
  for i = 1, N do
    local b = lib.barrier(2)
    pairs_of[i] = function()
      for _ = 1, 2 do
        coroutine.wrap(function()
          for _ = 1, TIMES do
            b:wait()
          end
          left = left - 0.5
          if left == 0 then
            stop()
          end
        end)()
      end
    end
  end
  return clock(2 * N * TIMES, function()
    for i = 1, N do
      pairs_of[i]()
    end
    run_loop()
  end)
end

function measurements.arrive()
  local b = lib.counter(N)
  return clock(N * TIMES, function()
    for _ = 1, N * TIMES do
      b:arrive()
    end
  end)
end

---A party more, and a party less.
function measurements.register()
  local b = lib.counter(2)
  return clock(N * TIMES, function()
    for _ = 1, N * TIMES do
      b:register()
      b:deregister()
    end
  end)
end

---N coroutines watch one trip after the other. One party arrives in each turn of the loop.
function measurements.watch()
  local b = lib.counter(1)
  for _ = 1, N do
    coroutine.wrap(function()
      while true do
        b:await_trip()
      end
    end)()
  end
  local left, idle = TIMES, uv.new_idle()
  idle:start(function()
    if left == 0 then
      idle:stop()
    else
      left = left - 1
      b:arrive()
    end
  end)
  return clock(N * TIMES, uv.run)
end

-- }===

-- {=== leaving early ===

function measurements.cancel()
  return leaving(crowd, function(co, b)
    b:cancel(co)
  end)
end

function measurements.close()
  return leaving(crowd, coroutine.close)
end

function measurements.close_waiter()
  return leaving(function(b)
    local waiters = {}
    for i = 1, N do
      waiters[i] = b:wait(print)
    end
    return waiters
  end, function(waiter)
    waiter:close()
  end)
end

---A stranger resumes every waiter, which cancels its wait.
function measurements.stranger()
  return leaving(crowd, coroutine.resume)
end

---Every waiter times out, all at once.
function measurements.expire()
  local b = lib.barrier(N + 1)
  for _ = 1, N do
    coroutine.wrap(function()
      pcall(b.wait, b, 0)
    end)()
  end
  return clock(N, uv.run)
end

function measurements.abort()
  local b = lib.barrier(N + 1)
  crowd(b)
  return clock(N, function()
    b:abort("bench")
    uv.run()
  end)
end

---What `abort` does, without a barrier: plain Lua raises an error table in each coroutine.
function measurements.raise()
  local class, b = {}, barrier.new(1)
  local coroutines = {}
  for i = 1, N do
    coroutines[i] = coroutine.create(function()
      pcall(function()
        coroutine.yield()
        error(setmetatable({ name = "BrokenBarrierError", message = "barrier aborted",
          barrier = b, reason = "bench" }, class))
      end)
    end)
    coroutine.resume(coroutines[i])
  end
  return clock(N, function()
    for i = 1, N do
      coroutine.resume(coroutines[i])
    end
  end)
end

-- }===

-- {=== groups ===

---Each group has N jobs, which end in a turn of the loop. With `run`, a library makes the group out
---of functions that take a callback; otherwise its `done` is the callback.
function measurements.group()
  local callbacks = {}
  local function job(callback)
    callbacks[#callbacks + 1] = callback
  end
  local timer = uv.new_timer()
  local function end_jobs()
    local ended = callbacks
    callbacks = {}
    for i = 1, #ended do
      ended[i](nil, i)
    end
  end
  local jobs = {}
  for i = 1, N do
    jobs[i] = job
  end
  local function main()
    for _ = 1, TIMES do
      timer:start(0, 0, end_jobs)
      if lib.gather then
        lib.gather(jobs)
      else
        local group = lib.group()
        for i = 1, N do
          job(group:add(i))
        end
        group:wait()
      end
    end
    stop()
  end
  return clock(N * TIMES, function()
    if lib.run then
      lib.run(main)
    else
      coroutine.wrap(main)()
    end
    run_loop()
  end)
end

-- }===

harness.finish(measurements[harness.what]())
