---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one counts the files of the working directory, with callbacks only.
if vim.g.loaded_files then
  return
end
vim.g.loaded_files = 1

local barrier = require "barrier"
local uv = vim.uv or vim.loop

local name = "rendezvous.started"
package.loaded[name] = package.loaded[name] or barrier.new(3)
local started = package.loaded[name]

uv.fs_scandir(uv.cwd(), function(problem, entries)
  local count = 0
  while entries and uv.fs_scandir_next(entries) do
    count = count + 1
  end
  if problem then
    started:abort("files: " .. problem)
  end
  -- The callback comes through vim.schedule, whoever arrives last.
  started:wait(5000, function(err)
    if err then
      vim.notify("files: not started: " .. tostring(err), vim.log.levels.WARN)
      return
    end
    vim.api.nvim_create_user_command("Files", function()
      vim.notify(count .. " files and folders")
    end, {})
  end)
end)
