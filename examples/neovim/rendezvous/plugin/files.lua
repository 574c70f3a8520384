---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one counts the files of the working directory, with callbacks only.
if vim.g.loaded_files then
  return
end
vim.g.loaded_files = 1

local barrier = require "barrier"
local uv = vim.uv or vim.loop

package.loaded.rendezvous = package.loaded.rendezvous or {
  started = barrier.new(3),
  missing = { branch = true, files = true, version = true },
}
local started, missing = package.loaded.rendezvous.started, package.loaded.rendezvous.missing
local patience = vim.g.rendezvous_timeout or 5000 -- milliseconds

uv.fs_scandir(uv.cwd(), function(problem, entries)
  local count = 0
  while entries and uv.fs_scandir_next(entries) do
    count = count + 1
  end
  if problem then
    started:abort("files: " .. problem)
  end
  -- The callback comes through vim.schedule, whoever arrives last.
  missing.files = nil
  started:wait(patience, function(err)
    if getmetatable(err) == barrier.TimeoutError then
      local names = table.concat(vim.tbl_keys(missing), ", ")
      vim.notify("files: starts without " .. names, vim.log.levels.WARN)
      started:wait(function() end) -- arrives again
    elseif err then
      vim.notify("files: not started: " .. tostring(err), vim.log.levels.WARN)
      return
    end
    vim.api.nvim_create_user_command("Files", function()
      vim.notify(count .. " files and folders")
    end, {})
  end)
end)
