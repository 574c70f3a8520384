-- busted's own runner, for whichever Lua this is.
require "busted.runner" { standalone = false, output = "tools/report.lua" }
