-- lazy.nvim takes this, with nothing to add, for the description of the plugin. Without it it
-- would take the rockspec, and have LuaRocks look for the rock luv, which Neovim has built in.
-- So it runs build.lua.
return {}
