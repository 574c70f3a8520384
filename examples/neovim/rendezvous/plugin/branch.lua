---One of three plugins, branch.lua, files.lua and version.lua, that share no file and no
---function. Each starts asynchronously and waits for the other two before any of
---them sets up its command. To meet they need the same barrier: it is in package.loaded,
---Lua's table of what everybody shares, under a name that they have agreed upon, as
---plugins agree on the name of a User event. Whoever is sourced first makes it. (vim.g
---can't hold it, and the module's own table is not theirs.)
---
---Not everybody has installed all three: after a while they go on without those who are
---missing. A barrier knows how many have come, not who, so beside it is a list of names.
---
---This one finds out the branch, in a coroutine.
if vim.g.loaded_branch then
  return
end
vim.g.loaded_branch = 1

local barrier = require "barrier"
local uv = vim.uv or vim.loop

package.loaded.rendezvous = package.loaded.rendezvous or {
  started = barrier.new(3),
  missing = { branch = true, files = true, version = true },
}
local started, missing = package.loaded.rendezvous.started, package.loaded.rendezvous.missing
local patience = vim.g.rendezvous_timeout or 5000 -- milliseconds

---Calls one of luv's functions that take a callback last, and waits for it. Resumes
---through vim.schedule: the last party to arrive goes on where it is, and luv's own
---callbacks may not use vim.api.
local function await(f, ...)
  local co = coroutine.running()
  local args = { ... }
  args[#args + 1] = vim.schedule_wrap(function(...)
    assert(coroutine.resume(co, ...))
  end)
  f(unpack(args))
  return coroutine.yield()
end

local function read_head()
  -- A whole path: luv opens it in a thread, and Neovim changes directory for a moment
  -- whenever it looks for a file's full name.
  local err, file = await(uv.fs_open, uv.cwd() .. "/.git/HEAD", "r", 0)
  if not file then
    return nil, err
  end
  local text
  err, text = await(uv.fs_read, file, 200, 0)
  uv.fs_close(file)
  return text, err
end

coroutine.wrap(function()
  local head, problem = read_head()
  if not head then
    started:abort("branch: " .. problem) -- rather than let the others wait for nothing
  end
  missing.branch = nil
  local passed, err = pcall(started.wait, started, patience)
  if getmetatable(err) == barrier.TimeoutError then
    local names = table.concat(vim.tbl_keys(missing), ", ")
    vim.notify("branch: starts without " .. names, vim.log.levels.WARN)
    started:wait(function() end) -- arrives again, so that the missing ones can start at once
  elseif not passed then
    vim.notify("branch: not started: " .. tostring(err), vim.log.levels.WARN)
    return
  end
  local branch = head:match("refs/heads/(%S+)") or head:sub(1, 8)
  vim.api.nvim_create_user_command("Branch", function()
    vim.notify("on " .. branch)
  end, {})
end)()
