-- The examples crawl and load: parties and jobs that come and go, and a party that watches.
local uv = require "luv"
local support = require "spec.support"

local function run(name, ...)
  local result = support.script("examples/" .. name .. ".lua", { ... })
  assert.are.equal(0, result.signal, "it did not end")
  return result
end

---Expects that an example ends well with this output.
local function prints(expected, name, ...)
  local result = run(name, ...)
  assert.are.equal("", result.err)
  assert.are.equal(expected, result.out)
  assert.are.equal(0, result.code)
end

describe("the example crawl", function()
  local dir
  local made -- what is in `dir`, each folder before its contents

  before_each(function()
    dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
    made = {}
  end)

  after_each(function()
    for i = #made, 1, -1 do
      assert((made[i].folder and uv.fs_rmdir or uv.fs_unlink)(made[i].path))
    end
    assert(uv.fs_rmdir(dir))
  end)

  local function folder(name)
    local path = dir .. "/" .. name
    assert(uv.fs_mkdir(path, 448)) -- rwx------
    made[#made + 1] = { path = path, folder = true }
  end

  local function file(name, size)
    local path = dir .. "/" .. name
    local handle = assert(io.open(path, "w"))
    handle:write(("x"):rep(size))
    handle:close()
    made[#made + 1] = { path = path }
  end

  ---Makes a symbolic link, where the system has such and lets this user make one.
  local function link(target, name)
    local path = dir .. "/" .. name
    if uv.fs_symlink(target, path) and uv.fs_lstat(path) then
      made[#made + 1] = { path = path }
    else
      assert(support.on_windows)
    end
  end

  ---Counts the files of a folder one after the other.
  local function count(path)
    local files = 0
    local entries = assert(uv.fs_scandir(path))
    for name in uv.fs_scandir_next, entries do
      local kind = assert(uv.fs_lstat(path .. "/" .. name)).type
      if kind == "directory" then
        files = files + count(path .. "/" .. name)
      elseif kind == "file" then
        files = files + 1
      end
    end
    return files
  end

  it("counts the files of a tree", function()
    file("one", 1)
    file("empty", 0)
    folder "nothing"
    local deep = "deep"
    for level = 1, 40 do
      folder(deep)
      file(deep .. "/file", level)
      deep = deep .. "/deep"
    end
    for i = 1, 30 do
      folder("wide" .. i)
      for j = 1, 20 do
        file("wide" .. i .. "/" .. j, 100)
      end
    end
    file(".hidden", 7)
    link("one", "link to a file")
    link(".", "link to a folder")
    link("nowhere", "link to nothing")
    local files = 3 + 40 + 30 * 20
    prints(("files: %d, bytes: %d\n"):format(files, 1 + 7 + 820 + 60000), "crawl", dir)
  end)

  it("counts the project's own specs", function()
    local result = run("crawl", "spec")
    assert.are.equal("", result.err)
    local files = result.out:match "^files: (%d+), bytes: %d+\n$"
    assert.are.equal(count "spec", tonumber(files))
    assert.are.equal(0, result.code)
  end)

  it("takes an empty folder, and a file", function()
    prints("files: 0, bytes: 0\n", "crawl", dir)
    file("one", 3)
    prints("files: 1, bytes: 3\n", "crawl", dir .. "/one")
  end)

  it("reports what it cannot read", function()
    local result = run("crawl", dir .. "/none")
    assert.are.equal("files: 0, bytes: 0\n", result.out)
    local err = "crawl: ENOENT: no such file or directory: " .. dir .. "/none\n"
    assert.are.equal(err, result.err)
    assert.are.equal(1, result.code)
  end)

  support.it_on_unix("goes on when a folder cannot be read", function()
    folder "open"
    folder "shut"
    folder "shut/inside"
    file("open/one", 3)
    file("last", 4)
    assert(uv.fs_chmod(dir, 493)) -- rwxr-xr-x
    assert(uv.fs_chmod(dir .. "/open", 493))
    assert(uv.fs_chmod(dir .. "/shut", 0))
    -- Root may read everything, so it becomes somebody else, when all is loaded.
    local code = [[
      require "barrier".group():start(function(done) done() end)
      local crawl = assert(loadfile "examples/crawl.lua")
      if require "luv".getuid() == 0 then
        require "luv".setuid(65534)
      end
      arg = { %q }
      crawl()
    ]]
    local result = support.spawn(support.interpreter, { "-e", code:format(dir) })
    assert(uv.fs_chmod(dir .. "/shut", 448))
    assert.are.equal("files: 2, bytes: 7\n", result.out)
    local err = "crawl: EACCES: permission denied: " .. dir .. "/shut\n"
    assert.are.equal(err, result.err)
    assert.are.equal(1, result.code)
  end)

  it("asks for one folder", function()
    for _, args in ipairs { {}, { "one", "two" } } do
      local result = run("crawl", args[1], args[2])
      assert.are.equal("", result.out)
      assert.are.equal("usage: crawl.lua DIR\n", result.err)
      assert.are.equal(1, result.code)
    end
  end)
end)

describe("the example load", function()
  ---The times are up to the system.
  local function prints_but_times(expected, ...)
    local result = run("load", ...)
    assert.are.equal("", result.err)
    assert.are.equal(expected, (result.out:gsub("within %d+%.%d%d ms", "within some ms")))
    assert.are.equal(0, result.code)
  end

  local function round(number, sent, answered)
    local line = ("round %d: %d sent within some ms, "):format(number, sent)
    return line .. (answered and answered .. " answered within some ms\n" or "none answered\n")
  end

  it("lets all clients start each round, and reports it", function()
    prints_but_times(round(1, 12, 12) .. round(2, 12, 12), "12", "2")
  end)

  it("goes on without the clients that have failed", function()
    local result = run "load"
    assert.are.equal("", result.err)
    assert.are.equal(0, result.code)
    local rounds, gone = "", {}
    for line in result.out:gmatch "([^\n]*)\n" do
      local client = line:match "^client (%d+): the server hung up$"
      if client then
        assert.is_nil(gone[client], "client " .. client .. " twice")
        gone[client] = true
        rounds = rounds .. "gone\n"
      else
        rounds = rounds .. line:gsub("within %d+%.%d%d ms", "within some ms") .. "\n"
      end
    end
    -- Requests 25, 50 and 75 get no answer.
    assert.are.equal(
      round(1, 20, 20)
        .. "gone\n"
        .. round(2, 20, 19)
        .. "gone\n"
        .. round(3, 19, 18)
        .. "gone\n"
        .. round(4, 18, 17)
        .. round(5, 17, 17),
      rounds
    )
  end)

  it("ends when the last client has failed", function()
    local expected = ""
    for i = 1, 24 do
      expected = expected .. round(i, 1, 1)
    end
    expected = expected .. "client 1: the server hung up\n" .. round(25, 1)
    prints_but_times(expected, "1", "30")
  end)

  it("refuses bad arguments", function()
    for _, args in ipairs { { "0" }, { "many" }, { "10001" }, { "2", "0" }, { "2", "-1" } } do
      local result = run("load", args[1], args[2])
      assert.are.equal("", result.out)
      local usage = "usage: load.lua [CLIENTS [ROUNDS]], both from 1 to 10000\n"
      assert.are.equal(usage, result.err)
      assert.are.equal(1, result.code)
    end
  end)
end)
