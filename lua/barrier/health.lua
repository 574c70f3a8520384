---`:checkhealth barrier`
local M = {}

-- Neovim 0.10 has vim.health.start; before, the functions have other names.
local health = vim.health or require "health"
local start = health.start or health.report_start
local ok = health.ok or health.report_ok
local fail = health.error or health.report_error

---A trip of two parties through Neovim's real loop.
---@return boolean passed
local function trip(barrier)
  local b, positions = barrier.new(2), {}
  for _ = 1, 2 do
    coroutine.wrap(function()
      local position = b:wait(5000)
      positions[#positions + 1] = position
    end)()
  end
  return (vim.wait(5000, function()
    return #positions == 2
  end, 1))
end

function M.check()
  start "barrier"
  local loaded, barrier = pcall(require, "barrier")
  if not loaded then
    fail(tostring(barrier))
    return
  end
  ok(barrier._VERSION .. " is loaded, " .. require("barrier.core")._VERSION .. ", runs on "
    .. (jit and jit.version or _VERSION))
  local uv = vim.uv or vim.loop
  ok("luv is Neovim's own (" .. (vim.uv and "vim.uv" or "vim.loop") .. "), libuv "
    .. uv.version_string())
  if trip(barrier) then
    ok "a barrier trips in this loop"
  else
    fail "a barrier did not trip within 5 seconds"
  end
end

return M
