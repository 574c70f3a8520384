local uv = require "luv"
local support = require "spec.support"

---Runs `code` and then `require "barrier"` in a process of its own. Returns the error.
local function says(code)
  local result = support.spawn(support.interpreter, { "-e", code .. [[
    local ok, err = pcall(require, "barrier")
    assert(not ok)
    io.write(err)
  ]] })
  assert.are.equal("", result.err)
  return result.out
end

---Does a barrier trip in the loop of the real luv, after `code`?
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
    contains(text, "install luv-barrier")
  end)

  it("says which Lua a core was built for, if not for this one", function()
    local name = os.tmpname()
    os.remove(name)
    assert(uv.fs_mkdir(name, 493))
    assert(uv.fs_mkdir(name .. "/barrier", 493))
    local file = assert(io.open(name .. "/barrier/core.so", "wb"))
    file:write("not a library\0barrier.core built for Lua 9.9\0")
    file:close()
    local text = says(("package.cpath = %q"):format(name .. "/?.so"))
    os.remove(name .. "/barrier/core.so")
    uv.fs_rmdir(name .. "/barrier")
    uv.fs_rmdir(name)
    contains(text, "was built for Lua 9.9, and this is " .. _VERSION)
    contains(text, "luarocks --lua-version=" .. _VERSION:match("%d%.%d"))
  end)

  it("says it again when it is asked again", function()
    contains(says [[
      package.cpath = "./nowhere/?.so"
      pcall(require, "barrier")
    ]], "its C core is not installed")
    contains(says [[
      package.preload["barrier.core"] = function() error "the reason" end
      pcall(require, "barrier")
    ]], "cannot load its C core: ")
    contains(says [[
      package.preload["barrier.core"] = function() error "the reason" end
      pcall(require, "barrier")
    ]], "the reason")
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
