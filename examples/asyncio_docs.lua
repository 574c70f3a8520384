---The example of the documentation of asyncio.Barrier, line for line.
local uv = require "luv"
local barrier = require "barrier"

---Lets the loop do what is due, as `await asyncio.sleep(0)` does.
local function sleep_a_turn()
  local co = coroutine.running()
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    assert(coroutine.resume(co))
  end)
  coroutine.yield()
end

local function example_barrier()
  -- barrier with 3 parties
  local b = barrier.new(3)

  -- 2 new waiting coroutines; they start at once
  for _ = 1, 2 do
    coroutine.wrap(function()
      b:wait()
    end)()
  end
  print(b)

  -- the third arrival passes the barrier
  b:wait()
  print(b)
  print("barrier passed")

  sleep_a_turn()
  print(b)
end

coroutine.wrap(example_barrier)()
uv.run()
