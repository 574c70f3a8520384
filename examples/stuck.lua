---A program whose loop has nothing left to do, while parties still wait: asks the
---barrier who they are, and prints a traceback of each.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(3)

local function load_configuration()
  b:wait()
end

local function connect()
  b:wait()
end

coroutine.wrap(load_configuration)()
coroutine.wrap(connect)()
-- Whoever was to be the third never comes.

uv.run()

for i, waiter in ipairs(b:waiters()) do
  print("party " .. i .. " of " .. b.parties .. " is still waiting:")
  if type(waiter) == "thread" then
    print(debug.traceback(waiter))
  else
    print("a callback, " .. tostring(waiter))
  end
end
