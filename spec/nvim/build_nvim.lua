-- The build hook, in checkouts of its own, and what `require "barrier"` says after it.
local support = require "spec.nvim.support"

local root = support.uv.cwd()
local variables = { "CC", "LUA_PATH", "LUA_CPATH", "PATH" }

describe("the build hook", function()
  local dir, kept

  before_each(function()
    dir = support.folder()
    support.system { "cp", "-R", root .. "/src", root .. "/lua", root .. "/build.lua", dir }
    for _, file in ipairs(vim.fn.glob(dir .. "/lua/barrier/core.*", true, true)) do
      os.remove(file)
    end
    kept = {}
    for _, name in ipairs(variables) do
      kept[name] = vim.env[name]
    end
    -- So that no other barrier is found.
    vim.env.LUA_PATH, vim.env.LUA_CPATH, vim.env.CC = nil, nil, nil
  end)

  after_each(function()
    for _, name in ipairs(variables) do
      vim.env[name] = kept[name]
    end
    vim.fn.delete(dir, "rf")
  end)

  ---What Neovim prints that runs this code. `add()` puts the checkout on 'runtimepath',
  ---`trip` prints its position.
  local function says(code)
    local path = dir .. "/code.lua"
    support.write(path, ([[
      local dir = %q
      vim.o.runtimepath = vim.env.VIMRUNTIME
      local function add() vim.o.runtimepath = dir .. "," .. vim.o.runtimepath end
      local function trip()
        local position
        require("barrier").new(1):wait(function(_, p) position = p end)
        vim.wait(20000, function() return position end, 1)
        print("position", position)
      end
      local function run() print(select(2, pcall(dofile, dir .. "/build.lua"))) end
      %s
      vim.cmd "qa!"
    ]]):format(dir, code))
    local output, status = support.system {
      vim.v.progpath, "--headless", "-u", "NONE", "-i", "NONE", "-n", "--noplugin",
      "-c", "luafile " .. path, "-c", "cquit", -- after an error
    }
    assert.are.equal(0, status, output)
    return (output:gsub("\r\n", "\n"))
  end

  ---A program in the place of the C compiler.
  local function compiler(script)
    local path = dir .. "/compiler"
    support.write(path, "#!/bin/sh\n" .. script .. "\n")
    vim.fn.setfperm(path, "rwxr-xr-x")
    vim.env.CC = path
  end

  local function contains(text, what)
    assert.is_truthy(text:find(what, 1, true), text)
  end

  local function exists(file)
    return vim.fn.filereadable(dir .. "/" .. file) == 1
  end

  local BY_HAND = ':lua require("barrier.build").run()'

  it("compiles a core that Neovim finds in the checkout", function()
    local output = says [[
      run()
      add()
      trip()
    ]]
    contains(output, "compiles " .. dir .. "/src/core.c")
    contains(output, "built " .. dir .. "/lua/barrier/core.so")
    assert.is_truthy(output:find "position%s+0", output)
    assert.are.same({ dir .. "/lua/barrier/core.so" },
      vim.fn.glob(dir .. "/lua/barrier/core.*", true, true))
  end)

  if vim.loader then
    it("lets Neovim's faster loader find it", function()
      contains(says [[
        vim.loader.enable()
        add()
        print(select(2, pcall(require, "barrier")))
      ]], BY_HAND)
      assert.is_truthy(says([[
        vim.loader.enable()
        add()
        require("barrier.build").run()
        trip()
      ]]):find "position%s+0")
    end)
  end

  it("takes Lua's declarations from the checkout alone, and arguments from $CC", function()
    compiler("shift; exec cc -MD -MF " .. dir .. [[/headers "$@"]])
    vim.env.CC = vim.env.CC .. " --an-argument"
    contains(says "run()", "compiler --an-argument compiles")
    local headers = table.concat(vim.fn.readfile(dir .. "/headers"), " ")
    local of_lua = {}
    for header in headers:gmatch "%S+" do
      local name = header:match "/(lua[^/]*%.h)$" or header:match "/(lauxlib%.h)$"
      if name then
        of_lua[name] = header:sub(1, #dir) == dir
      end
    end
    assert.are.same({ ["lua.h"] = true, ["lauxlib.h"] = true }, of_lua)
  end)

  it("says where the core is missing that it can be built by hand, which then works", function()
    local output = says [[
      add()
      for _ = 1, 2 do
        print(select(2, pcall(require, "barrier")))
      end
      print "now"
      require("barrier.build").run()
      trip()
    ]]
    local before, after = output:match "^(.*)now(.*)$"
    assert.are.equal(2, select(2, before:gsub(vim.pesc(BY_HAND), "")), output)
    contains(before, "package.cpath and 'runtimepath' have none")
    assert.is_truthy(after:find "position%s+0", output)
  end)

  it("says that there is no C compiler", function()
    vim.env.PATH = dir
    local output = says "run()"
    contains(output, "there is no C compiler")
    contains(output, "apt-get install gcc")
    contains(output, BY_HAND)
  end)

  it("says that $CC is no program", function()
    vim.env.CC = "no-such-compiler -m64"
    local output = says "run()"
    contains(output, "CC is 'no-such-compiler -m64'")
    contains(output, BY_HAND)
  end)

  it("shows what the compiler said, and leaves no core of other sources", function()
    compiler [[
      while [ "$1" != -o ]; do shift; done
      cp "$2" "$2.seen" 2>/dev/null
      echo half a file >"$2"
      echo "core.c:7:1: error: this is not C"
      exit 3
    ]]
    support.write(dir .. "/lua/barrier/core.so", "of an older version")
    local output = says [[
      run()
      add()
      print("then", select(2, pcall(require, "barrier")))
    ]]
    contains(output, "ended with status 3")
    contains(output, "error: this is not C")
    contains(output:match "then(.*)$", BY_HAND)
    assert.are.same({}, vim.fn.glob(dir .. "/lua/barrier/core.*", true, true))
  end)

  it("says what the C library lacks", function()
    for said, what in pairs {
      ["core.c:1:10: fatal error: stdlib.h: No such file or directory"] = "lacks stdlib.h",
      ["core.c:1:10: fatal error: 'sys/types.h' file not found"] = "lacks sys/types.h",
      ["/usr/bin/ld: cannot find crti.o: No such file or directory"] = "lacks crti.o",
    } do
      compiler('echo "' .. said .. '"; exit 1')
      local output = says "run()"
      contains(output, what)
      contains(output, "libc6-dev")
    end
  end)

  it("keeps nothing that Neovim cannot load", function()
    compiler [[
      while [ "$1" != -o ]; do shift; done
      echo not a library >"$2"
    ]]
    local output = says "run()"
    contains(output, "Neovim cannot load")
    contains(output, BY_HAND)
    assert.is_false(exists "lua/barrier/core.so")
    assert.is_false(exists "lua/barrier/core.new.so")
  end)

  it("replaces a core that is in use", function()
    local output = says [[
      run()
      add()
      trip()
      run()
      trip()
    ]]
    contains(output, "restart Neovim to use it")
    assert.is_truthy(output:find "position%s+0.*position%s+0", output)
    assert.is_truthy(says("add() trip()"):find "position%s+0")
  end)

  it("says that a rock is built by LuaRocks", function()
    vim.fn.delete(dir .. "/src", "rf")
    contains(says "run()", "luarocks --lua-version=5.1 install")
    local output = says [[
      add()
      print(select(2, pcall(require, "barrier")))
    ]]
    contains(output, "luarocks --lua-version=5.1 ")
    assert.is_nil(output:find(BY_HAND, 1, true), output)
  end)
end)
