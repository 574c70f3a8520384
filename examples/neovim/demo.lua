---Runs the plugin project-report on this repository, in headless Neovim, and prints its
---report: `make demo`.
local folder = debug.getinfo(1, "S").source:match "^@(.*)/" or "."
local plugin = vim.fn.fnamemodify(folder .. "/project-report", ":p")

vim.opt.runtimepath:prepend(plugin)
vim.cmd("source " .. vim.fn.fnameescape(plugin .. "plugin/project_report.lua"))

local problem
vim.notify = function(message)
  problem = message
end

local before = vim.api.nvim_get_current_buf()
vim.cmd "ProjectReport"
local ended = vim.wait(10000, function()
  return problem or vim.api.nvim_get_current_buf() ~= before
end)
if not ended or problem then
  io.stderr:write(problem or "no report within 10 seconds", "\n")
  vim.cmd "cquit"
end
print(table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), "\n"))
