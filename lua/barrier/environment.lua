---What the module needs from its environment: the C core, and luv. What to do where one of them
---is missing is in a file of its own, which is loaded only then.
local M = {}

local neovim = type(vim) == "table"

-- Of the sources that these files go with; tools/stamp writes it.
local STAMP = "374755940"

---@param message any
---@return any # never
local function fail(message)
  -- Lua 5.1 would answer the next `require` with "loop or previous error", not with the reason.
  for _, name in ipairs { "barrier", "barrier.missing" } do
    if type(package.loaded[name]) ~= "table" then
      package.loaded[name] = nil
    end
  end
  error(message, 0)
end

local function find_other(...)
  return require("barrier.missing").core(STAMP, ...)
end

local substitute ---@type table? the core that was taken in place of the first one
local substitute_problem ---@type string? why

---Loads the C core: the first one on 'runtimepath' and package.cpath that this Lua can load and
---that was built from the sources of these files. It is in package.loaded afterwards.
---@return table? core
---@return string? problem why there is none, or why it is not the first; and what to do
function M.core()
  local loaded, core = pcall(require, "barrier.core")
  if loaded and type(core) == "table" and core.stamp == STAMP then
    return core, core == substitute and substitute_problem or nil
  end
  local ok, result, problem = pcall(find_other, loaded, core)
  if not ok then
    fail(result) -- there is no memory
  end
  substitute, substitute_problem = result, problem
  return result, problem
end

---@param name string
---@return table? uv if the module of this name was loaded, and is luv
local function loaded_luv(name)
  local module = package.loaded[name]
  return type(module) == "table" and type(module.new_timer) == "function" and module or nil
end

---Finds luv: Neovim's own, one that is loaded already, or the rock. luvi and luvit have it
---under the name uv; another luv would have a loop of its own.
---@return table uv
function M.luv()
  local uv = neovim and (vim.uv or vim.loop) or loaded_luv "luv" or loaded_luv "uv"
  if uv then
    return uv
  end
  local ok, result = pcall(require, "luv")
  if ok and type(result) == "table" then
    return result
  end
  if pcall(require, "uv") and loaded_luv "uv" then
    return package.loaded.uv
  end
  return fail(require("barrier.missing").luv(result))
end

---Gives the core the functions of luv that it needs.
---@param core table
function M.bind(core)
  local missing = core.bind(M.luv())
  if missing then
    fail("barrier needs a luv with timers: this one has no function " .. missing)
  end
end

---The core and luv, ready for use; or an error that says what is missing and how to get it.
---@return table core
---@return string? problem see M.core
function M.open()
  local core, problem = M.core()
  if not core then
    return fail(problem)
  end
  M.bind(core)
  return core, problem
end

return M
