-- Groups with a name, and with jobs that are expected.
local barrier = require "barrier"
local support = require "spec.support"

local add, run_loop = support.add, support.run_loop
local finish, raises = support.finish, support.raises

local function nothing() end

describe("the option expect", function()
  it("makes jobs that exist from the start, and are missing until they are done", function()
    local keys = { "a", "b", false }
    local group, log = barrier.group { expect = keys }, {}
    keys[1] = "changed afterwards"
    assert.are.same({ "a", "b", false }, group:pending())
    assert.are.same({ 3, 3, 0 }, { group.n_jobs, group.n_pending, group.n_running })
    group:wait(10, function(err)
      add(log, tostring(err))
    end)
    run_loop()
    assert.are.same({ "TimeoutError: wait timed out after 10 ms, 0 of 3 jobs were done, pending: "
      .. "a, b, false" }, log)
    group:add "a" (nil, 1)
    group:start("b", function(done)
      assert.are.equal(1, group.n_running)
      done(nil, 2)
    end)
    local done = group:add(false)
    assert.are.same({ false }, group:pending())
    assert.are.equal(1, group.n_running)
    done()
    local err, results = finish(group)
    assert.is_nil(err)
    assert.are.same({ a = 1, b = 2, [false] = true }, results)
    assert.are.equal(3, group.n_jobs)
  end)

  it("lets add begin a job again, at any time", function()
    local group, log = barrier.group { expect = { "a", "b" } }, {}
    local function stop(name)
      return function()
        add(log, name)
      end
    end
    local first = group:add("a", stop "first")
    local second = group:add("a", stop "second")
    assert.are.equal(2, group.n_pending)
    first(nil, 1)
    second(nil, 2)
    assert.are.equal(1, group.n_pending)
    group:add "a" "ignored"
    assert.are.same({ a = 1 }, group.results)
    group:add("b", stop "b")
    group:add "b"
    group:add("b", stop "b again")
    group:abort()
    assert.are.same({ "b again", "b" }, log)
    group:add("b", stop "b after the end")
    assert.are.equal("b after the end", log[3])
    group:add "a"()
    local done = barrier.group { expect = { "x" } }
    done:add "x"()
    finish(done)
    done:add "x"() -- no error
    raises("(the group is complete)", done.add, done, "y")
  end)

  it("lets start and run begin a job once", function()
    local group = barrier.group { expect = { "a", "b" }, limit = 1 }
    for _, key in ipairs { "a", "b" } do
      group:start(key, nothing) -- b has to queue
      raises(("bad argument #1 to 'start' (the job %s has begun)"):format(key), group.start, group,
        key, nothing)
    end
    assert.are.same({ 2, 1 }, { group.n_pending, group.n_running })
    group:add "c"
    raises("has had a job with the key c", group.add, group, "c")
  end)

  it("drops the jobs that have not begun when the group is stopped", function()
    local group = barrier.group { expect = { "a", "b", "c" } }
    local done = group:add "b"
    group:abort()
    assert.are.same({ "b" }, group:pending())
    done()
    local err = finish(group, "join")
    assert.are.same({ "a", "b", "c" }, err.pending)
  end)
end)

describe("the option name", function()
  it("gives every caller the same group", function()
    local group = barrier.group { name = "one" }
    assert.are.equal(group, barrier.group { name = "one" })
    assert.are_not.equal(group, barrier.group { name = "another" })
    assert.are_not.equal(group, barrier.group())
  end)

  it("lets the group go with the last that holds it", function()
    assert.is_true(support.collected(function()
      local group = barrier.group { name = "gone" }
      group:add "key"
      return group
    end))
    assert.are.equal(0, barrier.group { name = "gone" }.n_jobs)
    local done
    assert.is_false(support.collected(function()
      local group = barrier.group { name = "held" }
      done = group:add "key"
      return group
    end))
    assert.are.equal(1, barrier.group { name = "held" }.n_jobs)
    done()
  end)

  it("refuses options that differ from those that the group was made with", function()
    local schedule = function(drain) drain() end
    local options = { name = "options", limit = 2, timeout = 1000, stop_on_error = true,
      expect = { "a", "b" }, schedule = schedule }
    local group = barrier.group(options)
    assert.are.equal(group, barrier.group(options))
    assert.are.equal(group, barrier.group { name = "options", expect = { "b", "a" } })
    for name, value in pairs { limit = 3, timeout = 1, stop_on_error = false,
      stop_on_result = true, schedule = false } do
      raises(("bad argument #1 to 'group' (the group 'options' was made with another option '%s')")
        :format(name), barrier.group, { name = "options", [name] = value })
    end
    for _, expect in ipairs { {}, { "a" }, { "a", "c" }, { "a", "b", "c" } } do
      raises("another option 'expect'", barrier.group, { name = "options", expect = expect })
    end
    assert.are.equal(group, barrier.group { name = "options", stop_on_result = false })
    options.limit = 5 -- its own copy counts
    assert.are.equal(group, barrier.group { name = "options", limit = 2 })
    group:abort()
  end)

  it("finds the group through another copy of the module", function()
    local out = support.output_of [[
      local before = {}
      for name in pairs(package.loaded) do
        if name:find "^barrier" then before[name] = package.loaded[name] end
      end
      local first = barrier.group { name = "shared", expect = { "a", "b" } }
      for name in pairs(before) do
        if name ~= "barrier.core" then package.loaded[name] = nil end
      end
      local copy = require "barrier"
      assert(copy ~= barrier and copy.group ~= barrier.group)
      local second = copy.group { name = "shared", expect = { "b", "a" } }
      print(first == second, second:pending()[2])
      first:wait(function(err) print(err) end)
      second:add "a"()
      first:add "b" "failed"
      uv.run()
      print(pcall(copy.group, { name = "shared", limit = 1 }))
    ]]
    assert.is_truthy(out:find("^true\tb\nGroupError: 1 of 2 jobs failed: b: failed\nfalse\t"), out)
  end)
end)
