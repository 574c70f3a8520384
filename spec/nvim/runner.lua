-- busted inside Neovim, for ./run. Neovim 0.7 has no `nvim -l`.
local folder = debug.getinfo(1, "S").source:match("^@(.*)/") or "."
local root = vim.fn.fnamemodify(folder .. "/../..", ":p"):gsub("/$", "")

vim.cmd("cd " .. vim.fn.fnameescape(root))
package.path = root .. "/?.lua;" .. package.path
vim.o.runtimepath = vim.env.VIMRUNTIME
if vim.env.BARRIER_CHECKOUT then
  vim.opt.runtimepath:prepend(vim.env.BARRIER_CHECKOUT)
end
for _, name in ipairs { "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE" } do
  vim.env[name] = nil -- a git hook sets them
end

_G.arg = { [0] = "busted", "--pattern=_nvim%.lua$" }
for flag in (vim.env.BUSTED_FLAGS or ""):gmatch("%S+") do
  table.insert(_G.arg, flag)
end
table.insert(_G.arg, "spec/nvim")

-- Raises nil if a spec fails.
local function run()
  require "busted.runner" { standalone = false, output = "tools/report.lua" }
  return true
end

local ok, err = pcall(run)
if err ~= nil and not ok then
  io.stderr:write(tostring(err), "\n")
end
io.stdout:flush()
vim.cmd(ok and "qa!" or "cquit")
