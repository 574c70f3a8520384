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

describe("the example fetch", function()
  it("fetches all pages, eight at a time, some of them again", function()
    local result = run(uv.cwd(), "fetch")
    assert.are.equal("fetched: 50, tried again: 5\nloop closed: 0\n", result.out)
    assert.is_truthy(result.err:find("\r50/50, errors: 0\n$"), result.err)
    assert.are.equal(0, result.code)
  end)

  it("stops the rest at the first fatal error", function()
    local result = run(uv.cwd(), "fetch", "50", "1", "3")
    local fetched = tonumber(result.out:match "^fetched: (%d+), tried again: 0\nloop closed: 0\n$")
    assert.is_true(fetched < 50, result.out)
    assert.is_truthy(result.err:find("fetch: 1 of 50 jobs failed: 3: forbidden\n$"), result.err)
    assert.are.equal(1, result.code)
  end)

  support.it_on_unix("stops everything at Ctrl-C", function()
    local result = support.chunk(([[
      io.stdout:setvbuf "no"
      local process, out = nil, uv.new_pipe(false)
      process = uv.spawn(%q, { args = { "examples/fetch.lua", "50", "100000" },
        stdio = { nil, 1, out } }, function(status, signal)
        print("status " .. status, "signal " .. signal)
        process:close()
      end)
      local timer, err = uv.new_timer(), ""
      out:read_start(function(_, chunk)
        err = err .. (chunk or "")
        if not chunk then out:close() end
      end)
      timer:start(300, 0, function()
        process:kill "sigint"
        timer:close()
      end)
      uv.run()
      print(err)
    ]]):format(support.interpreter))
    assert.is_truthy(result.out:find("fetched: 0, tried again: 0\nloop closed: 0\n", 1, true),
      result.out)
    assert.is_truthy(result.out:find("status 130\tsignal 0", 1, true), result.out)
    assert.is_truthy(result.out:find("fetch: group aborted: interrupted\n", 1, true), result.out)
  end)

  it("says how it is used", function()
    local result = run(uv.cwd(), "fetch", "many")
    assert.are.equal("usage: fetch.lua [PAGES [DELAY [FORBIDDEN]]]\n", result.err)
    assert.are.equal(1, result.code)
  end)
end)

if not support.on_windows then
  describe("the example parallel", function()
    it("shows the output of each command, in their order", function()
      local result = run(uv.cwd(), "parallel", "-j", "3", "sleep 0.1; echo one; echo err >&2",
        "echo two", "true", "echo four")
      assert.are.equal("one\nerr\ntwo\nfour\n", result.out)
      assert.are.equal("", result.err)
      assert.are.equal(0, result.code)
    end)

    it("goes on after a failure, and fails at the end", function()
      local result = run(uv.cwd(), "parallel", "-j", "1", "echo one; exit 3", "kill -9 $$",
        "echo three")
      assert.are.equal("one\nthree\n", result.out)
      assert.are.equal("parallel: echo one; exit 3: exit status 3\n"
        .. "parallel: kill -9 $$: signal 9\n", result.err)
      assert.are.equal(1, result.code)
    end)

    it("kills the rest at the first failure with -k", function()
      local result = run(uv.cwd(), "parallel", "-k", "-j", "2",
        "echo begins; sleep 1000; echo ends", "sleep 0.1; exit 1", "echo never")
      assert.are.equal("begins\n", result.out)
      assert.are.equal("parallel: echo begins; sleep 1000; echo ends: signal 15\n"
        .. "parallel: sleep 0.1; exit 1: exit status 1\n", result.err)
      assert.are.equal(1, result.code)
    end)

    it("says how it is used", function()
      for _, args in ipairs { {}, { "-j", "0", "true" }, { "-j" } } do
        local result = run(uv.cwd(), "parallel", args[1], args[2], args[3])
        assert.are.equal("usage: parallel.lua [-j JOBS] [-k] COMMAND...\n", result.err)
        assert.are.equal(1, result.code)
      end
    end)
  end)
end
