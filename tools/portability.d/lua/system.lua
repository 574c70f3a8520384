---In place of the module of this name, which is written in C and not built: luv has what
---busted needs of it.
local uv = require "luv"

return {
  gettime = function()
    local seconds, microseconds = uv.gettimeofday()
    return seconds + microseconds / 1e6
  end,
  monotime = function()
    return uv.hrtime() / 1e9
  end,
  sleep = function(seconds)
    uv.sleep(math.floor(seconds * 1000))
  end,
}
