-- The build hook, in checkouts of its own, and what `require "barrier"` says after it.
local support = require "spec.nvim.support"

local root = support.uv.cwd()
local variables = { "BARRIER_CORE", "CC", "LUA_PATH", "LUA_CPATH", "PATH" }

---`it` for specs that need a C compiler, under the name that most have.
local function it_compiles(name, f)
  if vim.fn.executable "cc" == 1 then
    it(name, f)
  else
    pending(name .. " (left out: there is no C compiler)")
  end
end

describe("the build hook", function()
  local dir, kept

  ---What is in the folder of the core under its name.
  local function cores()
    return vim.fn.glob(dir .. "/lua/barrier/core.*", true, true)
  end

  before_each(function()
    dir = support.folder()
    support.system { "cp", "-R", root .. "/src", root .. "/lua", root .. "/build.lua", dir }
    for _, file in ipairs(cores()) do
      os.remove(file)
    end
    kept = {}
    for _, name in ipairs(variables) do
      kept[name] = vim.env[name]
    end
    -- So that no other barrier is found.
    vim.env.BARRIER_CORE = nil
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
        print("position " .. position)
      end
      local function run()
        print(select(2, pcall(dofile(dir .. "/lua/barrier/build.lua").run)))
      end
      local function hook() dofile(dir .. "/build.lua") end
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

  local BY_HAND = ':lua require("barrier.build").run()'

  it_compiles("compiles a core that Neovim finds in the checkout", function()
    local output = says [[
      run()
      add()
      trip()
    ]]
    contains(output, "built " .. dir .. "/lua/barrier/core.so")
    assert.is_truthy(output:find "position 0", output)
    assert.are.same({ dir .. "/lua/barrier/core.so" }, cores())
  end)

  if vim.loader then
    it_compiles("lets Neovim's faster loader find it", function()
      contains(says [[
        vim.loader.enable()
        add()
        print(require("barrier").core_problem)
      ]], BY_HAND)
      assert.is_truthy(says([[
        vim.loader.enable()
        add()
        require("barrier.build").run()
        trip()
      ]]):find "position 0")
    end)
  end

  it_compiles("takes Lua's declarations from the checkout alone, and arguments from $CC", function()
    compiler('[ "$1" = --an-argument ] && shift && exec cc -MD -MF ' .. dir .. '/headers "$@"')
    vim.env.CC = vim.env.CC .. " --an-argument"
    contains(says "run()", "built " .. dir)
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

  it_compiles("says where the core is missing how to build it, which then works", function()
    local output = says [[
      add()
      print(require("barrier").implementation)
      print(require("barrier").core_problem)
      print "now"
      require("barrier.build").run()
      trip()
    ]]
    local before, after = output:match "^(.*)now(.*)$"
    contains(before, "Lua")
    contains(before, BY_HAND)
    contains(after, "restart Neovim to use it")
    contains(before, "package.cpath and 'runtimepath' have none")
    assert.is_truthy(after:find "position 0", output)
  end)

  ---The lines that the hook prints, each of which has to fit into a terminal.
  local function lines_of_hook(code)
    local lines = vim.split(vim.trim(says(code)), "%s*\n%s*")
    for _, line in ipairs(lines) do
      assert.is_true(#line < 80, line)
    end
    return lines
  end

  it("says in one line that the core in Lua is used where it cannot build the other", function()
    assert.are.same({ "barrier: the core in Lua is used, as there is no C compiler",
      "position 0", "Lua" }, lines_of_hook [[
        vim.env.PATH = dir
        hook()
        add()
        trip()
        print(require("barrier").implementation)
      ]])
    compiler "echo 'error: this is not C'; exit 1"
    assert.are.same({ "barrier: the core in Lua is used, as the C compiler failed" },
      lines_of_hook "hook()")
    compiler [[while [ "$1" != -o ]; do shift; done; echo not a library >"$2"]]
    assert.are.same({
      "barrier: the core in Lua is used, as Neovim cannot load what the compiler made",
    }, lines_of_hook "hook()")
    vim.env.CC = "no-such-compiler"
    assert.are.same({ "barrier: the core in Lua is used, as $CC names no program" },
      lines_of_hook "hook()")
  end)

  it_compiles("says in one line that it has built the core", function()
    assert.are.same({ "barrier: built its C core", "position 0", "C",
      "barrier: built its C core; restart Neovim to use it" }, lines_of_hook [[
        hook()
        add()
        trip()
        print(require("barrier").implementation)
        hook()
      ]])
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

  it_compiles("shows what the compiler said, and leaves the core that is there", function()
    says "run()"
    compiler [[
      while [ "$1" != -o ]; do shift; done
      echo half a file >"$2"
      echo "core.c:7:1: error: this is not C"
      exit 3
    ]]
    local output = says [[
      run()
      add()
      trip()
    ]]
    contains(output, "ended with status 3")
    contains(output, "error: this is not C")
    assert.is_truthy(output:find "position 0", output)
    assert.are.same({ dir .. "/lua/barrier/core.so" }, cores())
  end)

  it("says that it cannot write into the folder, before it compiles", function()
    compiler "echo it compiles; exit 1"
    -- Root may write everywhere.
    local output = says [[
      local build = dofile(dir .. "/lua/barrier/build.lua")
      assert(vim.loop.fs_rename(dir .. "/lua/barrier", dir .. "/lua/moved"))
      print(select(2, pcall(build.run)))
    ]]
    contains(output, "the plugin's folder is not writable: ")
    assert.is_nil(output:find("it compiles", 1, true), output)
  end)

  it_compiles("may run in several Neovims at once", function()
    -- Both have written before either goes on, and the second one goes on when the first is done.
    compiler([[
      cc "$@" || exit
      if mkdir "$0.first" 2>/dev/null; then wanted=$0.second; else
        touch "$0.second"
        wanted=]] .. dir .. [[/lua/barrier/core.so
      fi
      n=0
      until [ -e "$wanted" ] || [ $n -ge 600 ]; do sleep 0.1; n=$((n + 1)); done
    ]])
    local output = says [[
      local command = { vim.v.progpath, "--headless", "-u", "NONE", "-i", "NONE", "-n",
        "-c", "luafile " .. dir .. "/build.lua", "-c", "qa!" }
      local ended, status = 0, {}
      for i = 1, 2 do
        vim.fn.jobstart(command, {
          on_exit = function(_, code) ended, status[i] = ended + 1, code end,
          on_stderr = function(_, lines) io.stdout:write(table.concat(lines, "\n")) end,
        })
      end
      vim.wait(60000, function() return ended == 2 end, 5)
      add()
      trip()
    ]]
    assert.are.equal(2, select(2, output:gsub("built its C core", "")), output)
    assert.is_truthy(output:find "position 0", output)
    assert.are.same({ dir .. "/lua/barrier/core.so" }, cores())
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
    assert.are.same({}, cores())
  end)

  it_compiles("replaces a core that is in use", function()
    local output = says [[
      run()
      add()
      trip()
      run()
      trip()
    ]]
    contains(output, "restart Neovim to use it")
    assert.is_truthy(output:find "position 0.*position 0", output)
    assert.is_truthy(says("add() trip()"):find "position 0")
  end)

  it("says that a rock is built by LuaRocks", function()
    vim.fn.delete(dir .. "/src", "rf")
    contains(says "run()", "luarocks --lua-version=5.1 install")
    local output = says [[
      add()
      print(require("barrier").core_problem)
    ]]
    contains(output, "luarocks --lua-version=5.1 ")
    assert.is_nil(output:find(BY_HAND, 1, true), output)
  end)

  ---What an update of the Lua files leaves where the hook did not run.
  local function let_core_be_stale()
    says "run()"
    local path = dir .. "/lua/barrier/environment.lua"
    local text, count = table.concat(vim.fn.readfile(path), "\n")
      :gsub('(\nlocal STAMP = )"%d+"', '%1"123"')
    assert.are.equal(1, count)
    support.write(path, text)
  end

  local STALE = "core.so was built from other sources than those of the Lua files in "

  it_compiles("is named where the core was built from other sources", function()
    let_core_be_stale()
    for _, code in ipairs {
      'print(require("barrier").core_problem)',
      "vim.cmd 'checkhealth barrier' print(table.concat(vim.fn.getline(1, '$'), '\\n'))",
      'require("barrier.health").report()',
    } do
      local output = says("add()\n" .. code)
      contains(output, dir .. "/lua/barrier/" .. STALE .. dir .. "/lua/barrier")
      contains(output, BY_HAND)
    end
  end)

  it_compiles("makes way for a core further on, and the health check warns", function()
    let_core_be_stale()
    local further = dir .. "/further"
    vim.fn.mkdir(further .. "/barrier", "p")
    support.system { "cp", dir .. "/lua/barrier/core.so", further .. "/barrier/core.so" }
    support.system { "cp", root .. "/lua/barrier/environment.lua", dir .. "/lua/barrier" }
    support.write(dir .. "/lua/barrier/core.so", "no library")
    local output = says(([[
      package.cpath = %q
      vim.o.runtimepath = vim.env.VIMRUNTIME .. "," .. dir
      trip()
      vim.cmd "checkhealth barrier"
      print(table.concat(vim.fn.getline(1, "$"), "\n"))
    ]]):format(further .. "/?.so"))
    assert.is_truthy(output:find "position 0", output)
    contains(output, "WARN")
    contains(output, "cannot load " .. dir .. "/lua/barrier/core.so")
    contains(output, further .. "/barrier/core.so is used instead")
    contains(output, BY_HAND)
  end)
end)
