---What never lets the loop rest, for load.lua: each function makes a barrier that trips for
---ever, until `done`, and returns it.
local barrier = require "barrier"

local LONG = 3600000

---True if a coroutine can wait inside pcall: not in PUC Lua 5.1.
local pcall_yields = coroutine.wrap(function()
  return pcall(coroutine.yield)
end)() == nil

---@class loops
---@field waits integer how many have come so far
---@field done boolean? makes them end
local loops = { waits = 0 }

local function co(f, ...)
  local c = coroutine.create(f)
  assert(coroutine.resume(c, ...))
  return c
end

---Coroutines that pass one barrier for ever.
function loops.coroutines(parties)
  local b = barrier.new(parties)
  for _ = 1, parties do
    co(function()
      while not loops.done do
        loops.waits = loops.waits + 1
        b:wait()
      end
    end)
  end
  return b
end

---Callbacks that wait at one barrier for ever, whatever happens.
function loops.callbacks(parties, timeout)
  local b = barrier.new(parties)
  local function again()
    if not loops.done then
      loops.waits = loops.waits + 1
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
local function make_trouble(b, others)
  local turn = 0
  local function again()
    if loops.done then
      return
    end
    loops.waits = loops.waits + 1
    turn = turn % 5 + 1
    if turn == 1 then
      b:reset()
    elseif turn == 2 then
      b:abort(turn)
      b:reset()
    elseif turn == 3 and others[1] then
      b:cancel(others[math.random(#others)])
    elseif turn == 4 then
      loops.waits = loops.waits + 1
      b:wait(print):close()
    end
    b:wait(again)
  end
  again()
end

---Coroutines and callbacks of one barrier, one of which makes trouble.
function loops.trouble(parties)
  local b = barrier.new(parties)
  local others = {}
  for i = 1, pcall_yields and parties - 2 or 0 do
    others[i] = co(function()
      while not loops.done do
        loops.waits = loops.waits + 1
        pcall(b.wait, b, i % 3 == 0 and LONG or nil)
      end
    end)
  end
  local function again()
    if not loops.done then
      loops.waits = loops.waits + 1
      b:wait(again)
    end
  end
  for _ = #others + 2, parties do
    again()
  end
  make_trouble(b, others)
  return b
end

---Each turn makes a barrier, and drops it with the parties that wait there.
function loops.drops()
  local b = barrier.new(1)
  local function again()
    if not loops.done then
      loops.waits = loops.waits + 31
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

---A callback waits; all others arrive, and do not wait.
function loops.arrivals(parties)
  local b = barrier.new(parties)
  local function again()
    if not loops.done then
      loops.waits = loops.waits + parties
      b:wait(again)
      for _ = 2, parties do
        b:arrive()
      end
    end
  end
  again()
  return b
end

---One phase has a party more; of the next, two leave for good, and so trip it.
function loops.members(parties)
  local b, other = barrier.new(parties), barrier.new(1)
  local grows = true
  local function shrink()
    b:deregister(2)
    b:register()
  end
  local function again()
    loops.waits = loops.waits + 1
    if not loops.done then
      b:wait(again)
    end
  end
  for _ = 1, parties - 1 do
    again()
  end
  local function change()
    if loops.done then
      return
    end
    loops.waits = loops.waits + 1
    b:await_trip(change)
    if grows then
      b:register()
      b:arrive()
      b:arrive()
    else
      other:wait(shrink) -- when the others have come
    end
    grows = not grows
  end
  change()
  return b
end

---Watchers await the trips of others, in both styles, with and without a timeout.
function loops.watchers(watchers)
  local b = loops.callbacks(2)
  local function again()
    if not loops.done then
      loops.waits = loops.waits + 2
      b:await_trip(LONG, again)
      b:await_trip(again):close()
    end
  end
  again()
  for i = 2, pcall_yields and watchers or 1 do
    co(function()
      while not loops.done do
        loops.waits = loops.waits + 1
        pcall(b.await_trip, b, i % 2 == 0 and LONG or nil)
      end
    end)
  end
  return b
end

return loops
