-- Which core stands behind the module: the C core, or the one in Lua.
local uv = require "luv"
local support = require "spec.support"

---What this code prints in a process of its own; `core` is the environment variable BARRIER_CORE.
local function prints(core, code, options)
  options = options or {}
  options.env = { "BARRIER_CORE=" .. core }
  local result = support.spawn(support.interpreter, { "-e", 'uv = require "luv"\n' .. code },
    options)
  assert.are.equal("", result.err)
  return result.out
end

local TRIP = [[
  local b = barrier.new(2)
  coroutine.wrap(function() io.write("position ", b:wait(), "\n") end)()
  b:wait(function(_, position) io.write("position ", position, "\n") end)
  uv.run()
  io.write(barrier.implementation, " ", tostring(barrier.core_problem))
]]

local NO_CORE = "package.cpath = './nowhere/?.so'\n"
local REQUIRE = 'barrier = require "barrier"\n'

describe('require "barrier"', function()
  it("takes the core in Lua where there is no C core, without a word", function()
    local text = prints("", NO_CORE .. REQUIRE .. TRIP)
    assert.are.equal("position 0\nposition 1\nLua barrier: its C core is not installed for "
      .. _VERSION, text:sub(1, 67 + #_VERSION))
  end)

  it("takes the core in Lua where the C core cannot be used, and names the file", function()
    local text = prints("", [[
      package.preload["barrier.core"] = function() error "the reason" end
    ]] .. NO_CORE .. REQUIRE .. TRIP)
    assert.is_truthy(text:find "^position 0\nposition 1\nLua barrier: cannot use this C core:\n  "
      , text)
    assert.is_truthy(text:find("the reason", 1, true), text)
  end)

  it("takes the core that BARRIER_CORE names", function()
    assert.are.equal("position 0\nposition 1\nLua nil", prints("lua", REQUIRE .. TRIP))
    assert.are.equal("position 0\nposition 1\nC nil", prints("c", REQUIRE .. TRIP))
  end)

  it("says what to do where BARRIER_CORE asks for a C core that is not there", function()
    local text = prints("c", NO_CORE .. "io.write(select(2, pcall(require, 'barrier')))")
    assert.is_truthy(text:find("^barrier: its C core is not installed for " .. _VERSION), text)
    assert.is_truthy(text:find("Or unset the environment variable BARRIER_CORE", 1, true), text)
  end)

  it("knows no other BARRIER_CORE", function()
    assert.are.equal("barrier: the environment variable BARRIER_CORE must be c or lua, got rust",
      prints("rust", "io.write(select(2, pcall(require, 'barrier')))"))
  end)

  it("leaves barrier.shared to the C core, and says how to get that", function()
    local text = prints("lua", REQUIRE .. "io.write(select(2, pcall(barrier.shared, 'x', 2)))")
    assert.is_truthy(text:find("barrier.shared needs the C core.\nBuild it", 1, true), text)
  end)
end)

describe("a copy of lua/barrier in a plugin", function()
  local dir

  ---Copies a file, or a folder with all that is in it.
  local function copy(from, to)
    local scan = uv.fs_scandir(from)
    if not scan then
      assert(uv.fs_copyfile(from, to))
      return
    end
    assert(uv.fs_mkdir(to, 493))
    for name in uv.fs_scandir_next, scan do
      if not name:find "^core%." then
        copy(from .. "/" .. name, to .. "/" .. name)
      end
    end
  end

  local function remove(path)
    local scan = uv.fs_scandir(path)
    if not scan then
      os.remove(path)
      return
    end
    for name in uv.fs_scandir_next, scan do
      remove(path .. "/" .. name)
    end
    uv.fs_rmdir(path)
  end

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(uv.fs_mkdir(dir, 493))
    assert(uv.fs_mkdir(dir .. "/myplugin", 493))
    copy("lua/barrier", dir .. "/myplugin/barrier")
  end)

  after_each(function()
    remove(dir)
  end)

  local function with_copy(code)
    return ("package.path = %q .. package.path\n"):format(dir .. "/?.lua;" .. dir .. "/?/init.lua;")
      .. code
  end

  local COPY = 'barrier = require "myplugin.barrier"\n'

  it("works under its own name, and loads nothing of another one", function()
    local text = prints("", with_copy(COPY .. TRIP .. [[
      local group = barrier.group()
      local done = group:add "x"
      group:wait(function() io.write "\ngroup" end)
      barrier.stuck()
      done()
      uv.run()
      for name in pairs(package.loaded) do
        if name:find "^barrier" then io.write("\nloaded ", name) end
      end
    ]]))
    assert.is_truthy(text:find "^position 0\nposition 1\nLua .*\ngroup$", text)
  end)

  it("says how to give it a C core of its own", function()
    local text = prints("", with_copy(COPY .. "io.write(barrier.core_problem)"))
    local path = dir .. "/myplugin/barrier/core.so"
    assert.is_truthy(text:find("copy it to\n  " .. path, 1, true), text)
  end)

  support.it_in_c("uses the C core that lies beside it", function()
    for template in package.cpath:gmatch "[^;]+" do
      local path = template:gsub("%?", "barrier/core")
      if uv.fs_stat(path) then
        copy(path, dir .. "/myplugin/barrier/core.so")
        break
      end
    end
    assert.are.equal("position 0\nposition 1\nC nil", prints("", with_copy(
      ("package.cpath = %q .. package.cpath\n"):format(dir .. "/?.so;") .. COPY .. TRIP)))
  end)

  it("works beside an installed copy, each with barriers of its own", function()
    for _, core in ipairs { "", "lua" } do
      local text = prints(core, with_copy([[
        local installed, copy = require "barrier", require "myplugin.barrier"
        for _, barrier in ipairs { installed, copy } do
          local b = barrier.new(2)
          coroutine.wrap(function() io.write("position ", b:wait(), "\n") end)()
          b:wait(function(_, position) io.write("position ", position, "\n") end)
        end
        io.write(tostring(pcall(copy.new(1).wait, installed.new(1))), "\n")
        uv.run()
        local b = copy.new(2)
        b:wait(print)
        io.write(tostring(installed.stuck()), " ", type(copy.stuck()))
      ]]))
      assert.are.equal("false\n" .. ("position 0\nposition 1\n"):rep(2) .. "nil string", text)
    end
  end)
end)
