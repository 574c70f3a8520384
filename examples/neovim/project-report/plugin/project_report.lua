if vim.g.loaded_project_report then
  return
end
vim.g.loaded_project_report = 1

vim.api.nvim_create_user_command("ProjectReport", function()
  require("project_report").run()
end, { desc = "git status, git log and the lines of the current file's folder" })
