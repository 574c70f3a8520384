---Reads doc/by_hand.md, for the specs that run it here and inside Neovim.

-- What every block begins with, and `ask`: the server's name says how it answers. "after" does
-- so when release() was called.
local PRELUDE = [[
local uv = vim and (vim.uv or vim.loop) or require "luv"
local barrier = require "barrier"

local function later(milliseconds, f)
  local timer = uv.new_timer()
  timer:start(milliseconds, 0, function()
    timer:close()
    f()
  end)
end

local held = {}
function release()
  for _, answer in ipairs(held) do
    later(1, answer)
  end
end

local function ask(server, callback)
  local function answer()
    if server:find "bad" then
      callback(server .. " has failed")
    else
      callback(nil, "answer of " .. server)
    end
  end
  if server:find "at once" then
    answer()
  elseif server:find "after" then
    held[#held + 1] = answer
  elseif not server:find "never" then
    later(server:find "late" and 50 or 1, answer)
  end
  if server:find "twice" then
    answer()
  end
end
]]

---@param path string
---@return { title: string, [integer]: string }[] tasks each with two blocks: by hand, with a group
return function(path)
  local tasks, block = {}, nil
  for line in io.lines(path) do
    local title = line:match "^## %d%. (.*)"
    if title then
      tasks[#tasks + 1] = { title = title }
    elseif line == "```lua" then
      block = {}
    elseif line == "```" then
      local task = tasks[#tasks]
      if task then
        task[#task + 1] = PRELUDE .. table.concat(block, "\n") .. "\n"
        task.lines = task.lines or {}
        task.lines[#task.lines + 1] = #block
      end
      block = nil
    elseif block then
      block[#block + 1] = line
    end
  end
  return tasks
end
