---What else to try, and what to say, where the C core or luv cannot be loaded.
local M = {}

local is_copy = (...) ~= "barrier.missing"
local neovim = type(vim) == "table"
local version = _VERSION:match("%d%.%d")
local separator = package.config:sub(1, 1)
local folder = debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or "?"

---@param path string
---@return string? bytes nil if the file cannot be read
local function read(path)
  local file = io.open(path, "rb")
  local bytes = file and file:read("*a")
  if file then
    file:close()
  end
  return bytes
end

---@return string? root of the checkout of the repository that these files belong to, if they do
local function checkout()
  local root, count = folder:gsub("lua[/\\]barrier$", "")
  return count == 1 and read(root .. "src/core.c") and read(root .. "build.lua") and root or nil
end

---@return string # how to build the core for this Lua
function M.how_to_build()
  if is_copy then
    return "Build it in a checkout of the repository, and copy it to\n  " .. folder .. separator
      .. "core." .. (separator == "\\" and "dll" or "so")
  end
  local root = checkout()
  local luarocks = "luarocks --lua-version=" .. version
  if not neovim then
    return "Build it for this Lua, for example:\n  "
      .. (root and (root ~= "" and "cd " .. root .. "\n  " or "") .. luarocks .. " make"
        or luarocks .. " install luv-barrier")
  elseif root then
    return 'Build it:\n  :lua require("barrier.build").run()'
  end
  -- LuaRocks refuses --local for root.
  local uv = vim.uv or vim.loop
  local everybody = uv.getuid and uv.getuid() == 0
  return "Build it for this Neovim, for example:\n  " .. luarocks
    .. (everybody and "" or " --local") .. " install --deps-mode=none luv-barrier\n"
    .. "and see that package.path and package.cpath have the folder of rocks."
end

---@param name string of the module
---@return string[] paths where `require` looks for the core, in its order
local function places(name)
  local paths = {}
  name = name:gsub("%.", separator)
  if neovim then
    local file = "lua/" .. name:gsub("\\", "/") .. (separator == "\\" and ".dll" or ".so")
    -- It cannot be asked where vim.api cannot be called.
    local ok, found = pcall(vim.api.nvim_get_runtime_file, file, true)
    paths = ok and found or paths
    if #paths == 0 then
      paths[1] = file .. " in a folder of 'runtimepath'"
    end
  end
  for template in package.cpath:gmatch("[^;]*%?[^;]*") do
    paths[#paths + 1] = template:gsub("%?", (name:gsub("%%", "%%%%")))
  end
  return paths
end

---@param err any
---@return string # the error, unless memory ran out: that is raised
local function check_memory(err)
  local text = tostring(err)
  if text:find("not enough memory", 1, true) then
    error(text, 0)
  end
  return text
end

---@param path string of a core that cannot be used
---@param bytes string what the file has
---@param stamp string what the core should have
---@param err any why it could not be loaded; nil if its stamp is another
---@return string
local function unusable(path, bytes, stamp, err)
  local lua = bytes:match("barrier%.core built for (Lua %d%.%d)")
  if lua and lua ~= _VERSION then
    return path .. " was built for " .. lua .. ", and this is " .. _VERSION
  elseif err ~= nil then
    local text = check_memory(err)
    return "cannot load " .. (text:find(path, 1, true) and text or path .. ": " .. text)
  elseif bytes:find(stamp, 1, true) then
    return path .. " is new, and the one before it is still loaded: start the program again"
  end
  return path .. " was built from other sources than those of the Lua files in " .. folder
end

---@param path string
---@param stamp string
---@return table? core
---@return any err nil if it could be loaded, and has another stamp
local function load(path, stamp)
  local open, err = package.loadlib(path, "luaopen_barrier_core")
  if not open then
    return nil, err
  end
  local ok, core = pcall(open, "barrier.core", path)
  if ok and type(core) == "table" and core.stamp == stamp then
    return core
  end
  return nil, not ok and core or nil
end

---@param tried string[] all places
---@param problems string[] the cores that cannot be used
---@return string
local function describe(tried, problems)
  if #problems == 0 then
    return "barrier: its C core is not installed for " .. _VERSION .. ". package.cpath"
      .. (neovim and " and 'runtimepath' have none:" or " has none:")
      .. "\n  " .. table.concat(tried, "\n  ") .. "\n" .. M.how_to_build()
  end
  return "barrier: cannot use this C core:\n  " .. table.concat(problems, "\n  ") .. "\n"
    .. M.how_to_build()
end

---Looks for another core than the one that `require` found.
---@param name string of the module
---@param stamp string what the core should have
---@param loaded boolean was there one? It has another stamp then
---@param result any the core, or the error of `require`
---@return table? core
---@return string? problem
function M.core(name, stamp, loaded, result)
  package.loaded[name] = nil
  local why = not loaded and check_memory(result) or nil
  local tried, problems = places(name), {}
  if package.preload[name] then
    problems[1] = unusable("package.preload", "", stamp, why)
  end
  for _, path in ipairs(tried) do
    local bytes = read(path)
    if bytes then
      local core, err = load(path, stamp)
      if core then
        package.loaded[name] = core
        if is_copy and #problems == 0 then
          return core -- `require` has not found it, since its function has another name
        end
        problems[#problems + 1] = path .. " is used instead; the files above can go"
        return core, describe(tried, problems)
      end
      problems[#problems + 1] = unusable(path, bytes, stamp, err)
    end
  end
  -- Something else than a file of its own?
  if #problems == 0
    and not (why and why:find("module '" .. name .. "' not found", 1, true)) then
    problems[1] = unusable(name, "", stamp, why)
  end
  return nil, describe(tried, problems)
end

---@param err any what `require "luv"` raised or returned
---@return string problem
function M.luv(err)
  local text = tostring(err)
  local why = text:find("module 'luv' not found", 1, true) and "it is not installed" or text
  return "barrier needs luv, Lua's binding to libuv, and cannot load it for " .. _VERSION
    .. ": " .. why .. "\nInstall it, for example:\n  luarocks --lua-version=" .. version
    .. " install luv\n  apt-get install lua-luv    (Debian, Ubuntu)"
end

return M
