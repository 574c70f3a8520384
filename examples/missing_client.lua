---A plugin goes on when its LSP clients have attached, and one of them never does. The report shows
---which one, and in debug mode also since when and where the plugin began to expect it.
local uv = type(vim) == "table" and (vim.uv or vim.loop) or require "luv"
local barrier = require "barrier"

barrier.debug(true) -- or set the environment variable BARRIER_DEBUG=1

local clients = barrier.group { name = "clients of my plugin", expect = { "lua_ls", "efm" } }

---In Neovim, what the autocommand LspAttach calls.
local function on_attach(client)
  clients:add(client)()
end

---A server that starts, and whose client then attaches.
local function start(client)
  local timer = uv.new_timer()
  timer:start(10, 0, function()
    timer:close()
    on_attach(client)
  end)
end

start "lua_ls"

local _, report = pcall(barrier.run, 200, function()
  clients:wait()
  print "all clients have attached"
end)
print(report)
