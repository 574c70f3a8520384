---One of four parties never comes: one gives up, one has had enough and aborts with a
---reason, all parties report what happened, and the barrier is reset and used again.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)

---Returns the position, or nil and the error, in place of raising it. So does
---`pcall(b.wait, b, timeout)`, but PUC Lua 5.1 cannot yield inside pcall.
local function try_wait(timeout)
  local co = coroutine.running()
  b:wait(timeout, function(err, position)
    assert(coroutine.resume(co, position, err))
  end)
  return coroutine.yield()
end

local function report(name, position, err)
  print(name .. ": " .. (err and tostring(err) or "passed at position " .. position))
end

---Starts a party that reports how its wait ended.
local function party(name, timeout)
  coroutine.wrap(function()
    report(name, try_wait(timeout))
  end)()
end

party("patient") -- would wait for ever
party("hasty", 10) -- milliseconds; gives up, and the others go on waiting

coroutine.wrap(function()
  local position, err = try_wait(30)
  report("leader", position, err)
  if getmetatable(err) == barrier.TimeoutError then
    b:abort("the fourth party never came")
  end
end)()
uv.run()

party("late") -- comes to a broken barrier
uv.run()
print("the barrier is " .. b.state)

b:reset()
for i = 1, 4 do
  party("party " .. i)
end
uv.run()
print("the barrier is " .. b.state .. ", and has tripped " .. b.generation .. " time")
