---tools/busted.lua where busted's modules written in C are not built: luv has what it
---needs of them.
local uv = require "luv"

package.preload.system = function()
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
end

package.preload.term = function()
  return {
    isatty = function()
      return false
    end,
  }
end

dofile "tools/busted.lua"
