---A member of a storm (see redis_storm.lua): lua test/redis_member.lua URL NAME PARTIES MEMBER TTL
---It meets the others for ever, and prints what each wait came to, in one line.
local uv = require "luv"
local barrier = require "barrier"

io.stdout:setvbuf "line"
local b = barrier.redis(arg[2], tonumber(arg[3]), {
  url = arg[1], member = arg[4], ttl = tonumber(arg[5]),
})

local function meet()
  b:wait(function(err, position)
    local epoch, generation = err and err.epoch or b.epoch, err and err.generation or b.generation
    print(("%.0f/%d %s"):format(epoch, generation, position or err.message .. ": "
      .. tostring(err.reason)))
    if err and err.reason == "another process is " .. arg[4] .. " now" then
      os.exit(0)
    end
    meet()
  end)
end

meet()
uv.run()
