-- barrier.await and barrier.cancel.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, co, run_loop = support.add, support.co, support.run_loop
local it_catches = support.it_catches
local later, raises = support.later, support.raises

local await = barrier.await

---Runs `f` in a coroutine, and the loop; what `f` returned.
local function run(f)
  local results
  co(function()
    results = support.pack(f())
  end)
  run_loop()
  return results
end

describe("await", function()
  it("returns what the callback was called with, however many values", function()
    for n = 0, 3 do
      local values = { nil, 2, nil }
      local results = run(function()
        return await(function(first, callback)
          assert.are.equal("argument", first)
          later(function()
            callback((unpack or table.unpack)(values, 1, n)) -- luacheck: ignore 143
          end)
        end, "argument")
      end)
      assert.are.equal(n, results.n)
      assert.are.equal(n >= 2 and 2 or nil, results[2])
    end
  end)

  it("passes nils on, and the callback behind them", function()
    local results = run(function()
      return await(function(...)
        assert.are.equal(4, select("#", ...))
        local callback = select(4, ...)
        later(function()
          callback("called")
        end)
      end, nil, nil, nil)
    end)
    assert.are.same({ n = 1, "called" }, results)
  end)

  it("calls functions of luv", function()
    local results = run(function()
      return await(uv.fs_stat, ".")
    end)
    assert.is_nil(results[1])
    assert.are.equal("directory", results[2].type)
    results = run(function()
      return await(uv.fs_stat, "/no/such/file")
    end)
    assert.is_truthy(results[1]:find "^ENOENT", results[1])
  end)

  it("does not suspend if the callback is called before the function returns", function()
    local log = {}
    co(function()
      add(log, await(function(callback)
        callback "at once"
        callback "ignored"
        return nil, "ignored too"
      end))
    end)
    assert.are.same({ "at once" }, log)
  end)

  it("returns the error that the function returns after nil or false", function()
    assert.are.same({ n = 1, "failed" }, run(function()
      return await(function() return nil, "failed" end)
    end))
    assert.are.same({ n = 1, "failed" }, run(function()
      return await(function() return false, "failed", "name" end)
    end))
    assert.are.same({ n = 1, "later" }, run(function()
      return await(function(callback)
        later(function() callback "later" end)
        return nil, nil
      end)
    end))
  end)

  it("ignores a second call of the callback, also in a later await", function()
    local log, first = {}, nil
    co(function()
      add(log, await(function(callback)
        first = callback
        later(function() callback "first" end)
      end))
      add(log, await(function(callback)
        first "again"
        later(function() callback "second" end)
        later(first)
      end))
    end)
    run_loop()
    assert.are.same({ "first", "second" }, log)
  end)

  it_catches("raises what the function raises", function()
    local err = {}
    local results = run(function()
      local ok, raised = pcall(await, function() error(err) end)
      return ok, raised == err
    end)
    assert.are.same({ n = 2, false, true }, results)
  end)

  it("takes anything callable", function()
    local callable = setmetatable({}, { __call = function(_, value, callback)
      callback(value)
    end })
    assert.are.same({ n = 1, 5 }, run(function()
      return await(callable, 5)
    end))
  end)

  it_catches("refuses what is not callable, at the caller's line", function()
    local line
    run(function()
      line = debug.getinfo(1, "l").currentline + 1
      local _, err = pcall(function() await(5) end)
      assert.is_truthy(err:find("await_spec.lua:" .. line .. ": bad argument #1 to 'await' "
        .. "(function expected, got number)", 1, true), err)
    end)
  end)

  it("is refused where it cannot suspend, and does not call the function", function()
    raises("cannot await outside a coroutine", await, error)
    co(function()
      pcall(table.sort, { 1, 2 }, function()
        raises("cannot await here: the coroutine cannot yield across a C function", await, error)
      end)
    end)
  end)

  it_catches("is cancelled by a stranger's resume, and by cancel", function()
    local log, callbacks = {}, {}
    local function wait()
      return co(function()
        local ok, err = pcall(await, function(callback)
          add(callbacks, callback)
        end)
        add(log, tostring(ok) .. " " .. tostring(err))
      end)
    end
    coroutine.resume(wait(), "stranger")
    local thread = wait()
    assert.is_true(barrier.cancel(thread))
    assert.is_false(barrier.cancel(thread))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "false CancelledError: wait cancelled: resumed by somebody else",
      "false CancelledError: wait cancelled" }, log)
    for _, callback in ipairs(callbacks) do
      callback "too late"
    end
    local results = run(function()
      return await(function(callback)
        later(function() callback "right" end)
      end)
    end)
    assert.are.same({ n = 1, "right" }, results)
    assert.are.equal(2, #log)
  end)

  it("is in the report of stuck, with its traceback", function()
    local callback
    local function patient()
      local _ = await(function(f) callback = f end)
    end
    co(patient)
    local report = barrier.stuck()
    assert.is_truthy(report:find("await_spec.lua", 1, true), report)
    callback()
    run_loop()
    assert.is_nil((barrier.stuck() or ""):find("await_spec.lua", 1, true))
  end)

  it("lets an await that can never end be collected", function()
    assert.is_true(support.collected(function()
      return co(function()
        await(function() end)
      end)
    end))
  end)

  it("runs many at once, each with its own results", function()
    local group = barrier.group()
    for i = 1, 100 do
      local done = group:add(i)
      co(function()
        local first = await(function(callback)
          later(callback, i % 5)
        end)
        local second = await(function(callback)
          later(function() callback(i) end, (i * 7) % 5)
        end)
        done(first, second)
      end)
    end
    local err, results = support.finish(group)
    assert.is_nil(err)
    for i = 1, 100 do
      assert.are.equal(i, results[i])
    end
  end)
end)

describe("barrier.cancel", function()
  local it_shares = support.implementation == "C" and it_catches or support.it_in_c
  it_shares("takes a coroutine out of wherever it waits", function()
    local b, group, shared = barrier.new(2), barrier.group(), barrier.shared("cancel spec", 2)
    group:add()
    local log = {}
    for name, wait in pairs {
      wait = function() b:wait() end,
      await_trip = function() b:await_trip(100000) end,
      group = function() group:wait() end,
      join = function() group:join(100000) end,
      await = function() await(function() end) end,
      shared = function() shared:wait() end,
    } do
      local thread = co(function()
        local ok, err = pcall(wait)
        log[name] = not ok and getmetatable(err) == barrier.CancelledError
      end)
      assert.is_true(barrier.cancel(thread), name)
      assert.is_false(barrier.cancel(thread), name)
    end
    run_loop()
    assert.are.same({ wait = true, await_trip = true, group = true, join = true, await = true,
      shared = true }, log)
    assert.are.equal(0, b.n_waiting)
    assert.is_nil((barrier.stuck() or ""):find("await_spec.lua", 1, true))
  end)

  it("is false for a coroutine that does not wait here", function()
    assert.is_false(barrier.cancel(coroutine.create(function() end)))
    assert.is_false(barrier.cancel(co(function() coroutine.yield() end)))
    assert.is_false(barrier.cancel(co(function() end)))
    co(function()
      assert.is_false(barrier.cancel((coroutine.running())))
    end)
  end)

  it("refuses what is no coroutine", function()
    raises("bad argument #1 to 'cancel' (coroutine expected, got number)", barrier.cancel, 1)
    local waiter = barrier.new(2):wait(error)
    raises("(coroutine expected, got " .. support.type_of_barrier .. " (it has a method close))",
      barrier.cancel, waiter)
    waiter:close()
    run_loop()
  end)
end)
