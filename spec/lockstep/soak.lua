---Random scripts for as long as SOAK_SECONDS (600) says, from SOAK_SEED (the time) on:
---
---    make soak
local groups = require "spec.lockstep.groups"
local script = require "spec.lockstep.script"

local seconds = tonumber(os.getenv "SOAK_SECONDS" or 600)
local first = tonumber(os.getenv "SOAK_SEED" or os.time())
local deadline = os.time() + seconds
local steps, seed = 0, first
while os.time() < deadline do
  local failure, count = script.check(seed, 20 + seed % 7 * 40, seed % 4 == 0)
  failure = failure or groups.check(seed, 200)
  if failure then
    io.stderr:write(failure, "\n")
    os.exit(1)
  end
  steps = steps + count + 200
  seed = seed + 1
end
print(("%d steps in %d scripts, seeds %d to %d"):format(steps, seed - first, first, seed - 1))
