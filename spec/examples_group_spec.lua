-- The examples of groups: as examples_spec.lua does for the others.
local uv = require "luv"
local support = require "spec.support"

local run = support.example

local not_a_folder = support.on_windows and "ENOENT: no such file or directory"
  or "ENOTDIR: not a directory"

describe("the example stat_all", function()
  local dir

  before_each(function()
    dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
    for name, size in pairs { small = 1, large = 123456, empty = 0 } do
      local file = assert(io.open(dir .. "/" .. name, "w"))
      file:write(("x"):rep(size))
      file:close()
    end
  end)

  after_each(function()
    for _, name in ipairs { "small", "large", "empty" } do
      os.remove(dir .. "/" .. name)
    end
    assert(uv.fs_rmdir(dir))
  end)

  it("prints the sizes in the order given", function()
    local result = run(dir, "stat_all", "small", "empty", "large")
    assert.are.equal("", result.err)
    assert.are.equal("         1  small\n         0  empty\n    123456  large\n", result.out)
    assert.are.equal(0, result.code)
  end)

  it("names what cannot be read, at the end, and fails", function()
    local result = run(dir, "stat_all", "none", "large", "small/file", "empty")
    assert.are.equal("    123456  large\n         0  empty\n", result.out)
    assert.are.equal("stat_all: ENOENT: no such file or directory: none\n"
      .. "stat_all: " .. not_a_folder .. ": small/file\n", result.err)
    assert.are.equal(1, result.code)
  end)

  it("takes a file twice, and none at all", function()
    local result = run(dir, "stat_all", "small", "small")
    assert.are.equal("", result.err)
    assert.are.equal(("         1  small\n"):rep(2), result.out)
    result = run(dir, "stat_all")
    assert.are.equal("", result.err)
    assert.are.equal("", result.out)
    assert.are.equal(0, result.code)
  end)
end)
