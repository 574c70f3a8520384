---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one counts the files of the working directory, with callbacks only.
local barrier = require "barrier"
local uv = vim.uv or vim.loop

local started = barrier.group { name = "rendezvous", expect = { "branch", "files", "version" } }
local ready = started:add "files"

uv.fs_scandir(uv.cwd(), function(err, entries)
  local count = 0
  while entries and uv.fs_scandir_next(entries) do
    count = count + 1
  end
  ready(err, count)
  -- The callback comes through vim.schedule, whichever plugin is the last.
  started:wait(vim.g.rendezvous_timeout or 5000, function(problem)
    if problem then
      vim.notify("files: " .. problem.message, vim.log.levels.WARN)
    end
    vim.api.nvim_create_user_command("Files", function()
      vim.notify(err or count .. " files and folders")
    end, {})
  end)
end)
