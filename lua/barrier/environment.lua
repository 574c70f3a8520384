---What the module needs from its environment, or an error that says what is
---missing and how to get it.
local M = {}

local neovim = type(vim) == "table"
local version = _VERSION:match("%d%.%d")

---Lua 5.1 would answer the next `require` with "loop or previous error", not with the reason.
---@param module string
local function forget(module)
  if type(package.loaded[module]) ~= "table" then
    package.loaded[module] = nil
  end
end

---@param message string
local function fail(message)
  forget "barrier"
  error(message, 0)
end

---@param path string
local function exists(path)
  local file = io.open(path, "rb")
  return file ~= nil and file:close()
end

---@return boolean # does this file belong to a checkout of the repository, not to a rock?
local function is_checkout()
  local path = debug.getinfo(1, "S").source
  local root, count = path:gsub("^@(.*)lua[/\\]barrier[/\\]environment%.lua$", "%1")
  return count == 1 and exists(root .. "src/core.c") and exists(root .. "build.lua")
end

---@return string # how to build the core for this Lua
local function how_to_build()
  if not neovim then
    return "Build it for this Lua, for example:\n  luarocks --lua-version=" .. version
      .. " install luv-barrier"
  elseif is_checkout() then
    return 'Build it:\n  :lua require("barrier.build").run()'
  end
  -- LuaRocks refuses --local for root.
  local uv = vim.uv or vim.loop
  local everybody = uv.getuid and uv.getuid() == 0
  return "Build it for this Neovim, for example:\n  luarocks --lua-version=" .. version
    .. (everybody and "" or " --local") .. " install --deps-mode=none luv-barrier\n"
    .. "and see that package.path and package.cpath have the folder of rocks."
end

---@return string? path of the C core, as `require` finds it
---@return string[] tried
local function find_core()
  local tried = {}
  if neovim then
    local file = "lua/barrier/core" .. (package.config:sub(1, 1) == "\\" and ".dll" or ".so")
    -- Cannot be asked for where vim.api cannot be called.
    local ok, found = pcall(vim.api.nvim_get_runtime_file, file, false)
    if ok and found[1] then
      return found[1], tried
    end
    tried[1] = file .. " in a folder of 'runtimepath'"
  end
  for template in package.cpath:gmatch("[^;]*%?[^;]*") do
    local path = template:gsub("%?", "barrier" .. package.config:sub(1, 1) .. "core")
    if exists(path) then
      return path, tried
    end
    tried[#tried + 1] = path
  end
  return nil, tried
end

---@param path string
---@return string? lua "Lua 5.4" and the like: the Lua that a C core was built for
local function built_for(path)
  local file = io.open(path, "rb")
  local bytes = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return bytes:match("barrier%.core built for (Lua %d%.%d)")
end

---Loads the C core.
---@return table core
function M.core()
  local ok, result = pcall(require, "barrier.core")
  if ok then
    return result
  end
  forget "barrier.core"
  if tostring(result):find("not enough memory", 1, true) then
    fail(result)
  end
  local path, tried = find_core()
  if not path then
    fail("barrier: its C core is not installed for " .. _VERSION .. ". package.cpath"
      .. (neovim and " and 'runtimepath' have none:" or " has none:")
      .. "\n  " .. table.concat(tried, "\n  ") .. "\n" .. how_to_build())
  end
  local lua = built_for(path)
  if lua and lua ~= _VERSION then
    fail("barrier: " .. path .. " was built for " .. lua .. ", and this is " .. _VERSION .. ".\n"
      .. how_to_build())
  end
  fail("barrier: cannot load its C core: " .. tostring(result) .. "\n" .. how_to_build())
end

---@param name string
---@return table? uv if the module of this name was loaded, and is luv
local function loaded(name)
  local module = package.loaded[name]
  return type(module) == "table" and type(module.new_timer) == "function" and module or nil
end

---Finds luv: Neovim's own, one that is loaded already, or the rock. luvi and luvit have it
---under the name uv; another luv would have a loop of its own.
---@return table uv
function M.luv()
  local uv = neovim and (vim.uv or vim.loop) or loaded "luv" or loaded "uv"
  if uv then
    return uv
  end
  local ok, result = pcall(require, "luv")
  if ok and type(result) == "table" then
    return result
  end
  if pcall(require, "uv") and loaded "uv" then
    return package.loaded.uv
  end
  result = tostring(result)
  local why = result:find("not found", 1, true) and "it is not installed" or result
  fail("barrier needs luv, Lua's binding to libuv, and cannot load it for " .. _VERSION
    .. ": " .. why .. "\nInstall it, for example:\n  luarocks --lua-version=" .. version
    .. " install luv\n  apt-get install lua-luv    (Debian, Ubuntu)")
end

---Gives the core the functions of luv that it needs.
---@param core table
function M.bind(core)
  local missing = core.bind(M.luv())
  if missing then
    fail("barrier needs a luv with timers: this one has no function " .. missing)
  end
end

return M
