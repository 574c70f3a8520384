---Waits with timeouts while late_clock.c's clock passes LATE_CLOCK: none ends early, and each ends.
--- Takes six seconds.
local uv = require "luv"
local barrier = require "barrier"

local ROUNDING = 2 -- milliseconds; the loop's clock has whole ones
local TIMEOUTS = { 1, 10, 100, 1000, 2000 }
local PASSES_AFTER = 3000 -- milliseconds; see late_clock.c
local LAST = 4000 -- the last of them starts

local b = barrier.new(2 ^ 30)
local open, early, ended = 0, 0, 0
local first = uv.hrtime()

local function milliseconds_since(start)
  return (uv.hrtime() - start) / 1e6
end

local function wait(timeout)
  local start = uv.hrtime()
  open = open + 1
  b:wait(timeout, function(err)
    if err.name ~= "TimeoutError" then
      return -- the watchdog has barked
    end
    open, ended = open - 1, ended + 1
    if milliseconds_since(start) < timeout - ROUNDING then
      early = early + 1
    end
  end)
end

local hour = b:wait(3600000, function()
  early = early + 1
end)

local starter = uv.new_timer()
starter:start(0, 10, function()
  uv.update_time()
  for _, timeout in ipairs(TIMEOUTS) do
    wait(timeout)
  end
  if milliseconds_since(first) > LAST then
    starter:close()
  end
end)

-- luv's timers do not care for the size of Lua's integers.
local watchdog = uv.new_timer()
watchdog:start(20000, 0, function()
  watchdog:close()
  hour:close()
  b:abort "the watchdog barked"
end)
local watcher = uv.new_timer()
watcher:start(100, 100, function()
  if open == 0 and starter:is_closing() and not watchdog:is_closing() then
    watchdog:close()
    hour:close()
  end
  if watchdog:is_closing() then
    watcher:close()
  end
end)

uv.run()
assert(milliseconds_since(first) > PASSES_AFTER)
assert(open == 0 and ended > 0, open .. " waits never ended")
assert(early == 0, early .. " waits ended early")
print(ended .. " waits ended when they should")
