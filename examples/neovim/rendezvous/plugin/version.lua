---One of three plugins that wait for each other; branch.lua explains how they meet.
---This one asks git for its version.
local barrier = require "barrier"
local uv = vim.uv or vim.loop

local started = barrier.group { name = "rendezvous", expect = { "branch", "files", "version" } }
local ready = started:add "version"

local out, version = uv.new_pipe(false), ""
local process, err
process, err = uv.spawn("git", { args = { "--version" }, stdio = { nil, out } }, function()
  process:close()
end)
if process then
  out:read_start(function(problem, chunk)
    version = version .. (chunk or ""):gsub("\n", "")
    if not chunk then
      out:close()
      ready(problem, version)
    end
  end)
else
  out:close()
  ready(err)
end

started:wait(vim.g.rendezvous_timeout or 5000, function(problem, results)
  if problem then
    vim.notify("version: " .. problem.message, vim.log.levels.WARN)
  end
  vim.api.nvim_create_user_command("GitVersion", function()
    vim.notify(results.version or "no version of git")
  end, {})
end)
