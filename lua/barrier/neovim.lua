---Where waiters resume in Neovim: the defaults of barrier.new there.
local uv = vim.uv or vim.loop
local M = {}

M.in_fast_event = vim.in_fast_event

local leaving = false -- from VimLeave on, no handle is started or made

---A timer that runs while somebody is scheduled. Neovim closes it with all others when it exits.
---@type table?
local waker
local scheduled = 0

local function nothing() end

---`vim.schedule`. That does not wake `vim.wait`, which would sleep for its whole interval;
---a timer does.
---@param drain fun()
function M.schedule(drain)
  if leaving then
    return
  end
  if not waker or waker:is_closing() then
    waker = uv.new_timer()
  end
  scheduled = scheduled + 1
  waker:start(1, 1, nothing)
  vim.schedule(function()
    scheduled = scheduled - 1
    if scheduled == 0 and waker and not waker:is_closing() then
      waker:stop()
    end
    drain()
  end)
end

---Closes the timer, and makes another one, which is_closed needs.
function M.close()
  if waker and not waker:is_closing() then
    waker:close()
  end
  waker = not leaving and uv.new_timer() or nil
end

-- {=== leaving ===

-- While Neovim exits, it closes all handles, then runs the loop until none is left: a handle that
-- is started or made meanwhile keeps it running.

---Can be asked in a fast event too.
local function is_exiting()
  local status = vim.v.exiting
  return status ~= nil and status ~= vim.NIL
end

---Where autocommands are off (`:noautocmd qa!`), a waker that Neovim has closed tells it.
local function is_closed()
  return waker ~= nil and waker:is_closing() and is_exiting()
end

local function in_autocommand()
  local ok, buffer = pcall(vim.fn.expand, "<abuf>")
  return ok and buffer ~= ""
end

---Has `leave` called at VimLeave, if that is yet to come.
---@param leave fun()
local function watch(leave)
  if is_exiting() and not in_autocommand() then
    leave() -- VimLeave is over
    return
  end
  vim.api.nvim_create_autocmd("VimLeave", {
    group = vim.api.nvim_create_augroup("barrier", { clear = false }),
    callback = function()
      if is_exiting() then
        leave()
      end
    end,
  })
end

---Has the core leave with Neovim.
---@param core table
function M.watch(core)
  local function leave()
    core.leave()
    leaving = true
    M.close()
  end
  if not vim.in_fast_event() then
    watch(leave)
  elseif is_exiting() then
    leave() -- it may be over, which can't be asked here
  else
    vim.schedule(function()
      watch(leave)
    end)
  end
  if not leaving then
    waker = uv.new_timer()
    core.watch_exit(is_closed)
  end
end

-- }===

return M
