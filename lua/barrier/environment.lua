---What the module needs from its environment: a core, and luv. The C core is taken where there is
---one that can be used, otherwise the core in Lua. What to say where something is missing is in a
---file of its own, which is loaded only then.
local M = {}

local here = (...):match "^(.*%.)" or "" -- a copy of these files may have another name
local neovim = type(vim) == "table"

-- Of the sources that these files go with; tools/stamp writes it.
local STAMP = "1901117649"

---@param message any
---@return any # never
local function fail(message)
  -- Lua 5.1 would answer the next `require` with "loop or previous error", not with the reason.
  for _, name in ipairs { here:sub(1, -2), here .. "missing" } do
    if type(package.loaded[name]) ~= "table" then
      package.loaded[name] = nil
    end
  end
  error(message, 0)
end

local C_CORE = here .. "core"

local function find_other(...)
  return require(here .. "missing").core(C_CORE, STAMP, ...)
end

local substitute ---@type table? the core that was taken in place of the first one
local substitute_problem ---@type string? why

---@param loaded boolean
---@param err any
---@return boolean # has `require` found no C core at all?
local function is_absent(loaded, err)
  return not loaded and not package.preload[C_CORE]
    and tostring(err):find("module '" .. C_CORE .. "' not found", 1, true) ~= nil
end

---Loads the C core: the first one on 'runtimepath' and package.cpath that this Lua can load and
---that was built from the sources of these files. It is in package.loaded afterwards.
---@param explains boolean whether to say where there is none
---@return table? core
---@return string? problem why there is none, or why it is not the first; and what to do
local function c_core(explains)
  local loaded, core = pcall(require, C_CORE)
  if loaded and type(core) == "table" and core.stamp == STAMP then
    return core, core == substitute and substitute_problem or nil
  elseif not explains and is_absent(loaded, core) then
    return nil
  end
  local ok, result, problem = pcall(find_other, loaded, core)
  if not ok then
    fail(result) -- there is no memory
  end
  substitute, substitute_problem = result, problem
  return result, problem
end

---@return string? # "c" or "lua", if the environment variable BARRIER_CORE chooses the core
local function choice()
  local name = os.getenv "BARRIER_CORE"
  if name == nil or name == "" or name == "c" or name == "lua" then
    return name ~= "" and name or nil
  end
  fail("barrier: the environment variable BARRIER_CORE must be c or lua, got " .. name)
end

---@return table core the C core, or the one in Lua; see `implementation`
local function choose()
  local chosen = choice()
  local core, problem
  if chosen ~= "lua" then
    core, problem = c_core(chosen == "c")
  end
  if chosen == "c" and not core then
    fail(problem
      .. "\nOr unset the environment variable BARRIER_CORE: then the core in Lua is used.")
  end
  return core or require(here .. "lua_core.methods")
end

---@return string? problem why the first C core is not used, and what to do about it
function M.problem()
  if choice() ~= "lua" then
    return select(2, c_core(true))
  end
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
  return fail(require(here .. "missing").luv(result))
end

local core ---@type table?

---Loads the core and luv; or raises an error that says what is missing and how to get it.
---@param prepare fun(core: table) called before anything else gets the core
function M.open(prepare)
  local chosen = choose()
  local missing = chosen.bind(M.luv())
  if missing then
    fail("barrier needs a luv with timers: this one has no function " .. missing)
  end
  core = chosen
  prepare(chosen)
end

---@return table core
function M.core()
  return core
end

return M
