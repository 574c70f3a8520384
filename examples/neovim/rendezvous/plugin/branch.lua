---One of three plugins, branch.lua, files.lua and version.lua, that share no file and no function.
---Each starts asynchronously and waits for the other two before it sets up its command. To meet
---they ask for the same group, by a name that they have agreed upon, as plugins agree on the name
---of a User event. The plugin that is sourced first makes it.
---
---Not everyone has installed all three: after a while they go on without those that are missing,
---which the error names. A plugin that is sourced again begins its job again.
---
---This one finds out the branch.
local barrier = require "barrier"
local uv = vim.uv or vim.loop

local started = barrier.group { name = "rendezvous", expect = { "branch", "files", "version" } }
local ready = started:add "branch"

coroutine.wrap(function()
  -- A whole path: luv opens it in a thread, and Neovim changes directory for a moment whenever it
  -- looks for a file's full name.
  local err, file = barrier.await(uv.fs_open, uv.cwd() .. "/.git/HEAD", "r", 0)
  local head
  if file then
    err, head = barrier.await(uv.fs_read, file, 200, 0)
    uv.fs_close(file)
  end
  ready(err, head)
  local problem, results = started:wait(vim.g.rendezvous_timeout or 5000)
  if problem then
    vim.notify("branch: " .. problem.message, vim.log.levels.WARN)
  end
  head = results.branch
  vim.api.nvim_create_user_command("Branch", function()
    vim.notify(head and "on " .. (head:match "refs/heads/(%S+)" or head:sub(1, 8)) or err)
  end, {})
end)()
