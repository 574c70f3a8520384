local barrier = require "barrier"
local support = require "spec.support"

local co, run_loop = support.co, support.run_loop

describe("with", function()
  it("returns what the body returns for the position", function()
    local b, results = barrier.new(2), {}
    for i = 1, 2 do
      co(function()
        results[i] = {
          b:with(function(...)
            return select("#", ...), "body", ..., nil, 4
          end),
        }
      end)
    end
    run_loop()
    assert.are.same({ 1, "body", 0, nil, 4 }, results[1])
    assert.are.same({ 1, "body", 1, nil, 4 }, results[2])
  end)

  it("calls the body when all have arrived, and not before", function()
    local b, log = barrier.new(2), {}
    for i = 1, 2 do
      co(function()
        b:with(function(position)
          table.insert(log, i .. " " .. position .. " " .. b.state)
        end)
      end)
      if i == 1 then
        assert.are.same({}, log)
      end
    end
    run_loop()
    assert.are.same({ "2 1 draining", "1 0 filling" }, log)
  end)

  it("takes anything callable", function()
    local b = barrier.new(1)
    local result
    co(function()
      result = b:with(setmetatable({}, {
        __call = function(_, position)
          return position
        end,
      }))
    end)
    assert.are.equal(0, result)
  end)

  it("lets its body wait, at this barrier or at another one", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    for i = 1, 2 do
      co(function()
        local sum = a:with(function(first)
          return a:with(function(second)
            return 100 * first + 10 * second + b:wait()
          end)
        end)
        table.insert(log, i .. ": " .. sum)
      end)
    end
    run_loop()
    table.sort(log)
    -- 2 passes first, so it is the first to come again, and the last at b.
    assert.are.same({ "1: 11", "2: 100" }, log)
    assert.are.equal(2, a.generation)
    assert.are.equal(1, b.generation)
  end)

  it("passes the body's error on, and the barrier still works", function()
    local b, mine = barrier.new(1), {}
    local caught
    co(function()
      if support.pcall_yields then
        caught = select(2, pcall(b.with, b, function()
          error(mine)
        end))
      end
    end)
    if not support.pcall_yields then
      local dying = coroutine.create(function()
        b:with(function()
          error(mine)
        end)
      end)
      caught = select(2, coroutine.resume(dying))
    end
    assert.are.equal(mine, caught)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.generation)
  end)

  support.it_catches("does not call the body if the wait fails", function()
    local b = barrier.new(1)
    b:abort("why")
    local called, err = false, nil
    co(function()
      err = select(2, pcall(b.with, b, function()
        called = true
      end))
    end)
    run_loop()
    assert.is_true(getmetatable(err) == barrier.BrokenBarrierError)
    assert.are.equal("why", err.reason)
    assert.is_false(called)
  end)

  it("rejects arguments after the body, and changes nothing", function()
    local b = barrier.new(1)
    for _, extra in ipairs { 10, false, print } do
      local ok, message = coroutine.resume(coroutine.create(function()
        b:with(print, extra)
      end))
      assert.is_false(ok)
      assert.is_truthy(message:find("with_spec%.lua:%d+: bad argument #2 to 'with'"), message)
    end
    assert.are.equal(0, b.generation)
  end)
end)
