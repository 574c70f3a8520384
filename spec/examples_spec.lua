local support = require "spec.support"

local function run(name, ...)
  return support.script("examples/" .. name .. ".lua", { ... })
end

local function needs_pcall()
  if not support.pcall_yields then
    pending("PUC Lua 5.1 cannot yield inside pcall, which this example does")
    return true
  end
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

describe("the example", function()
  it("asyncio_docs prints the four lines of the documentation", function()
    local result = run "asyncio_docs"
    assert.are.equal("", result.err)
    assert.are.equal(0, result.code)
    assert.are.equal(
      "<barrier.Barrier object at 0x... [filling, waiters:2/3]>\n"
        .. "<barrier.Barrier object at 0x... [draining, waiters:0/3]>\n"
        .. "barrier passed\n"
        .. "<barrier.Barrier object at 0x... [filling, waiters:0/3]>\n",
      (result.out:gsub("0x%x+", "0x..."))
    )
  end)

  it("timeout_and_abort reports what happened to everybody", function()
    if needs_pcall() then
      return
    end
    local result = run "timeout_and_abort"
    assert.are.equal("", result.err)
    assert.are.equal(table.concat({
      "hasty: TimeoutError: wait timed out",
      "brisk: TimeoutError: wait timed out",
      "1 of 4 still waiting, aborting",
      "patient: BrokenBarrierError: barrier aborted: the fourth party never came",
      "broken: true",
      "late: BrokenBarrierError: barrier aborted: the fourth party never came",
      "reset, filling",
      "party 4 passed at position 3",
      "party 1 passed at position 0",
      "party 2 passed at position 1",
      "party 3 passed at position 2",
      "generation 1",
      "",
    }, "\n"), result.out)
  end)

  it("callbacks lets three operations and a coroutine meet", function()
    local result = run "callbacks"
    assert.are.equal("", result.err)
    local lines = {}
    for line in result.out:gmatch("[^\n]+") do
      lines[line] = true
    end
    assert.is_true(lines["all are there, path: absolute"])
    assert.is_true(lines["coroutine passed, timer: rang"])
    assert.is_true(lines["timer's callback passed, stat: directory"])
    assert.is_truthy(result.out:find("1 trip\n$"))
  end)

  it("stuck shows where each waiting party is", function()
    local result = run "stuck"
    assert.are.equal("", result.err)
    local first, second = result.out:match("party 1(.-)party 2(.*)")
    assert.is_truthy(first:find("stuck.lua:9:", 1, true))
    assert.is_truthy(second:find("stuck.lua:13:", 1, true))
    assert.is_nil(result.out:find("party 3", 1, true))
  end)

  describe("word_count", function()
    local dir

    before_each(function()
      dir = os.tmpname()
      os.remove(dir)
      assert(os.execute("mkdir -p " .. dir .. "/deep"))
    end)

    after_each(function()
      os.execute("rm -rf " .. dir)
    end)

    it("prints the most frequent words of all files", function()
      if needs_pcall() then
        return
      end
      write(dir .. "/a", "one two two three three three, Three!")
      write(dir .. "/b", "ten nine eight seven six five four")
      write(dir .. "/deep/c", "three two")
      local result = run("word_count", dir)
      assert.are.equal("", result.err)
      assert.are.equal(0, result.code)
      assert.are.equal(table.concat({
        "     5 three",
        "     3 two",
        "     1 eight",
        "     1 five",
        "     1 four",
        "     1 nine",
        "     1 one",
        "     1 seven",
        "     1 six",
        "     1 ten",
        "",
      }, "\n"), result.out)
    end)

    it("counts the project's own sources by default", function()
      if needs_pcall() then
        return
      end
      local result = run "word_count"
      assert.are.equal(0, result.code)
      assert.is_truthy(result.out:find(" machine\n", 1, true))
    end)

    it("fails with the reason when a file cannot be read", function()
      if needs_pcall() then
        return
      end
      write(dir .. "/a", "word")
      assert(os.execute("ln -s nowhere " .. dir .. "/broken-link"))
      local result = run("word_count", dir)
      assert.are.equal(1, result.code)
      assert.are.equal("", result.out)
      assert.is_truthy(result.err:find("^word_count: ENOENT.*broken%-link\n$"))
    end)

    it("fails with the reason when a folder does not exist", function()
      if needs_pcall() then
        return
      end
      local result = run("word_count", dir, dir .. "/none")
      assert.are.equal(1, result.code)
      assert.is_truthy(result.err:find("^word_count: ENOENT"))
    end)
  end)
end)
