---Where waiters resume in Neovim: the defaults of barrier.new there.
local uv = vim.uv or vim.loop
local M = {}

M.in_fast_event = vim.in_fast_event

local leaving = false -- from VimLeave on, no handle is started or made

-- What is scheduled in a fast event does not wake the loop, which may be about to poll. An idle
-- handle keeps it from sleeping until then; should that take long, a timer takes over. Neovim
-- closes both with all other handles when it exits.
---@type table?, table?
local idle, timer
local scheduled, idled, is_timed = 0, 0, false
local MOST_IDLED = 100 -- turns of the loop

local function nothing() end

local function take_turn()
  idled = idled + 1
  if idled == MOST_IDLED then
    idle:stop()
    timer:start(1, 1, nothing)
    is_timed = true
  end
end

local function make_handles()
  idle, timer = uv.new_idle(), uv.new_timer()
end

---Can be asked in a fast event too.
local function is_exiting()
  local status = vim.v.exiting
  return status ~= nil and status ~= vim.NIL
end

---Where autocommands are off (`:noautocmd qa!`), a handle that Neovim has closed tells it.
local function is_closed()
  return idle ~= nil and idle:is_closing() and is_exiting()
end

local function let_sleep()
  scheduled = scheduled - 1
  if scheduled == 0 and idle and not idle:is_closing() then
    idle:stop()
    if is_timed and not timer:is_closing() then
      timer:stop()
    end
    is_timed = false
  end
end

---`vim.schedule`, which also keeps the loop from sleeping until then.
---@param drain fun()
function M.schedule(drain)
  if leaving then
    return
  elseif not vim.in_fast_event() then
    vim.schedule(drain)
    return
  elseif not idle or idle:is_closing() then
    if is_exiting() then
      return
    end
    make_handles()
  end
  scheduled, idled = scheduled + 1, 0
  idle:start(take_turn)
  vim.schedule(function()
    let_sleep()
    drain()
  end)
end

---Closes the handles, and makes others, which is_closed needs.
function M.close()
  for _, handle in ipairs { idle or nil, timer } do
    if not handle:is_closing() then
      handle:close()
    end
  end
  idle, timer = nil, nil
  if not leaving then
    make_handles()
  end
end

-- {=== leaving ===

-- While Neovim exits, it closes all handles, then runs the loop until none is left: a handle that
-- is started or made meanwhile keeps it running.

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

local core ---@type table? once it is loaded

local function leave_all()
  if core then
    core.leave()
  end
  leaving = true
  M.close()
end

---The core that was loaded leaves with Neovim.
---@param loaded table
function M.attach(loaded)
  core = loaded
  core.schedule_by(M.schedule)
  core.watch_exit(is_closed)
  if leaving then
    core.leave()
  end
end

if not vim.in_fast_event() then
  watch(leave_all)
elseif is_exiting() then
  leave_all() -- it may be over, which can't be asked here
else
  vim.schedule(function()
    watch(leave_all)
  end)
end
if not leaving then
  make_handles()
end

-- }===

return M
