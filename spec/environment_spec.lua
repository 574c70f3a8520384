local uv = require "luv"
local support = require "spec.support"

---Runs `code` and then `require "barrier"` in a process of its own that wants the C core. Returns
---the error.
local function says(code)
  local result = support.spawn(support.interpreter, { "-e", code .. [[
    local ok, err = pcall(require, "barrier")
    assert(not ok)
    io.write(err)
  ]] }, { env = { "BARRIER_CORE=c" } })
  assert.are.equal("", result.err)
  return result.out
end

---Checks that a barrier trips in the loop of the real luv, after `code`.
local function trips(code)
  local result = support.spawn(support.interpreter, { "-e", [[
    local luv = require "luv"
    ]] .. code .. [[

    require("barrier").new(1):wait(function(_, position)
      io.write("position ", position)
    end)
    luv.run()
  ]] })
  assert.are.same({ "position 0", "" }, { result.out, result.err })
end

local function contains(text, what)
  assert.is_truthy(text:find(what, 1, true), text)
end

describe('require "barrier"', function()
  it("says what to install if luv is missing", function()
    local text = says [[package.preload.luv = function() error "module 'luv' not found" end]]
    contains(text, "barrier needs luv, Lua's binding to libuv")
    contains(text, "it is not installed")
    contains(text, "luarocks --lua-version=" .. _VERSION:match("%d%.%d") .. " install luv\n")
    assert.is_nil(text:find("stack traceback", 1, true))
  end)

  it("says why luv cannot be loaded", function()
    contains(says [[package.preload.luv = function() error "libuv is too old" end]],
      "libuv is too old")
  end)

  it("does not call a luv missing that is there and cannot be loaded", function()
    local text = says [[package.preload.luv = function() error "libuv.so.1: symbol not found" end]]
    contains(text, "libuv.so.1: symbol not found")
    assert.is_nil(text:find("not installed", 1, true), text)
  end)

  it("names what a luv without timers lacks", function()
    contains(says [[package.loaded.luv = {}]], "needs a luv with timers")
    contains(says [[package.loaded.luv = { new_timer = print, new_idle = print }]],
      "no function timer_start")
  end)

  it("takes a luv that is loaded as uv, as luvi has it, and asks for no other", function()
    trips [[
      package.loaded.luv, package.loaded.uv = nil, luv
      package.preload.luv = function() print "asked for another luv" end
    ]]
  end)

  it("asks for uv where there is no luv", function()
    trips [[
      package.loaded.luv = nil
      package.preload.luv = function() error "module 'luv' not found" end
      package.preload.uv = function() return luv end
    ]]
  end)

  it("does not take a module uv that is something else", function()
    local other = "package.loaded.luv, package.loaded.uv = nil, { index = 11 } -- ultraviolet\n"
    trips(other .. "package.preload.luv = function() return luv end\n")
    contains(says(other .. [[package.preload.luv = function() error "libuv is too old" end]]),
      "libuv is too old")
  end)

  it("says where it looked for the core, and how to build it, where there is none", function()
    local text = says [[package.cpath = "./nowhere/?.so;/no.where/?/?.so;/all.so"]]
    local tried = "./nowhere/barrier|core.so\n  /no.where/barrier|core/barrier|core.so\n"
    contains(text, "its C core is not installed for " .. _VERSION .. ". package.cpath has none:\n"
      .. "  " .. tried:gsub("|", package.config:sub(1, 1)))
    assert.is_nil(text:find("all.so", 1, true))
    -- From a checkout the rock is made there.
    local luarocks = "luarocks --lua-version=" .. _VERSION:match "%d.%d"
    assert.is_truthy(text:find(luarocks .. " install luv-barrier", 1, true)
      or text:find(luarocks .. " make", 1, true), text)
  end)

  it("is what barrier.core asks for when it is used alone", function()
    local result = support.spawn(support.interpreter, { "-e", [[
      local core = require "barrier.core"
      local ok, err = pcall(core.make_new(), 2)
      io.write(tostring(ok), err)
    ]] })
    contains(result.out, 'barrier.core is private; require "barrier"')
  end)
end)

describe("a C core that cannot be used", function()
  local dir, paths
  local stamp = require "barrier.core".stamp
  local good

  ---Writes a core into a folder of its own, which comes first in package.cpath. Returns its path.
  local function core(name, bytes)
    local folder = dir .. "/" .. name
    uv.fs_mkdir(folder, 493)
    uv.fs_mkdir(folder .. "/barrier", 493)
    local path = folder .. "/barrier/core.so"
    local file = assert(io.open(path .. ".new", "wb"))
    file:write(bytes)
    file:close()
    assert(os.rename(path .. ".new", path))
    paths[path] = folder
    return path
  end

  ---A C core of other sources.
  local function stale(name)
    local bytes, count = good:gsub(stamp, stamp:reverse())
    assert.are.equal(1, count)
    return core(name, bytes)
  end

  ---package.cpath with these folders and nothing else.
  local function cpath(...)
    local templates = { ... }
    for i, path in ipairs(templates) do
      templates[i] = paths[path] .. "/?.so"
    end
    return ("package.cpath = %q\n"):format(table.concat(templates, ";"))
  end

  ---What this code prints in a process of its own that has luv.
  local function prints(code)
    local result = support.spawn(support.interpreter, { "-e", 'uv = require "luv"\n' .. code },
      { env = { "BARRIER_CORE=" } })
    assert.are.equal("", result.err)
    return result.out
  end

  local TRIP = [[
    local barrier = require "barrier"
    barrier.new(1):wait(function(_, position) io.write("position ", position, "\n") end)
    uv.run()
    io.write(tostring(barrier.core_problem))
  ]]

  before_each(function()
    dir, paths = os.tmpname(), {}
    os.remove(dir)
    assert(uv.fs_mkdir(dir, 493))
    for template in package.cpath:gmatch "[^;]+" do
      local file = not good and io.open((template:gsub("%?", "barrier/core")), "rb")
      if file then
        good = file:read "*a"
        file:close()
      end
    end
  end)

  after_each(function()
    for path, folder in pairs(paths) do
      os.remove(path)
      uv.fs_rmdir(folder .. "/barrier")
      uv.fs_rmdir(folder)
    end
    uv.fs_rmdir(dir)
  end)

  it("is no problem where there is none", function()
    assert.are.equal("position 0\nnil", prints(cpath(core("good", good)) .. TRIP))
  end)

  it("gives way to the next one, whatever is wrong with it, and is named", function()
    local other = core("other", "not a library\0barrier.core built for Lua 9.9\0")
    local half = core("half", "not a library")
    local of_others, used = stale "stale", core("used", good)
    local text = prints(cpath(other, half, of_others, used, core("next", good)) .. TRIP)
    contains(text, "position 0\nbarrier: cannot use this C core:\n  " .. other
      .. " was built for Lua 9.9, and this is " .. _VERSION .. "\n  cannot load " .. half)
    contains(text, "\n  " .. of_others .. " was built from other sources than those of the Lua "
      .. "files in ")
    contains(text, "\n  " .. used .. " is used instead; the files above can go\n"
      .. "Build it for this Lua")
  end)

  it("is named by the error if there is no other, with how to build it", function()
    for name, make in pairs {
      [" was built for Lua 9.9"] = function()
        return core("other", "not a library\0barrier.core built for Lua 9.9\0")
      end,
      [""] = function()
        return core("half", "not a library")
      end,
      [" was built from other sources"] = function()
        return stale "stale"
      end,
    } do
      local path = make()
      local text = says(cpath(path) .. 'pcall(require, "barrier")\n')
      contains(text, path .. name)
      contains(text, "luarocks --lua-version=" .. _VERSION:match "%d%.%d")
      assert.is_nil(text:find("used instead", 1, true), text)
    end
  end)

  it("is replaced where others of the module have loaded it", function()
    local first, used, third = stale "stale", core("used", good), core("third", good)
    local code = cpath(first) .. [[
      require "barrier.core"
    ]] .. cpath(first, used) .. TRIP .. [[
      local core = require "barrier.core"
      io.write("\n", core.stamp, " ", tostring(core.CancelledError == barrier.CancelledError))
      package.loaded.barrier = nil
      io.write(" ", tostring(require "barrier".core_problem == barrier.core_problem))
      package.loaded.barrier, package.loaded["barrier.core"] = nil, nil
    ]] .. cpath(third) .. [[
      io.write(" ", tostring(require "barrier".core_problem))
    ]]
    local text = prints(code)
    contains(text, "position 0\nbarrier: cannot use this C core:\n  " .. first)
    contains(text, "\n" .. stamp .. " true true nil")
  end)

  it("has to leave the program where a new one is in its place", function()
    local path = stale "core"
    local new = core("new", good)
    contains(says(cpath(path) .. 'pcall(require, "barrier")\n'
        .. ("assert(os.rename(%q, %q))\n"):format(new, path)),
      path .. " is new, and the one before it is still loaded: start the program again")
  end)

  it("is one of package.preload, too", function()
    contains(prints([[
      package.preload["barrier.core"] = function() error "the reason" end
    ]] .. TRIP), "position 0\nbarrier: cannot use this C core:\n  cannot load package.preload: ")
  end)

  it("is not the reason where memory runs out", function()
    assert.are.equal("not enough memory", says(cpath(core("good", good)) .. [[
      package.preload["barrier.core"] = function() error("not enough memory", 0) end
      pcall(require, "barrier")
    ]]))
  end)

  it("is one that something else than a file has", function()
    contains(says [[
      package.cpath = "./nowhere/?.so"
      package.loaded["barrier.core"] = {}
    ]], "barrier.core was built from other sources")
  end)
end)
