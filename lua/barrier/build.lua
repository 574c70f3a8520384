---Compiles the C core for Neovim, in a checkout of the repository:
---
---    :lua require("barrier.build").run()
---
---The result is lua/barrier/core.so (on Windows core.dll), where Neovim's loader finds it.
---A C compiler is all that this needs: src/lua51 declares what Neovim's Lua offers to C.
local M = {}

local windows = vim.fn.has "win32" == 1
local root = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h:h:h")
local folder = root .. "/lua/barrier"
local core = folder .. "/core" .. (windows and ".dll" or ".so")

local AGAIN = '\nThen run\n  :lua require("barrier.build").run()'
local WHY = "barrier: cannot build its C core: "

---@param why string up to the first colon it is short: what the hook says
---@return any # never
local function fail(why)
  error(WHY .. why .. AGAIN, 0)
end

---@return string[] command the compiler, perhaps with arguments
local function find_compiler()
  local chosen = vim.env.CC
  local names = { "cc", "gcc", "clang", "zig cc" }
  if chosen and chosen ~= "" then
    if vim.fn.executable(chosen) == 1 then
      return { chosen } -- a path may have spaces
    end
    names = { chosen }
  end
  for _, name in ipairs(names) do
    local command = vim.split(vim.trim(name), "%s+")
    if vim.fn.executable(command[1]) == 1 then
      return command
    end
  end
  if names[1] == chosen then
    fail("$CC names no program: the environment variable CC is '" .. chosen .. "'.\n"
      .. "Let it name a C compiler, or unset it.")
  end
  return fail("there is no C compiler: neither " .. table.concat(names, ", ") .. " nor what the "
    .. "environment variable CC names.\nInstall one, for example:\n"
    .. "  apt-get install gcc libc6-dev    (Debian, Ubuntu)\n"
    .. "  dnf install gcc                  (Fedora)\n"
    .. "  apk add gcc musl-dev             (Alpine)\n"
    .. "  pacman -S gcc                    (Arch)\n"
    .. "  xcode-select --install           (macOS)\n"
    .. "  winget install zig.zig           (Windows)")
end

---@return string[] arguments that make it a module of Neovim's Lua
local function linking()
  if vim.fn.has "mac" == 1 then
    return { "-fPIC", "-bundle", "-undefined", "dynamic_lookup" }
  elseif not windows then
    return { "-fPIC", "-shared" }
  end
  local lua = vim.fn.fnamemodify(vim.v.progpath, ":p:h") .. "/lua51.dll"
  if vim.fn.filereadable(lua) == 0 then
    fail("there is no lua51.dll: to link with, it has to be " .. lua .. ".\n"
      .. "Use a Neovim that has lua51.dll beside nvim.exe.")
  end
  return { "-shared", lua }
end

---@param output string what the compiler said
---@return string advice what is missing, if that is known
local function advice(output)
  local header = output:match "error: '?([%w_/]+%.h)'?:? ?[Nn]o such file"
    or output:match "error: '([%w_/]+%.h)' file not found"
  if header or output:find("crti.o", 1, true) then
    return "It lacks " .. (header or "crti.o") .. ", a part of the C library: install that, for "
      .. "example:\n  apt-get install libc6-dev    (Debian, Ubuntu)"
  end
  return "If it is the compiler, let the environment variable CC name another one."
end

---A name beside the core that no other Neovim uses, which may build it at the same time.
---@param what string
local function temporary(what)
  local uv = vim.uv or vim.loop
  return ("%s/core.%s-%d-%.0f%s"):format(folder, what, uv.os_getpid(), uv.hrtime(),
    core:match "%.%a+$")
end

---Where the compiler writes: a failure leaves the core that is there.
---@return string path
local function new_file()
  local path = temporary "new"
  local file, problem = io.open(path, "wb")
  if not file then
    return fail("the plugin's folder is not writable: " .. problem .. "\nMake it writable.")
  end
  file:close()
  return path
end

---Puts the new core in place of the old one. Windows can rename a DLL that is in use, but
---neither replace nor remove it.
local function replace(new)
  if windows then
    for _, name in ipairs(vim.fn.readdir(folder)) do
      if name:find "^core%.old%-" then
        os.remove(folder .. "/" .. name)
      end
    end
    os.rename(core, temporary "old")
  end
  local ok, problem = os.rename(new, core)
  if not ok then
    os.remove(new)
    fail("the plugin's folder is not writable: " .. problem .. "\nMake it writable.")
  end
end

---@param source string
---@return string[] arguments without the name of the result
local function compiling(source)
  local arguments = { "-std=c99", "-O2", "-I" .. root .. "/src/lua51", source }
  -- LuaJIT has it; see src/host/compat.h.
  if coroutine.isyieldable then -- luacheck: ignore 143
    table.insert(arguments, "-DBARRIER_LUAJIT")
  end
  return vim.list_extend(arguments, linking())
end

---@return string # what to add to the news of a new core
local function when()
  return package.loaded.barrier and "; restart Neovim to use it" or ""
end

---Compiles and links the core, and tries whether Neovim can load it.
local function build()
  local source = root .. "/src/core.c"
  if vim.fn.filereadable(source) == 0 then
    error(WHY .. "this is no checkout of the repository: there is no " .. source .. ".\n"
      .. "A rock is built by LuaRocks:\n  luarocks --lua-version=5.1 install --deps-mode=none "
      .. "luv-barrier", 0)
  end
  local command, arguments = find_compiler(), compiling(source)
  local new = new_file()
  vim.list_extend(command, vim.list_extend(arguments, { "-o", new }))
  local output = vim.fn.system(command)
  if vim.v.shell_error ~= 0 then
    os.remove(new)
    fail(("the C compiler failed: %s\nended with status %d and said:\n%s\n%s"):format(
      table.concat(command, " "), vim.v.shell_error, vim.trim(output), advice(output)))
  end
  local open, problem = package.loadlib(new, "luaopen_barrier_core")
  if not open then
    os.remove(new)
    fail("Neovim cannot load what the compiler made: " .. problem
      .. "\nLet the environment variable CC name a compiler for this Neovim ("
      .. (jit and jit.os .. ", " .. jit.arch or _VERSION) .. ").")
  end
  replace(new)
end

---Builds the core, and says where it is. Raises an error that says what is missing.
function M.run()
  build()
  print("barrier: built " .. core .. when())
end

---For plugin managers: an install does not fail where the C core cannot be built. What it says
---fits into a line of a terminal; Neovim would ask for ENTER after more.
function M.hook()
  local built, problem = pcall(build)
  if built then
    print("barrier: built its C core" .. when())
  else
    local why = vim.startswith(problem, WHY) and problem:match("^[^:\n]*", #WHY + 1)
    print("barrier: the core in Lua is used, as " .. (why or problem))
  end
end

return M
