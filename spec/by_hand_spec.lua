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
  it("has nine tasks, none of them longer with a group", function()
    assert.are.equal(9, #tasks)
    for _, task in ipairs(tasks) do
      assert.are.equal(2, #task, task.title)
      assert.is_true(task.lines[2] <= task.lines[1], task.title)
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

  describe("6: at most eight at a time", function()
    -- Counts how many are asked at a time; the servers "cached" call back at once.
    local COUNT = [[
      local running, most, ask_one = 0, 0, ask
      function ask(server, callback)
        if server:find "cached" then return callback(nil, server) end
        running = running + 1
        most = math.max(most, running)
        local answered
        ask_one(server, function(...)
          running, answered = running - (answered and 0 or 1), true
          callback(...)
        end)
      end
      local servers = {}
      for i = 1, 20 do servers[i] = "server " .. i end
    ]]

    it("works both ways", function()
      prints(6, COUNT .. 'servers[3] = "bad" ask_some(servers, function(errors, answers) '
        .. 'print(most, errors.bad, answers["server 20"]) end)',
        "8\tbad has failed\tanswer of server 20\n")
    end)

    it("by hand overflows the stack if many call back at once", function()
      local use = COUNT .. [[
        for i = 1, 200000 do servers[i] = "cached " .. i end
        local calls = 0
        print(pcall(ask_some, servers, function(errors) print("all", errors) end))
      ]]
      local hand, group = run(6, use)
      assert.are.equal("true\nall\tnil\n", group.out)
      assert.is_truthy(hand.out:find("^false\t.*overflow"), hand.out)
    end)

    it("by hand asks nine if one calls back twice, and never ends if there is none", function()
      prints(6, COUNT .. 'servers[1] = "at once, twice" ask_some(servers, function() print(most) '
        .. 'os.exit() end)', "9\n", "8\n")
      prints(6, COUNT .. "ask_some({}, show)", "", "nil\t{}\n")
    end)
  end)

  describe("7: the first failure kills the rest", function()
    support.it_on_unix("works both ways", function()
      prints(7, 'run_all({ { "true" }, { "true" } }, show)', "nil\tnil\n")
      prints(7, 'run_all({ { "sleep", "1000" }, { "false" } }, show)', "false has failed\tnil\n")
    end)

    support.it_on_unix("by hand never calls back if one cannot be started", function()
      prints(7, 'run_all({ { "true" }, { "/no/program" } }, function(err) print(err) end)', "",
        "ENOENT: no such file or directory\n")
    end)

    support.it_on_unix("by hand is over before the killed ones are", function()
      local use = [[
        local spawn, ended = uv.spawn, 0
        function uv.spawn(command, options, callback)
          return spawn(command, options, function(...) ended = ended + 1 callback(...) end)
        end
        run_all({ { "sleep", "1000" }, { "false" } }, function() print(ended) end)
      ]]
      prints(7, use, "1\n", "2\n")
    end)
  end)

  describe("8: what came in time", function()
    it("works both ways", function()
      prints(8, 'ask_within({ "a", "bad" }, 10000, show)', "{a=answer of a}\tnil\n")
      prints(8, 'ask_within({ "a", "never" }, 20, show)', "{a=answer of a}\tnil\n")
    end)

    it("by hand fails if the last answer is late, and changes what the callback got", function()
      local use = [[ask_within({ "a", "after" }, 20, function(answers)
        show(answers)
        release()
        later(20, function() show(answers) end)
      end)]]
      local hand, group = run(8, use)
      assert.are.equal(("{a=answer of a}\tnil\n"):rep(2), group.out)
      assert.are.equal("", group.err)
      assert.is_truthy(hand.err:find("clos", 1, true), hand.err)
    end)
  end)

  describe("9: a folder is deleted", function()
    -- uv.fs_unlink fails for some, and uv.fs_closedir does it once only, but counts.
    local STUBS = [[
      local unlink, closedir, closed = uv.fs_unlink, uv.fs_closedir, 0
      function uv.fs_unlink(path, callback)
        if path:find "bad" then return later(1, function() callback("cannot delete") end) end
        return unlink(path, callback)
      end
      function uv.fs_closedir(dir)
        closed = closed + 1
        return closed == 1 and closedir(dir)
      end
      local function report(err) print(err and "failed" or "deleted", closed) end
    ]]
    local dir

    before_each(function()
      dir = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/barrier-XXXXXX"))
    end)

    after_each(function()
      for _, name in ipairs { "/bad 1", "/bad 2", "/good" } do
        os.remove(dir .. name)
      end
      uv.fs_rmdir(dir)
    end)

    local function both(files, by_hand, with_group)
      for i = 1, 2 do
        uv.fs_mkdir(dir, 448)
        for _, name in ipairs(files) do
          assert(io.open(dir .. name, "w")):close()
        end
        local code = tasks[9][i] .. STUBS .. ("delete(%q, report) uv.run()"):format(dir)
        local result = support.spawn(support.interpreter, { "-e", code })
        assert.are.equal("", result.err)
        if i == 1 and by_hand ~= "" then -- it may be called more than twice
          assert.are.equal(by_hand, result.out:sub(1, #by_hand))
        else
          assert.are.equal(i == 1 and by_hand or with_group, result.out)
        end
      end
    end

    it("works both ways", function()
      both({ "/good" }, "deleted\t1\n", "deleted\t1\n")
      both({ "/good", "/bad 1" }, "failed\t1\n", "failed\t1\n")
    end)

    it("by hand closes the folder twice if two files cannot be deleted", function()
      both({ "/bad 1", "/good", "/bad 2" }, "failed\t1\nfailed\t2\n", "failed\t1\n")
    end)

    it("by hand never deletes an empty folder", function()
      both({}, "", "deleted\t1\n")
    end)
  end)
end)
