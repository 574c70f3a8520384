---Measurements of what is no CPU time: time that passes, and memory. See measure.lua.
local harness = require "harness"
local uv, lib, N, TIMES = harness.uv, harness.lib, harness.N, harness.TIMES
local clock, later, finish = harness.clock, harness.later, harness.finish

local measurements = {}

---To load the module.
function measurements.load()
  return harness.load_time
end

---To load the module, and to make the first barrier.
function measurements.first()
  return harness.first_time
end

-- {=== time that passes ===

---Nanoseconds from the last arrival to the first of the others, on a loop that is idle before.
---@param enter fun(f: fun()) calls `f` from the loop
local function latency(enter)
  local b, list, arrived = lib.barrier(N), {}, nil
  local function round()
    for _ = 2, N do
      coroutine.wrap(function()
        b:wait()
        if arrived then
          list[#list + 1] = uv.hrtime() - arrived
          arrived = nil
        end
      end)()
    end
    enter(function()
      coroutine.wrap(function()
        arrived = uv.hrtime()
        b:wait()
      end)()
      later(2, function()
        if #list < TIMES then
          return round()
        end
        table.sort(list)
        finish(list[math.ceil(#list / 2)], list[math.ceil(#list * 0.99)])
      end)
    end)
  end
  round()
  if not vim then
    uv.run()
  end
end

---The last party arrives in the callback of a request.
function measurements.latency()
  latency(function(f)
    uv.fs_stat(".", f)
  end)
end

---It arrives in that of a timer.
function measurements.latency_timer()
  latency(function(f)
    later(2, f)
  end)
end

---The longest time between two turns of the loop in a second; in the tenth turn it calls `f`.
local function pause(f)
  local idle, last, longest, turns = uv.new_idle(), nil, 0, 0
  idle:start(function()
    local now = uv.hrtime()
    longest = math.max(longest, now - (last or now))
    last, turns = now, turns + 1
    if turns == 10 then
      f()
    end
  end)
  later(1000, function()
    idle:stop()
  end)
  uv.run()
  return longest
end

---While N parties pass.
function measurements.pause()
  local b = lib.barrier(N)
  for _ = 2, N do
    coroutine.wrap(b.wait)(b)
  end
  return pause(function()
    coroutine.wrap(b.wait)(b)
  end)
end

---While they time out.
function measurements.pause_expire()
  local b = lib.barrier(N + 1)
  for _ = 1, N do
    coroutine.wrap(function()
      pcall(b.wait, b, 300)
    end)()
  end
  return pause(function() end)
end

---A trip of a shared barrier between N threads.
function measurements.threads()
  local threads = {}
  for i = 1, N do
    threads[i] = uv.new_thread([[
      package.path, package.cpath = ...
      local index, parties, trips = select(3, ...)
      local uv, b = require "luv", require("barrier").shared("bench", parties)
      coroutine.wrap(function()
        b:wait()
        local start = uv.hrtime()
        for _ = 1, trips do b:wait() end
        if index == 1 then print(("%.0f"):format((uv.hrtime() - start) / trips)) end
      end)()
      uv.run()
    ]], package.path, package.cpath, i, N, TIMES)
  end
  for i = 1, N do
    threads[i]:join()
  end
  uv.run() -- see doc/portability.md
end

-- }===

-- {=== making, memory ===

---Makes barriers and drops them.
function measurements.make()
  return clock(TIMES, function()
    for _ = 1, TIMES do
      lib.barrier(N)
    end
    collectgarbage()
  end)
end

local function resident()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmRSS:%s+(%d+)"
    if kilobytes then
      return tonumber(kilobytes) * 1024
    end
  end
end

---Resident bytes for each of N things.
local function memory(make)
  local things = {}
  for i = 1, N do
    things[i] = false -- so that the table does not grow later
  end
  collectgarbage()
  local before = resident()
  for i = 1, N do
    things[i] = make(i)
  end
  collectgarbage()
  local used = resident() - before
  assert(#things == N) -- they are still there
  return used / N
end

---Of a coroutine that waits.
function measurements.memory_party()
  local b = harness.library ~= "by_hand" and lib.barrier(N + 1) or { wait = coroutine.yield }
  return memory(function()
    local co = coroutine.create(b.wait)
    coroutine.resume(co, b)
    return co
  end)
end

function measurements.memory_barrier()
  return memory(function()
    return lib.barrier(2)
  end)
end

---Of a job that is pending, in groups of a thousand.
function measurements.memory_job()
  local group
  return memory(function(i)
    if i % 1000 == 1 then
      group = lib.group()
    end
    return group:add(i)
  end)
end

-- }===

return measurements
