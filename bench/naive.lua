---The barrier that one writes without a library. It has no errors and no cancellation, and
---nobody may arrive before everybody has left.
local uv = require "luv"

local function new(parties)
  local timer = uv.new_timer()
  local waiting = {}
  local function release()
    local released = waiting
    waiting = {}
    for i = 1, #released do
      coroutine.resume(released[i], i - 1)
    end
  end
  return {
    wait = function()
      waiting[#waiting + 1] = coroutine.running()
      if #waiting == parties then
        timer:start(0, 0, release)
      end
      return coroutine.yield()
    end,
  }
end

return { new = new }
