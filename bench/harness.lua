---What the measurements share: which library is measured, and its loop.
local M = {}

arg = arg or vim.fn.argv() -- luacheck: ignore 121
local uv = vim and vim.loop or require "luv"
M.uv = uv
M.library, M.what, M.N, M.TIMES = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])

local start = os.clock()
local barrier = require "barrier"
M.load_time = (os.clock() - start) * 1e9
barrier.new(1)
M.first_time = (os.clock() - start) * 1e9

local libraries = {
  ours = { barrier = barrier.new, counter = barrier.new, group = barrier.group },
  shared = {
    barrier = function(parties)
      return barrier.shared("bench", parties)
    end,
  },
}
M.lib = libraries[M.library] or M.library == "by_hand" and require "by_hand"
  or require("peers.neovim")[M.library]

local stopped = false

---Runs the loop until `stop` is called, or nothing is left to do.
function M.run_loop()
  if vim then
    vim.wait(1000000000, function()
      return stopped
    end, 1000)
  else
    uv.run()
  end
end

function M.stop()
  stopped = true
  uv.stop()
end

function M.finish(...)
  if ... then
    local list = { ... }
    for i, value in ipairs(list) do
      list[i] = ("%.2f"):format(value)
    end
    io.stdout:write(table.concat(list, " "), "\n")
    if vim then
      vim.schedule(function()
        vim.cmd "qa!"
      end)
    end
  end
end

---Calls `f` in a turn of the loop, at the earliest after `ms`.
function M.later(ms, f)
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    f()
  end)
end

---Nanoseconds of CPU time for each of the operations of `f`.
function M.clock(operations, f)
  collectgarbage()
  collectgarbage()
  local before = os.clock()
  f()
  return (os.clock() - before) / operations * 1e9
end

return M
