---Three operations of luv and a coroutine meet. Two of the operations need no
---coroutine: one only arrives, from luv's callback; the other waits with a callback.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)
local results = {}

-- An operation that arrives when it is done, and has nothing to do afterwards.
uv.fs_stat(".", function(err, stat)
  results.stat = err or stat.type
  b:arrive()
end)

-- One that goes on in a callback when all have met.
local timer = uv.new_timer()
timer:start(5, 0, function()
  timer:close()
  results.timer = "rang"
  b:wait(function(err)
    print(err or ("callback: the stat found a " .. results.stat))
  end)
end)

-- One inside a coroutine.
coroutine.wrap(function()
  local co = coroutine.running()
  uv.fs_realpath(".", function(err, path)
    assert(coroutine.resume(co, path, err))
  end)
  local path, err = coroutine.yield()
  results.path = path and "a path" or err
  b:wait()
  print("coroutine: the timer " .. results.timer)
end)()

-- And a coroutine that only waits for the three.
coroutine.wrap(function()
  b:wait()
  print("all are done: " .. results.stat .. ", " .. results.timer .. ", " .. results.path)
end)()

uv.run()
