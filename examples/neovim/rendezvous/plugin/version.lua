---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one asks git for its version.
if vim.g.loaded_version then
  return
end
vim.g.loaded_version = 1

local barrier = require "barrier"
local uv = vim.uv or vim.loop

local name = "rendezvous.started"
package.loaded[name] = package.loaded[name] or barrier.new(3)
local started = package.loaded[name]

local version = ""

local function arrive()
  started:wait(5000, function(err)
    if err then
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
