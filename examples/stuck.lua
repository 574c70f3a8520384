---The loop has nothing left to do, and parties still wait: prints who they are, and where
---they wait.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)

local function load_configuration()
  b:wait()
end

local function connect()
  b:wait()
end

coroutine.wrap(load_configuration)()
coroutine.wrap(connect)()
b:wait(function()
  print "draws the window"
end)
-- The fourth party never comes.

uv.run()
print(barrier.stuck() or "nobody waits")
