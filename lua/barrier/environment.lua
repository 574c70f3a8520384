---What the module needs from its environment, or an error that says what is
---missing and how to get it.
local M = {}

-- Neovim has luv; elsewhere LuaRocks installs it too.
local REBUILD = "\nBuild it for this Lua, for example:\n  luarocks --lua-version=%s "
  .. (type(vim) == "table" and "--local install --deps-mode=none" or "install") .. " luv-barrier"

---@param name string
---@return string? path of the C module on package.cpath
local function find_c_module(name)
  for template in package.cpath:gmatch("[^;]+") do
    local path = template:gsub("%?", (name:gsub("%.", package.config:sub(1, 1))))
    local file = io.open(path, "rb")
    if file then
      file:close()
      return path
    end
  end
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
  local version = _VERSION:match("%d%.%d")
  local path = find_c_module("barrier.core")
  if not path then
    error("barrier: its C core is not installed for " .. _VERSION .. REBUILD:format(version), 0)
  end
  local lua = built_for(path)
  if lua and lua ~= _VERSION then
    error("barrier: " .. path .. " was built for " .. lua .. ", and this is " .. _VERSION
      .. REBUILD:format(version), 0)
  end
  error("barrier: cannot load its C core: " .. tostring(result), 0)
end

---Finds luv: Neovim's own, or the rock.
---@return table uv
function M.luv()
  if type(vim) == "table" and (vim.uv or vim.loop) then
    return vim.uv or vim.loop
  end
  local ok, result = pcall(require, "luv")
  if ok and type(result) == "table" then
    return result
  end
  result = tostring(result)
  local why = result:find("not found", 1, true) and "it is not installed" or result
  error("barrier needs luv, Lua's binding to libuv, and cannot load it for " .. _VERSION
    .. ": " .. why .. "\nInstall it, for example:\n  luarocks --lua-version="
    .. _VERSION:match("%d%.%d") .. " install luv\n"
    .. "  apt-get install lua-luv    (Debian, Ubuntu)", 0)
end

return M
