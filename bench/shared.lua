---A trip of a shared barrier: lua bench/shared.lua THREADS TRIPS prints nanoseconds.
local uv = require "luv"

local threads, trips = tonumber(arg[1]), tonumber(arg[2])
local running = {}
for i = 1, threads do
  running[i] = uv.new_thread([[
    package.path, package.cpath = ...
    local index, threads, trips = select(3, ...)
    local uv, barrier = require "luv", require "barrier"
    local b = barrier.shared("bench", threads)
    coroutine.wrap(function()
      b:wait()
      local start = uv.hrtime()
      for _ = 1, trips do b:wait() end
      if index == 1 then print(("%.0f"):format((uv.hrtime() - start) / trips)) end
    end)()
    uv.run()
  ]], package.path, package.cpath, i, threads, trips)
end
for i = 1, threads do
  running[i]:join()
end
uv.run() -- see doc/portability.md
