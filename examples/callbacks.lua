---Three operations of luv and a coroutine meet. Two of the operations have no
---coroutine: their callbacks wait with a callback.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)
local results = {}

-- A callback that arrives, and does not care for the rest.
uv.fs_stat(".", function(err, stat)
  results.stat = err or stat.type
  b:wait(function() end)
end)

-- A callback that wants to know when all the others are there.
local timer = uv.new_timer()
timer:start(5, 0, function()
  timer:close()
  results.timer = "rang"
  b:wait(function(err, position)
    print(err or ("timer's callback passed, stat: " .. results.stat))
    assert(position)
  end)
end)

-- One inside a coroutine.
coroutine.wrap(function()
  local co = coroutine.running()
  uv.fs_realpath(".", function(err, path)
    coroutine.resume(co, err, path)
  end)
  local err, path = coroutine.yield()
  results.path = err or (#path > 0 and "absolute")
  b:wait()
  print("coroutine passed, timer: " .. results.timer)
end)()

-- And a coroutine that only waits for the three.
coroutine.wrap(function()
  b:wait()
  print("all are there, path: " .. results.path)
end)()

uv.run()
print(b.generation .. " trip")
