-- Threads that wait at shared barriers at random, and do all that can be done there:
--
--     lua test/shared_stress.lua [WAITS [THREADS [SEED]]]
--
-- WAITS (1000000) in all, half of them in threads that end while they wait. Every wait of a
-- thread that does not end has to come to something, and no position may be given out twice.
local uv = require "luv"
local barrier = require "barrier"

local PARTIES = { 3, 11, 19 }
local PER_THREAD = 6 -- coroutines, and as many callbacks

---A thread: coroutines and callbacks that wait until there have been `waits` waits. Writes
---how often a party passed in each position, and what else happened.
local THREAD = [=[
  package.path, package.cpath = ...
  local uv, barrier = require "luv", require "barrier"
  local phase, waits, per_thread, seed, ends = select(3, ...)
  local PARTIES = { 3, 11, 19 }
  local barriers, passed, counts = {}, {}, {}
  for i = 1, #PARTIES do
    barriers[i] = barrier.shared(phase .. i, PARTIES[i])
    passed[i] = {}
    for position = 0, PARTIES[i] - 1 do passed[i][position] = 0 end
  end
  math.randomseed(seed)
  local random, begun, over = math.random, 0, 0

  local waiting = {} -- coroutines, to be cancelled
  local start_coroutine

  local function ended(i, err, position)
    over = over + 1
    if position then
      passed[i][position] = passed[i][position] + 1
      return
    end
    local kind = err.reason == nil and err.message or "with a reason"
    kind = kind:gsub("%d.*", "")
    counts[kind] = (counts[kind] or 0) + 1
  end

  local function disturb()
    local b, dice = barriers[random(#barriers)], random(1000)
    if dice <= 3 then
      b:abort(({ "text", 1, true })[random(4)])
    elseif dice <= 20 then
      b:reset()
    elseif dice <= 40 then
      local co, at = next(waiting)
      if co then barriers[at]:cancel(co) end
    elseif dice <= 45 then
      local co = next(waiting)
      if co then coroutine.resume(co) end
    elseif dice <= 50 and ends == 1 and coroutine.close then
      local co = next(waiting)
      -- A nested loop may run this while a coroutine is still on its way into the barrier.
      if co and coroutine.status(co) == "suspended" then
        waiting[co] = nil
        coroutine.close(co)
        begun = begun - 1
        start_coroutine()
      end
    elseif dice <= 53 then
      collectgarbage "step"
    elseif dice <= 55 then
      pcall(uv.run, "nowait") -- a nested loop
    elseif dice <= 58 then
      local function finalize() barriers[random(#barriers)]:reset() end
      if newproxy then
        getmetatable(newproxy(true)).__gc = finalize
      else
        setmetatable({}, { __gc = finalize })
      end
    elseif dice <= 60 then
      debug.sethook(function()
        debug.sethook()
        if ends == 1 then pcall(uv.run, "nowait") end
        barriers[random(#barriers)]:reset()
      end, "", random(200))
    elseif b.broken then
      b:reset()
    end
  end

  local function next_wait()
    if begun >= waits then return end
    begun = begun + 1
    disturb()
    return random(#barriers), random(10) == 1 and random(0, 3) or nil
  end

  local callback_waits
  function start_coroutine()
    local co
    co = coroutine.create(function()
      while true do
        local i, timeout = next_wait()
        if not i then return end
        waiting[co] = i
        local ok, result = pcall(barriers[i].wait, barriers[i], timeout)
        waiting[co] = nil
        ended(i, not ok and result, ok and result)
      end
    end)
    assert(coroutine.resume(co))
  end

  function callback_waits()
    local i, timeout = next_wait()
    if not i then return end
    local waiter = barriers[i]:wait(timeout, function(err, position)
      ended(i, err, position)
      callback_waits()
    end)
    if ends == 1 and random(100) == 1 then -- its position goes with it, if it has one already
      waiter:close()
      begun = begun - 1
      return callback_waits()
    end
  end

  for _ = 1, per_thread do
    callback_waits()
    if _VERSION == "Lua 5.1" and not jit then -- it cannot wait inside pcall
      callback_waits()
    else
      start_coroutine()
    end
  end

  -- Where nothing has happened for a while, too few are left.
  local timer, before = uv.new_timer(), nil
  timer:start(5, 5, function()
    if ends == 1 and over > waits / 2 then
      uv.stop()
    elseif over == waits then
      timer:close()
    elseif over == before then
      for i = 1, #barriers do barriers[i]:reset() end
    end
    before = over
  end)
  uv.run()

  if ends == 0 and over ~= waits then error(over .. " of " .. waits .. " waits are over") end
  local lines = {}
  for i = 1, #passed do
    for position = 0, #passed[i] do
      lines[#lines + 1] = ("passed %s%d %d %d\n"):format(phase, i, position, passed[i][position])
    end
  end
  for kind, count in pairs(counts) do
    lines[#lines + 1] = ("%s: %d\n"):format(kind, count)
  end
  io.write(table.concat(lines))
]=]

---Runs threads, and collects what they write.
local function run(phase, waits, threads, seed, ends)
  local output = os.tmpname()
  local barriers = {}
  for i = 1, #PARTIES do
    barriers[i] = barrier.shared(phase .. i, PARTIES[i])
  end
  local prefix = ("io.output(io.open(%q, 'a'))\n"):format(output)
  local running = {}
  for i = 1, threads do
    running[i] = uv.new_thread(prefix .. THREAD .. "\nio.close()", package.path, package.cpath,
      phase, math.floor(waits / threads), PER_THREAD, seed * threads + i, ends and 1 or 0)
  end
  for i = 1, threads do
    running[i]:join()
  end
  uv.run() -- see doc/portability.md
  local passed, counts = {}, {}
  for line in io.lines(output) do
    local name, position, count = line:match "^passed (%S+) (%d+) (%d+)$"
    if name then
      passed[name] = passed[name] or {}
      position = tonumber(position)
      passed[name][position] = (passed[name][position] or 0) + tonumber(count)
    else
      local kind, n = line:match "^(.-): (%d+)$"
      counts[kind] = (counts[kind] or 0) + tonumber(n)
    end
  end
  os.remove(output)
  return barriers, passed, counts
end

local function check(barriers, passed, ends)
  local total = 0
  for i = 1, #barriers do
    local b = barriers[i]
    for position = 0, b.parties - 1 do
      local count = passed[b.name][position]
      total = total + count
      if ends and count > b.generation or not ends and count ~= b.generation then
        error(("%s has tripped %d times, and %d have passed in position %d"):format(b.name,
          b.generation, count, position), 0)
      end
    end
    if b.generation == 0 then
      error(b.name .. " has never tripped", 0)
    end
    if not b.broken and (b.n_waiting ~= 0 or b.n_arrived ~= 0) then
      error("somebody is left: " .. tostring(b), 0)
    end
  end
  return total
end

local waits, threads = tonumber(arg[1] or 1000000), tonumber(arg[2] or 4)
local seed = tonumber(arg[3] or 1)
for _, ends in ipairs { false, true } do
  local barriers, passed, counts = run(ends and "e" or "s", waits / 2, threads, seed, ends)
  local report = { "passed: " .. check(barriers, passed, ends) }
  for kind, count in pairs(counts) do
    report[#report + 1] = kind .. ": " .. count
  end
  table.sort(report)
  print((ends and "threads that end" or "threads that stay") .. ": " .. table.concat(report, ", "))
end
