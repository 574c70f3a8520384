local barrier = require "barrier"
local support = require "spec.support"

local run_loop = support.run_loop
local it_catches = support.it_catches

---Errors of waits that ended in every possible way, by message.
local function errors_of_all_kinds()
  local b, errors = barrier.new(3), {}
  local function keep(err)
    errors[err.message] = err
  end
  b:wait(keep)
  b:reset()
  run_loop()
  b:wait(1, keep)
  run_loop()
  b:wait(keep)
  b:abort()
  run_loop()
  b:reset()
  local dying = coroutine.create(function()
    b:wait()
  end)
  coroutine.resume(dying)
  keep(select(2, coroutine.resume(dying)))
  return errors, b
end

local CLASSES = {
  ["barrier reset"] = "BrokenBarrierError",
  ["barrier aborted"] = "BrokenBarrierError",
  ["wait timed out"] = "TimeoutError",
  ["wait cancelled"] = "CancelledError",
}

describe("an error", function()
  it("is a table whose metatable is its class", function()
    local errors = errors_of_all_kinds()
    for message, class in pairs(CLASSES) do
      assert.are.equal("table", type(errors[message]), message)
      assert.is_true(getmetatable(errors[message]) == barrier[class], message)
    end
  end)

  it("has a name, a message and the barrier", function()
    local errors, b = errors_of_all_kinds()
    for message, class in pairs(CLASSES) do
      local err = errors[message]
      assert.are.equal(class, err.name)
      assert.are.equal(message, err.message)
      assert.is_true(rawequal(b, err.barrier))
      local fields = 0
      for _ in pairs(err) do
        fields = fields + 1
      end
      assert.are.equal(3, fields)
    end
  end)

  it("has its name and message as its tostring", function()
    for message, class in pairs(CLASSES) do
      assert.are.equal(class .. ": " .. message, tostring((errors_of_all_kinds())[message]))
    end
  end)

  it("is a table of each waiter's own", function()
    for _, how in ipairs { "reset", "abort" } do
      local b, errors = barrier.new(5), {}
      for _ = 1, 4 do
        b:wait(function(err)
          table.insert(errors, err)
        end)
      end
      b[how](b)
      b:wait(function(err)
        table.insert(errors, err)
      end)
      run_loop()
      assert.are.equal(how == "reset" and 4 or 5, #errors)
      for i = 1, #errors do
        for j = i + 1, #errors do
          assert.is_false(rawequal(errors[i], errors[j]))
        end
      end
    end
  end)

  it("is raised in a coroutine and passed to a callback", function()
    local b = barrier.new(2)
    b:abort("why")
    local raised, given, count
    raised = select(2, coroutine.resume(coroutine.create(function()
      b:wait()
    end)))
    b:wait(function(...)
      given, count = ..., select("#", ...)
    end)
    run_loop()
    assert.are.equal(1, count)
    assert.are.equal(tostring(raised), tostring(given))
    assert.is_true(getmetatable(raised) == getmetatable(given))
  end)

  it_catches("is raised in a coroutine that had to wait for it", function()
    local b, errors = barrier.new(3), {}
    for _ = 1, 2 do
      support.co(function()
        local ok, err = pcall(b.wait, b)
        assert(not ok)
        table.insert(errors, err)
      end)
    end
    b:abort("why")
    run_loop()
    assert.are.equal(2, #errors)
    assert.is_false(rawequal(errors[1], errors[2]))
    for i = 1, 2 do
      assert.is_true(getmetatable(errors[i]) == barrier.BrokenBarrierError)
      assert.are.equal("why", errors[i].reason)
    end
  end)

  it("of one class is not of another", function()
    local errors = errors_of_all_kinds()
    assert.is_false(getmetatable(errors["wait timed out"]) == barrier.CancelledError)
    assert.is_false(getmetatable(errors["wait cancelled"]) == barrier.BrokenBarrierError)
    assert.is_false(getmetatable(errors["barrier reset"]) == barrier.TimeoutError)
  end)
end)

describe("the reason of an abort", function()
  local function error_for(...)
    local b, given = barrier.new(2), nil
    b:wait(function(err)
      given = err
    end)
    b:abort(...)
    run_loop()
    return given
  end

  it("is in the error unchanged, and ends its tostring", function()
    local named = setmetatable({}, {
      __tostring = function()
        return "a table"
      end,
    })
    for shown, reason in pairs {
      why = "why", ["42"] = 42, ["true"] = true, ["false"] = false, ["a table"] = named,
    } do
      local err = error_for(reason)
      assert.is_true(rawequal(reason, err.reason))
      assert.are.equal("BrokenBarrierError: barrier aborted: " .. shown, tostring(err))
    end
    local plain = {}
    assert.are.equal("BrokenBarrierError: barrier aborted: " .. tostring(plain),
      tostring(error_for(plain)))
  end)

  it("is nil if none was given", function()
    for _, err in ipairs { error_for(), error_for(nil) } do
      assert.is_nil(err.reason)
      assert.are.equal("BrokenBarrierError: barrier aborted", tostring(err))
    end
  end)

  it("may be an error of another barrier", function()
    local first = error_for("disk full")
    local second = error_for(first)
    assert.is_true(rawequal(first, second.reason))
    assert.are.equal("BrokenBarrierError: barrier aborted: "
      .. "BrokenBarrierError: barrier aborted: disk full", tostring(second))
  end)

  it("is not in the errors of a reset", function()
    local b, given = barrier.new(2), nil
    b:abort("why")
    b:reset()
    b:wait(function(err)
      given = err
    end)
    b:reset()
    run_loop()
    assert.are.equal("barrier reset", given.message)
    assert.is_nil(given.reason)
  end)
end)
