-- The examples of groups: as examples_spec.lua does for the others.
local uv = require "luv"
local support = require "spec.support"

local project = uv.cwd()

local function absolute(path)
  return (path:gsub("[^;]+", function(template)
    return template:sub(1, 1) == "/" and template or project .. "/" .. template
  end))
end

---Runs an example in the folder `cwd`.
local function run(cwd, name, ...)
  local path, cpath = package.path, package.cpath
  package.path, package.cpath = absolute(path), absolute(cpath)
  local result = support.script(project .. "/examples/" .. name .. ".lua", { ... }, { cwd = cwd })
  package.path, package.cpath = path, cpath
  return result
end

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
      .. "stat_all: ENOTDIR: not a directory: small/file\n", result.err)
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
