---A party that never comes: some of the others give up after a while, one has had
---enough and aborts, everybody reports, and the barrier is reset and used again.
local uv = require "luv"
local barrier = require "barrier"

local b = barrier.new(4)

local function party(name, timeout)
  coroutine.wrap(function()
    local ok, result = pcall(b.wait, b, timeout)
    if ok then
      print(name .. " passed at position " .. result)
    else
      print(name .. ": " .. tostring(result))
    end
  end)()
end

party("patient") -- would wait for ever
party("hasty", 10)
party("brisk", 20)

local timer = uv.new_timer()
timer:start(40, 0, function()
  timer:close()
  print(b.n_waiting .. " of " .. b.parties .. " still waiting, aborting")
  b:abort("the fourth party never came")
end)
uv.run()

print("broken: " .. tostring(b.broken))
party("late")

b:reset()
print("reset, " .. b.state)
for i = 1, 4 do
  party("party " .. i)
end
uv.run()
print("generation " .. b.generation)
