local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co = support.co
local it_nests = support.it_nests

describe("a resumed coroutine", function()
  it_nests("may run the loop, which lets the others out as well", function()
    local b, log = barrier.new(4), {}
    for i = 1, 4 do
      co(function()
        b:wait()
        support.add(log, "in " .. i)
        if i == 1 then
          while #log < 4 do
            uv.run("once")
          end
        end
        support.add(log, "out " .. i)
      end)
    end
    uv.run()
    assert.are.same({ "in 4", "out 4", "in 1", "in 2", "out 2", "in 3", "out 3", "out 1" }, log)
  end)

  it_nests("may run the loop as the last to leave, which lets the blocked in", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      while #log < 2 do
        uv.run("once")
      end
      support.add(log, "done")
    end)
    for i = 2, 4 do
      co(function()
        b:wait()
        if i > 2 then
          support.add(log, i)
        end
      end)
    end
    uv.run()
    assert.are.same({ 3, 4, "done" }, log)
  end)

  it("may collect garbage, and make and drop barriers", function()
    local b, rounds = barrier.new(3), 0
    for _ = 1, 3 do
      co(function()
        for _ = 1, 20 do
          b:wait()
          local other = barrier.new(2)
          co(function()
            other:wait()
          end)
          other:wait(function() end)
          barrier.new(2):wait(function() end)
          collectgarbage()
          rounds = rounds + 1
        end
      end)
    end
    uv.run()
    assert.are.equal(60, rounds)
  end)

  it_nests("may run the loop, which serves other barriers of the same turn too", function()
    local first, second, log = barrier.new(2), barrier.new(2), {}
    first:wait(function()
      while #log < 2 do
        uv.run("once")
      end
      support.add(log, "first")
    end)
    first:wait(function()
      support.add(log, "its second")
    end)
    second:wait(function()
      support.add(log, "other")
    end)
    second:wait(function()
      support.add(log, "other's second")
    end)
    uv.run()
    assert.are.equal(4, #log)
    table.sort(log)
    assert.are.same({ "first", "its second", "other", "other's second" }, log)
    assert.is_false(uv.loop_alive())
  end)

  it_nests("may run the loop deep inside the loops of others", function()
    local barriers, depth, deepest, passed = {}, 0, 0, 0
    for i = 1, 20 do
      barriers[i] = barrier.new(2)
      co(function()
        barriers[i]:wait()
        depth = depth + 1
        deepest = math.max(deepest, depth)
        uv.run("nowait")
        depth = depth - 1
        passed = passed + 1
      end)
      barriers[i]:wait(function() end)
    end
    support.run_loop()
    assert.are.equal(20, passed)
    assert.is_true(deepest > 1)
  end)

  it_nests("may run the loop until a later trip lets it go on", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      support.add(log, "first trip")
      local done = false
      b:wait(function()
        done = true
      end)
      b:wait(function() end)
      while not done do
        uv.run("once")
      end
      support.add(log, "second trip")
    end)
    b:wait(function() end)
    support.run_loop()
    assert.are.same({ "first trip", "second trip" }, log)
    assert.are.equal(2, b.generation)
  end)

  it("may drop the barrier that lets it out, and collect it", function()
    local passed = 0
    do
      local b = barrier.new(5)
      for _ = 1, 5 do
        co(function()
          b:wait()
          b = nil
          collectgarbage()
          collectgarbage()
          passed = passed + 1
        end)
      end
    end
    support.run_loop()
    assert.are.equal(5, passed)
  end)

  it("may trip another barrier, which is served on the next turn", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    b:wait(function()
      support.add(log, "b")
    end)
    a:wait(function()
      support.add(log, "a1")
      b:wait(function() end)
    end)
    a:wait(function()
      support.add(log, "a2")
    end)
    uv.run()
    assert.are.same({ "a1", "a2", "b" }, log)
  end)

  it("may abort, reset and cancel", function()
    local b, log = barrier.new(5), {}
    local waiting = {}
    for i = 1, 5 do
      waiting[i] = b:wait(function(err, position)
        support.add(log, i .. " " .. tostring(err or position))
        if i == 1 then
          waiting[2]:close()
        elseif i == 3 then
          b:abort("x")
        elseif i == 4 then
          b:reset()
        end
      end)
    end
    uv.run()
    assert.are.same({
      "1 0",
      "3 2",
      "4 BrokenBarrierError: barrier aborted: x",
      "5 BrokenBarrierError: barrier reset",
    }, log)
    assert.are.equal("filling", b.state)
  end)
end)

describe("other code that closes every handle of the loop", function()
  local function close_all()
    uv.walk(function(handle)
      if not handle:is_closing() then
        handle:close()
      end
    end)
  end

  it("delays the waiters until the next trip of any barrier", function()
    local b, other, log = barrier.new(2), barrier.new(2), {}
    b:wait(function()
      support.add(log, "left behind")
    end)
    b:wait(function()
      support.add(log, "left behind too")
    end)
    close_all()
    uv.run()
    assert.are.same({}, log)
    other:wait(function() end)
    other:wait(function() end)
    uv.run()
    assert.are.same({ "left behind", "left behind too" }, log)
  end)

  it("does the same from a resumed coroutine", function()
    local b, passed, handles = barrier.new(3), 0, {}
    for i = 1, 3 do
      co(function()
        b:wait()
        passed = passed + 1
        if i == 1 then
          for _, handle in ipairs(handles) do
            handle:close()
          end
        end
        b:wait()
        passed = passed + 1
      end)
    end
    uv.walk(function(handle) -- not in the coroutine: luv 1.51 cannot walk there
      if not handle:is_closing() then
        handles[#handles + 1] = handle
      end
    end)
    uv.run()
    local other = barrier.new(2)
    other:wait(function() end)
    other:wait(function() end)
    uv.run()
    assert.are.equal(6, passed)
  end)

  it("changes nothing while nobody is waiting", function()
    close_all()
    uv.run()
    local b, passed = barrier.new(2), 0
    for _ = 1, 2 do
      b:wait(1000, function()
        passed = passed + 1
      end)
    end
    uv.run()
    assert.are.equal(2, passed)
  end)
end)
