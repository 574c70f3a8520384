-- Plugin managers for Neovim run this after an install or an update; lazy.nvim finds it by
-- itself. The module need not be on the 'runtimepath' yet.
local folder = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h")
dofile(folder .. "/lua/barrier/build.lua").run()
