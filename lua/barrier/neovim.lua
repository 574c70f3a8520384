---Where waiters resume in Neovim: the defaults of barrier.new there.
local uv = vim.uv or vim.loop
local M = {}

M.in_fast_event = vim.in_fast_event

local waker ---@type table? a timer that runs while somebody is scheduled
local scheduled = 0

local function nothing() end

---`vim.schedule`. That does not wake `vim.wait`, which would sleep for its whole interval;
---a timer does.
---@param drain fun()
function M.schedule(drain)
  if not waker or waker:is_closing() then
    waker = uv.new_timer()
  end
  scheduled = scheduled + 1
  waker:start(1, 1, nothing)
  vim.schedule(function()
    scheduled = scheduled - 1
    if scheduled == 0 and not waker:is_closing() then
      waker:stop()
    end
    drain()
  end)
end

---Closes the timer; a new one is made when it is needed.
function M.close()
  if waker and not waker:is_closing() then
    waker:close()
  end
end

return M
