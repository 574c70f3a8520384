---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one asks git for its version.
if vim.g.loaded_version then
  return
end
vim.g.loaded_version = 1

local barrier = require "barrier"
local uv = vim.uv or vim.loop

package.loaded.rendezvous = package.loaded.rendezvous or {
  started = barrier.new(3),
  missing = { branch = true, files = true, version = true },
}
local started, missing = package.loaded.rendezvous.started, package.loaded.rendezvous.missing
local patience = vim.g.rendezvous_timeout or 5000 -- milliseconds

local version = ""

local function arrive()
  missing.version = nil
  started:wait(patience, function(err)
    if getmetatable(err) == barrier.TimeoutError then
      local names = table.concat(vim.tbl_keys(missing), ", ")
      vim.notify("version: starts without " .. names, vim.log.levels.WARN)
      started:wait(function() end) -- arrives again
    elseif err then
      vim.notify("version: not started: " .. tostring(err), vim.log.levels.WARN)
      return
    end
    vim.api.nvim_create_user_command("GitVersion", function()
      vim.notify(version)
    end, {})
  end)
end

local out = uv.new_pipe(false)
local process, problem = uv.spawn("git", { args = { "--version" }, stdio = { nil, out } },
  function() end)
if process then
  out:read_start(function(_, chunk)
    if chunk then
      version = version .. chunk:gsub("\n", "")
    else
      out:close()
      process:close()
      arrive()
    end
  end)
else
  out:close()
  started:abort("version: " .. problem)
  arrive()
end
