-- Plugin managers for Neovim run this after an install or an update; lazy.nvim finds it by
-- itself. The module need not be on the 'runtimepath' yet. It is an option: without it, or where
-- it cannot build the C core, the core in Lua is used.
local folder = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h")
dofile(folder .. "/lua/barrier/build.lua").hook()
