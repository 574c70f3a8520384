-- Scenarios from CPython's own tests of asyncio.Barrier (class BarrierTests in
-- Lib/test/test_asyncio/test_locks.py). Each has the same outcome here.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local N = 5

local function sleep()
  local co = coroutine.running()
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    assert(coroutine.resume(co))
  end)
  coroutine.yield()
end

local function tasks(n, f)
  for _ = 1, n do
    support.co(f)
  end
end

local function gather(n, f)
  tasks(n, f)
  uv.run()
end

---Waits. Returns the position, or nil and the error.
local function try(b)
  local ok, result = pcall(b.wait, b)
  if ok then
    return result
  end
  assert(getmetatable(result) == barrier.BrokenBarrierError, tostring(result))
  return nil, result
end

describe("as in CPython's tests,", function()
  if not support.pcall_yields then
    pending("PUC Lua 5.1 cannot yield inside pcall, and nearly all of these do")
    return
  end

  it("test_barrier_parties and test_filling_one_task", function()
    assert.is_false(pcall(barrier.new, 0))
    assert.is_false(pcall(barrier.new, -4))
    local b, passed = barrier.new(1), false
    support.co(function()
      b:with(function()
        passed = true
      end)
    end)
    assert.is_true(passed)
    assert.are.equal(0, b.n_waiting)
    assert.is_false(b.broken)
  end)

  it("test_repr", function()
    local b = barrier.new(N)
    local function wait()
      try(b)
    end
    assert.is_truthy(tostring(b):find("[filling, waiters:0/5]", 1, true))
    tasks(2, wait)
    assert.is_truthy(tostring(b):find("[filling, waiters:2/5]", 1, true))
    tasks(b.parties - b.n_waiting, wait)
    assert.is_truthy(tostring(b):find("[draining, waiters:0/5]", 1, true))
    tasks(2, wait)
    b:reset()
    assert.is_truthy(tostring(b):find("[resetting, waiters:0/5]", 1, true))
    tasks(2, wait)
    b:abort()
    assert.is_truthy(tostring(b):find("[broken]", 1, true))
    assert.is_true(b.broken)
    uv.run()
  end)

  it("test_context_manager", function()
    local b, results = barrier.new(3), {}
    gather(3, function()
      b:with(function(i)
        support.add(results, i)
      end)
    end)
    table.sort(results)
    assert.are.same({ 0, 1, 2 }, results)
  end)

  it("test_filling_tasks_wait_twice and ..._check_return_value", function()
    local b, first, second = barrier.new(N), 0, {}
    gather(N, function()
      b:wait()
      first = first + 1
      support.add(second, b:wait())
    end)
    table.sort(second)
    assert.are.equal(N, first)
    assert.are.same({ 0, 1, 2, 3, 4 }, second)
  end)

  it("test_draining_state", function()
    local b, results = barrier.new(N), {}
    gather(N, function()
      b:wait()
      support.add(results, tostring(b):find("draining", 1, true) ~= nil)
    end)
    assert.are.same({ true, true, true, true, false }, results)
  end)

  it("test_blocking_tasks_while_draining", function()
    local b, nowaiting = barrier.new(N), barrier.new(N - 2)
    local rewait, done = 2, 0
    gather(N, function()
      b:wait()
      if rewait > 0 then
        rewait = rewait - 1
        b:wait()
      else
        nowaiting:wait()
        b:wait()
      end
      done = done + 1
    end)
    assert.are.equal(N, done)
    assert.are.equal(1, nowaiting.generation)
  end)

  it("test_filling_tasks_cancel_one", function()
    local b, results = barrier.new(3), 0
    local function body()
      if pcall(b.wait, b) then
        results = results + 1
      end
    end
    local t1 = support.co(body)
    support.co(body)
    assert.are.equal(2, b.n_waiting)
    b:cancel(t1)
    assert.are.equal(1, b.n_waiting)
    support.co(body)
    assert.are.equal(2, b.n_waiting)
    support.co(body)
    uv.run()
    assert.are.equal(3, results)
    assert.are.equal(0, b.n_waiting)
  end)

  it("test_reset_barrier_while_tasks_waiting", function()
    local b, results = barrier.new(N), 0
    tasks(N - 1, function()
      local _, err = try(b)
      results = results + (err and 1 or 0)
    end)
    b:reset()
    uv.run()
    assert.are.equal(N - 1, results)
    assert.are.equal("filling", b.state)
  end)

  it("test_reset_barrier_when_tasks_half_draining", function()
    local b, left, results = barrier.new(N), 0, 0
    gather(N, function()
      local _, err = try(b)
      left = left + 1
      if err then
        results = results + 1
      elseif left == N - math.floor(N / 2) then
        b:reset()
      end
    end)
    assert.are.equal(math.floor(N / 2), results)
    assert.are.equal("filling", b.state)
  end)

  it("test_reset_barrier_when_tasks_half_draining_half_blocking", function()
    local b, blocking = barrier.new(N), math.floor(N / 2)
    local results1, results2, count = 0, 0, 0
    gather(N, function()
      local _, err = try(b)
      if err then
        results1 = results1 + 1
        b:wait()
      else
        count = count + 1
        if count > blocking then
          b:reset()
          b:wait()
        else
          _, err = try(b)
          results2 = results2 + (err and 1 or 0)
        end
      end
    end)
    assert.are.equal(blocking, results1)
    assert.are.equal(0, results2)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal("filling", b.state)
  end)

  it("test_reset_barrier_while_tasks_waiting_and_waiting_again", function()
    local b, results1, results2 = barrier.new(N), 0, 0
    tasks(N - 1, function()
      local _, err = try(b)
      results1 = results1 + (err and 1 or 0)
      b:wait()
      results2 = results2 + 1
    end)
    b:reset()
    support.co(function()
      sleep()
      b:wait()
      results2 = results2 + 1
    end)
    uv.run()
    assert.are.equal(N - 1, results1)
    assert.are.equal(N, results2)
    assert.is_false(b.broken)
  end)

  it("test_reset_barrier_while_tasks_draining", function()
    local b, count = barrier.new(N), 0
    local results1, results2, results3 = 0, 0, 0
    gather(N, function()
      b:wait()
      count = count + 1
      if count == N then
        b:reset()
        b:wait()
      else
        local _, err = try(b)
        if err then
          results2 = results2 + 1
        else
          results1 = results1 + 1
        end
      end
      b:wait()
      results3 = results3 + 1
    end)
    assert.are.equal(N - 1, results1)
    assert.are.equal(0, results2)
    assert.are.equal(N, results3)
    assert.are.equal(0, b.n_waiting)
  end)

  it("test_abort_barrier", function()
    local b = barrier.new(1)
    b:abort()
    assert.are.equal(0, b.n_waiting)
    assert.is_true(b.broken)
  end)

  it("test_abort_barrier_when_tasks_half_draining_half_blocking", function()
    local b, blocking = barrier.new(N), math.floor(N / 2)
    local results1, results2, count = 0, 0, 0
    gather(N, function()
      local _, err = try(b)
      if err then
        results1 = results1 + 1
      else
        count = count + 1
        if count > blocking then
          b:abort()
        else
          _, err = try(b)
          results2 = results2 + (err and 1 or 0)
        end
      end
    end)
    assert.is_true(b.broken)
    assert.are.equal(blocking, results1)
    assert.are.equal(N - blocking - 1, results2)
    assert.are.equal(0, b.n_waiting)
  end)

  it("test_abort_barrier_when_exception", function()
    local b, results1, results2 = barrier.new(N), 0, 0
    gather(N, function()
      local ok, err = pcall(b.with, b, function(i)
        if i == math.floor(N / 2) then
          error "RuntimeError"
        end
      end)
      if ok then
        ok, err = pcall(b.wait, b)
        results1 = results1 + (ok and 1 or 0)
      end
      if getmetatable(err) == barrier.BrokenBarrierError then
        results2 = results2 + 1
      elseif not ok then
        b:abort()
      end
    end)
    assert.is_true(b.broken)
    assert.are.equal(0, results1)
    assert.are.equal(N - 1, results2)
  end)

  it("test_abort_barrier_when_exception_then_resetting", function()
    local b1, b2 = barrier.new(N), barrier.new(N)
    local results1, results2, results3 = 0, 0, 0
    gather(N, function()
      local i, err = try(b1)
      if i == math.floor(N / 2) then
        b1:abort()
      elseif err then
        results2 = results2 + 1
      else
        i, err = try(b1)
        results1 = results1 + (i and 1 or 0)
        results2 = results2 + (err and 1 or 0)
      end
      if b2:wait() == math.floor(N / 2) then
        b1:reset()
      end
      b2:wait()
      b1:wait()
      results3 = results3 + 1
    end)
    assert.is_false(b1.broken)
    assert.are.equal(0, results1)
    assert.are.equal(N - 1, results2)
    assert.are.equal(N, results3)
    assert.are.equal(0, b1.n_waiting)
  end)
end)
