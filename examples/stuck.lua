---Six workers go from phase to phase together, and one of them hangs. In debug mode the report
---shows which party is missing, and where it is.
local barrier = require "barrier"

barrier.debug(true) -- or set the environment variable BARRIER_DEBUG=1

local b = barrier.new(6)
local requests = {}

---A cache that answers all requests but one.
local function get(key, callback)
  requests[key] = callback
  if key ~= "worker 2, phase 2" then
    requests[key]("value of " .. key)
  end
end

local function cached(worker, phase)
  local value = barrier.await(get, ("worker %d, phase %d"):format(worker, phase))
  return value
end

local function work(worker)
  for phase = 1, 3 do
    cached(worker, phase)
    b:wait()
  end
end

local _, report = pcall(barrier.run, 200, function()
  for worker = 2, 6 do
    coroutine.wrap(work)(worker)
  end
  work(1)
end)
print(report)
