if vim.g.loaded_format_all then
  return
end
vim.g.loaded_format_all = 1

vim.api.nvim_create_user_command("FormatAll", function()
  require("format_all").run()
end, { desc = "runs all formatters of the buffer's filetype at once" })
