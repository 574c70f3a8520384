-- Every example runs from an unrelated folder, and prints what it should.
local uv = require "luv"
local support = require "spec.support"

local project = support.project
local examples = project .. "/examples/"

---Runs an example in `cwd`. Returns its output without addresses, its errors and its exit status.
local function run(cwd, name, ...)
  local result = support.example(cwd, name, ...)
  assert.are.equal(0, result.signal, name .. " did not end")
  local out = result.out:gsub("object at %w+", "object at 0x...")
  out = out:gsub("thread: %w+", "thread: 0x...")
  return out, result.err, result.code
end

local function lines(list)
  return table.concat(list, "\n") .. "\n"
end

local function sorted_lines(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do
    list[#list + 1] = line
  end
  table.sort(list)
  return list
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

---A symbolic link; false where the system has none, or makes none for this user.
local function link(target, path)
  return uv.fs_symlink(target, path) and uv.fs_lstat(path) ~= nil
end

---Removes a folder and its contents.
local function remove(path)
  local entries = uv.fs_scandir(path)
  for name, kind in uv.fs_scandir_next, entries do
    if kind == "directory" then
      remove(path .. "/" .. name)
    else
      assert(uv.fs_unlink(path .. "/" .. name))
    end
  end
  assert(uv.fs_rmdir(path))
end

describe("the example", function()
  local dir

  before_each(function()
    dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
  end)

  after_each(function()
    remove(dir)
  end)

  ---Expects an example to succeed with this output.
  local function prints(expected, name, ...)
    local out, err, code = run(dir, name, ...)
    assert.are.equal("", err)
    assert.are.equal(expected, out)
    assert.are.equal(0, code)
  end

  it("asyncio_docs prints the four lines of the documentation", function()
    prints(lines {
      "<barrier.Barrier object at 0x... [filling, waiters:2/3]>",
      "<barrier.Barrier object at 0x... [draining, waiters:0/3]>",
      "barrier passed",
      "<barrier.Barrier object at 0x... [filling, waiters:0/3]>",
    }, "asyncio_docs")
  end)

  it("timeout_and_abort reports what happened to each party", function()
    prints(lines {
      "hasty: TimeoutError: wait timed out after 10 ms, 3 of 4 had arrived",
      "leader: TimeoutError: wait timed out after 30 ms, 2 of 4 had arrived",
      "patient: BrokenBarrierError: barrier aborted: the fourth party never came",
      "late: BrokenBarrierError: barrier aborted: the fourth party never came",
      "the barrier is broken",
      "party 1: passed at position 0",
      "party 2: passed at position 1",
      "party 3: passed at position 2",
      "party 4: passed at position 3",
      "the barrier is filling, and has tripped 1 time",
    }, "timeout_and_abort")
  end)

  -- The system decides which operation ends first.
  it("callbacks lets three operations and a coroutine meet", function()
    local out, err, code = run(dir, "callbacks")
    assert.are.equal("", err)
    assert.are.same({
      "all are done: directory, rang, a path",
      "callback: the stat found a directory",
      "coroutine: the timer rang",
    }, sorted_lines(out))
    assert.are.equal(0, code)
  end)

  ---The number of the line with this text in an example.
  local function line_of(name, text)
    local number = 0
    for line in io.lines(examples .. name) do
      number = number + 1
      if line:find(text, 1, true) then
        return number
      end
    end
    error("no line has " .. text)
  end

  it("stuck shows which of six workers is missing, and where it hangs", function()
    local out, err, code = run(dir, "stuck")
    assert.are.equal("", err)
    assert.are.equal(0, code)
    local awaits = line_of("stuck.lua", "= barrier.await(")
    local waits = line_of("stuck.lua", "b:wait()")
    local pattern = "\n<barrier%.Barrier object at [^\n]* %[filling, waiters:5/6%]>, 1 missing"
      .. "\n  missing since the previous phase: a coroutine, suspended:"
      .. "\n    [^\n]*stuck%.lua:AWAITS: in [^\n]*"
      .. "\n    [^\n]*stuck%.lua:%d+: in [^\n]*"
      .. "\n  a coroutine waits, for [^\n]*:"
      .. "\n    [^\n]*stuck%.lua:WAITS: in [^\n]*"
      .. "\n    [^\n]*stuck%.lua:%d+: in [^\n]*"
      .. "\n  4 coroutines wait, for [^\n]*:"
      .. "\n    [^\n]*stuck%.lua:WAITS: in [^\n]*"
      .. "\nbarrier%.await\n"
    assert.is_truthy(out:find((pattern:gsub("AWAITS", awaits):gsub("WAITS", waits))), out)
  end)

  it("missing_client shows which client has not attached", function()
    local out, err, code = run(dir, "missing_client")
    assert.are.equal("", err)
    assert.are.equal(0, code)
    assert.is_truthy(out:find("%[1/2 done%]>, pending: efm\n  pending, for %d+ m?s: efm, added at "
      .. "[^\n]*missing_client%.lua:" .. line_of("missing_client.lua", "barrier.group {")
      .. "\n  a coroutine waits, for [^\n]*:\n    [^\n]*missing_client%.lua:"
      .. line_of("missing_client.lua", "clients:wait()") .. ": in "), out)
  end)

  describe("word_count", function()
    it("prints the most frequent words of all files", function()
      for _, folder in ipairs { "/one", "/one/deep", "/two" } do
        assert(uv.fs_mkdir(dir .. folder, 448)) -- rwx------
      end
      write(dir .. "/one/a", "one two two three three three, Three!")
      write(dir .. "/one/b", "ten nine eight seven six five four nine")
      write(dir .. "/one/deep/c", "three two eleven")
      write(dir .. "/two/empty", "")
      write(dir .. "/two/long", ("long winded "):rep(20000))
      prints(lines {
        " 20000 long",
        " 20000 winded",
        "     5 three",
        "     3 two",
        "     2 nine",
        "     1 eight",
        "     1 eleven",
        "     1 five",
        "     1 four",
        "     1 one",
      }, "word_count", dir .. "/one", dir .. "/two")
    end)

    it("counts the project's own sources by default", function()
      local expected = run(dir, "word_count", project .. "/src", project .. "/lua")
      assert.are.equal(10, #sorted_lines(expected))
      prints(expected, "word_count")
    end)

    it("fails with the reason when a file cannot be read", function()
      write(dir .. "/a", "word")
      if not link("nowhere", dir .. "/link") then
        pending "there are no symbolic links here"
      end
      local out, err, code = run(project, "word_count", dir)
      assert.are.equal("", out)
      assert.are.equal("word_count: ENOENT: no such file or directory: " .. dir .. "/link\n", err)
      assert.are.equal(1, code)
    end)

    it("fails with the reason when a file turns out to be a folder", function()
      if not link(".", dir .. "/link") then
        pending "there are no symbolic links here"
      end
      local out, err, code = run(project, "word_count", dir)
      assert.are.equal("", out)
      assert.are.equal(
        "word_count: EISDIR: illegal operation on a directory: " .. dir .. "/link\n",
        err
      )
      assert.are.equal(1, code)
    end)

    it("fails with the reason when a folder does not exist", function()
      local out, err, code = run(project, "word_count", dir, dir .. "/none")
      assert.are.equal("", out)
      assert.are.equal("word_count: ENOENT: no such file or directory: " .. dir .. "/none\n", err)
      assert.are.equal(1, code)
    end)
  end)
end)
