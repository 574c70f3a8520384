-- The protocols by which async frameworks call a function with a callback, each in a
-- stand-in of a few lines.
local barrier = require "barrier"
local support = require "spec.nvim.support"

local co, wait_for = support.co, support.wait_for

---Works like vim.async and async.nvim: await(argc, f, ...) calls f with the callback as
---argument argc. Closing the task closes what f returned.
local function await(task, argc, f, ...)
  local args = { ... }
  args[argc] = function(...)
    task.closable = nil
    coroutine.resume(task.co, ...)
  end
  task.closable = f(unpack(args, 1, argc))
  return coroutine.yield()
end

local function new_task(f)
  local task = {}
  function task.close(_, on_close)
    task.closable:close(on_close)
  end
  task.co = coroutine.create(f)
  coroutine.resume(task.co, task)
  return task
end

describe("a task of async.nvim", function()
  it("awaits b.wait", function()
    local b, results = barrier.new(2), {}
    for i = 1, 2 do
      new_task(function(task)
        local err, position = await(task, 2, b.wait, b)
        results[i] = err or position
      end)
    end
    wait_for(function()
      return #results == 2
    end)
    assert.are.same({ 0, 1 }, results)
  end)

  it("takes its party out when it is closed, and learns when that is done", function()
    local b, closed = barrier.new(2), false
    local task = new_task(function(task)
      await(task, 2, b.wait, b)
      error "not reached"
    end)
    assert.are.equal(1, b.n_waiting)
    task:close(function()
      closed = true
    end)
    assert.are.equal(0, b.n_waiting)
    assert.is_false(closed)
    wait_for(function()
      return closed
    end)
  end)
end)

---Works like nvim-nio's and plenary's wrap(f, argc): the callback comes last.
local function wrap(f, argc)
  return function(...)
    local running = coroutine.running()
    local args = { ... }
    args[argc] = function(...)
      coroutine.resume(running, ...)
    end
    f(unpack(args, 1, argc))
    return coroutine.yield()
  end
end

describe("a function wrapped as in nvim-nio and plenary", function()
  it("returns err and position", function()
    local b, results = barrier.new(2), {}
    local wait = wrap(b.wait, 2)
    for _ = 1, 2 do
      co(function()
        local err, position = wait(b)
        support.add(results, tostring(err) .. " " .. tostring(position))
      end)
    end
    wait_for(function()
      return #results == 2
    end)
    assert.are.same({ "nil 0", "nil 1" }, results)
  end)

  it("returns the error of a broken barrier", function()
    local b, result = barrier.new(2), nil
    b:abort("why")
    co(function()
      result = wrap(b.wait, 2)(b)
    end)
    wait_for(function()
      return result
    end)
    assert.are.equal("why", result.reason)
  end)
end)

---Works like coop.nvim's cb_to_tf(f, { on_cancel }): the callback comes first, and
---on_cancel gets the arguments and what f returned.
local function cb_to_tf(f, options)
  return function(...)
    local running, args = coroutine.running(), { ... }
    local returned = { f(function(...)
      coroutine.resume(running, "called", ...)
    end, ...) }
    local how, err, position = coroutine.yield()
    if how == "cancel" then
      options.on_cancel(args, returned)
      return "cancelled"
    end
    return err, position
  end
end

describe("a task function of coop.nvim", function()
  local wait = cb_to_tf(function(callback, b)
    return b:wait(callback)
  end, {
    on_cancel = function(_, returned)
      returned[1]:close()
    end,
  })

  it("waits through an adapter of one line", function()
    local b, result = barrier.new(2), nil
    co(function()
      result = { wait(b) }
    end)
    b:wait(function() end)
    wait_for(function()
      return result
    end)
    assert.are.same({ nil, 0 }, result)
  end)

  it("takes its party out when it is cancelled", function()
    local b, result = barrier.new(2), nil
    local task = co(function()
      result = wait(b)
    end)
    assert.are.equal(1, b.n_waiting)
    coroutine.resume(task, "cancel")
    assert.are.equal("cancelled", result)
    assert.are.equal(0, b.n_waiting)
  end)
end)
