-- The code in doc/by_hand.md does what it says: the hand-written one has the faults that it is
-- said to have, and the one with a group has none.
local uv = require "luv"
local support = require "spec.support"

local tasks = require "spec.by_hand" "doc/by_hand.md"

-- Prints what a callback gets: errors, then results, sorted by key.
local SHOW = [[
local function text(value)
  if type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  for key, v in pairs(value) do
    parts[#parts + 1] = key .. "=" .. (type(v) == "table" and v.size or text(v))
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ", ") .. "}"
end
local function show(errors, results)
  print(text(errors), text(results))
end
]]

---Runs both blocks of a task, each followed by `use`.
local function run(number, use)
  local results = {}
  for i = 1, 2 do
    local code = tasks[number][i] .. SHOW .. use .. "\nuv.run()"
    results[i] = support.spawn(support.interpreter, { "-e", code })
  end
  return results[1], results[2]
end

---Expects what each of them prints.
local function prints(number, use, by_hand, with_group)
  local hand, group = run(number, use)
  assert.are.equal("", group.err)
  assert.are.equal(with_group or by_hand, group.out)
  assert.are.equal("", hand.err)
  assert.are.equal(by_hand, hand.out)
end

describe("doc/by_hand.md", function()
  it("has five tasks, each of them shorter with a group", function()
    assert.are.equal(5, #tasks)
    for _, task in ipairs(tasks) do
      assert.are.equal(2, #task, task.title)
      assert.is_true(task.lines[2] < task.lines[1], task.title)
    end
  end)

  describe("1: sizes", function()
    it("works both ways", function()
      local size = uv.fs_stat("LICENSE").size
      prints(1, 'sizes({ "LICENSE", "/no/file" }, show)',
        ("{/no/file=ENOENT: no such file or directory: /no/file}\t{LICENSE=%d}\n"):format(size))
      prints(1, 'sizes({ "LICENSE" }, show)', ("nil\t{LICENSE=%d}\n"):format(size))
    end)

    it("by hand never calls back if there is no file", function()
      prints(1, "sizes({}, show)", "", "nil\t{}\n")
    end)
  end)

  describe("2: answers within a time", function()
    it("works both ways", function()
      prints(2, 'ask_all({ "a", "bad" }, 10000, show)', "{bad=bad has failed}\t{a=answer of a}\n")
      prints(2, 'ask_all({ "a", "b" }, 10000, show)', "nil\t{a=answer of a, b=answer of b}\n")
      prints(2, 'ask_all({ "never a", "b", "never c" }, 20, show)',
        "no answer from never a, never c\tnil\n")
    end)

    it("by hand fails if the last server answers after the time", function()
      local use = 'ask_all({ "a", "after" }, 10, function(...) show(...) release() end)'
      local hand, group = run(2, use)
      assert.are.equal("no answer from after\tnil\n", group.out)
      assert.are.equal("", group.err)
      assert.are.equal("no answer from after\tnil\n", hand.out)
      assert.is_truthy(hand.err:find("clos", 1, true), hand.err)
    end)

    it("by hand does not wait for another if a server calls back twice", function()
      prints(2, 'ask_all({ "at once, twice", "b" }, 10000, function(...) show(...) os.exit() end)',
        "nil\t{at once, twice=answer of at once, twice}\n",
        "nil\t{at once, twice=answer of at once, twice, b=answer of b}\n")
    end)

    it("by hand lets all the time pass if there is no server", function()
      prints(2, "ask_all({}, 10, show)", "no answer from \tnil\n", "nil\t{}\n")
    end)
  end)

  describe("3: files", function()
    local dir

    before_each(function()
      dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
      assert(uv.fs_mkdir(dir .. "/deep", 448)) -- rwx------
      for _, name in ipairs { "/a", "/deep/b" } do
        assert(io.open(dir .. name, "w")):close()
      end
    end)

    after_each(function()
      for _, name in ipairs { "/a", "/deep/b" } do
        os.remove(dir .. name)
      end
      assert(uv.fs_rmdir(dir .. "/deep"))
      assert(uv.fs_rmdir(dir))
    end)

    it("works both ways", function()
      prints(3, ("list(%q, show)"):format(dir),
        ("nil\t{%s/deep={1=b}, %s={1=a}}\n"):format(dir, dir))
    end)

    -- Root may read every folder, so scandir is told to fail for some.
    it("by hand loses the files of the others if folders cannot be read", function()
      local failing = [[
        local scandir = uv.fs_scandir
        function uv.fs_scandir(path, callback)
          if path:find "bad" then
            later(1, function() callback("cannot read " .. path:match "[^/]*$") end)
            return
          end
          return scandir(path, callback)
        end
      ]]
      local bad = { dir .. "/bad1", dir .. "/bad2" }
      for i = 1, 2 do
        assert(uv.fs_mkdir(bad[i], 448))
      end
      local hand, group = run(3, failing .. ("list(%q, show)"):format(dir))
      for i = 1, 2 do
        assert(uv.fs_rmdir(bad[i]))
      end
      assert.are.equal(("{%s=cannot read bad1, %s=cannot read bad2}\t{%s/deep={1=b}, %s={1=a}}\n")
        :format(bad[1], bad[2], dir, dir), group.out)
      local line = "cannot read (bad%d)\tnil\n"
      local first, second, rest = hand.out:match("^" .. line .. line .. "(.*)$")
      assert.is_truthy(first, hand.out)
      assert.are_not.equal(first, second)
      assert.are.equal("", rest)
    end)
  end)

  describe("4: all, or the first error", function()
    it("works both ways", function()
      prints(4, 'ask_each({ "a", "b" }, show)', "nil\t{1=answer of a, 2=answer of b}\n")
    end)

    it("by hand calls back twice if two servers fail", function()
      local use = 'ask_each({ "bad 1", "late bad 2" }, function(err) print(err) end)'
      local hand, group = run(4, use)
      assert.are.equal("bad 1 has failed\n", group.out)
      assert.are.equal("bad 1 has failed\nlate bad 2 has failed\n", hand.out)
    end)

    it("by hand has the answers in the order in which they came", function()
      prints(4, 'ask_each({ "late", "b" }, show)', "nil\t{1=answer of b, 2=answer of late}\n",
        "nil\t{1=answer of late, 2=answer of b}\n")
    end)

    it("by hand is at its end too early if a server calls back at once", function()
      prints(4, 'ask_each({ "at once", "b" }, function(_, answers) print(#answers) end)',
        "1\n2\n", "2\n")
    end)

    it("by hand never calls back if there is no server", function()
      prints(4, "ask_each({}, show)", "", "nil\t{}\n")
    end)
  end)
end)
