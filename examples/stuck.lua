---The loop has nothing left to do, and parties still wait: asks the barrier who they
---are, and prints a traceback of each.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)
local names = {} -- of the Waiters: a callback has no traceback

local function load_configuration()
  b:wait()
end

local function connect()
  b:wait()
end

coroutine.wrap(load_configuration)()
coroutine.wrap(connect)()
names[b:wait(function() end)] = "the callback that draws the window"
-- The fourth party never comes.

uv.run()

for i, waiter in ipairs(b:waiters()) do
  print("party " .. i .. " of " .. b.parties .. " is still waiting:")
  if type(waiter) == "thread" then
    print(debug.traceback(waiter))
  else
    print(names[waiter] or waiter)
  end
end
