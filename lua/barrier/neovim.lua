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
local scheduled, idled = 0, 0
local MOST_IDLED = 100 -- turns of the loop

local function nothing() end

local function take_turn()
  idled = idled + 1
  if idled == MOST_IDLED then
    idle:stop()
    timer:start(1, 1, nothing)
  end
end

local function is_alive(handle)
  return handle ~= nil and not handle:is_closing()
end

local function make_handles()
  if not is_alive(idle) then
    idle = uv.new_idle()
  end
  if not is_alive(timer) then
    timer = uv.new_timer()
  end
end

---Can be asked in a fast event too.
local function is_exiting()
  local status = vim.v.exiting
  return status ~= nil and status ~= vim.NIL
end

---Where autocommands are off (`:noautocmd qa!`), a timer that Neovim has closed tells it.
local function is_closed()
  return timer ~= nil and timer:is_closing() and is_exiting()
end

local function let_sleep()
  scheduled = scheduled - 1
  if scheduled == 0 and is_alive(idle) and is_alive(timer) then
    idle:stop()
    if idled >= MOST_IDLED then
      timer:stop()
    end
  end
end

---`vim.schedule`, which also keeps the loop from sleeping until then.
---@param drain fun()
function M.schedule(drain)
  if leaving or is_closed() then
    return
  elseif not vim.in_fast_event() then
    vim.schedule(drain)
    return
  end
  make_handles()
  scheduled = scheduled + 1
  if scheduled == 1 then
    idled = 0
    idle:start(take_turn)
  end
  vim.schedule(function()
    let_sleep()
    drain()
  end)
end

---Closes the handles, and makes others, which is_closed needs.
function M.close()
  for _, handle in ipairs { idle or nil, timer or nil } do
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
    make_handles()
    core.watch_exit(is_closed)
  end
end

-- }===

return M
