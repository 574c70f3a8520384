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
  if support.pcall_yields then
    for _, take_out in ipairs { coroutine.resume, function(x) b:cancel(x) end } do
      take_out(support.party(b, "x", {}))
      run_loop()
      keep(support.last_error)
    end
  end
  return errors, b
end

local CLASSES = {
  ["barrier reset"] = "BrokenBarrierError",
  ["barrier aborted"] = "BrokenBarrierError",
  ["wait timed out after 1 ms, 1 of 3 had arrived"] = "TimeoutError",
}
if support.pcall_yields then -- otherwise nobody can catch them
  CLASSES["wait cancelled"] = "CancelledError"
  CLASSES["wait cancelled: resumed by somebody else"] = "CancelledError"
end

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
      assert.are.equal(class == "TimeoutError" and 4 or 3, fields)
      assert.are.equal(class == "TimeoutError", err.timeout ~= nil)
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

  it_catches("is raised in a coroutine and passed to a callback", function()
    local b, log = barrier.new(2), {}
    b:abort("why")
    local given, count
    support.party(b, "x", log)
    b:wait(function(...)
      given, count = ..., select("#", ...)
    end)
    run_loop()
    assert.are.equal(1, count)
    assert.are.same({ "x " .. tostring(given) }, log)
    assert.is_true(getmetatable(support.last_error) == getmetatable(given))
    assert.is_false(rawequal(support.last_error, given))
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
    for message, class in pairs(CLASSES) do
      local err = errors_of_all_kinds()[message]
      for _, other in ipairs { "BrokenBarrierError", "CancelledError", "TimeoutError" } do
        assert.are.equal(class == other, getmetatable(err) == barrier[other])
      end
    end
  end)

  it("can be concatenated with strings, numbers and errors", function()
    for message, class in pairs(CLASSES) do
      local err = errors_of_all_kinds()[message]
      local shown = class .. ": " .. message
      assert.are.equal("failed: " .. shown, "failed: " .. err)
      assert.are.equal(shown .. "!", err .. "!")
      assert.are.equal("<" .. shown .. ">", "<" .. err .. ">")
      assert.are.equal(shown .. "5", err .. 5)
      assert.are.equal("5" .. shown, 5 .. err)
      assert.are.equal(shown .. "\n" .. shown, err .. "\n" .. err)
      assert.are.equal(shown .. shown, err .. err)
    end
  end)
end)

describe("an error that is concatenated", function()
  it("includes its reason, as tostring does", function()
    local b, errors = barrier.new(2), {}
    local mt = { __tostring = function() error("in tostring", 0) end }
    for _, reason in ipairs { "disk full", setmetatable({}, mt) } do
      b:wait(function(err)
        table.insert(errors, err)
      end)
      b:abort(reason)
      run_loop()
      b:reset()
    end
    assert.are.equal("failed: BrokenBarrierError: barrier aborted: disk full",
      "failed: " .. errors[1])
    local told = { pcall(tostring, errors[2]) }
    local concatenated = { pcall(function()
      return "" .. errors[2]
    end) }
    assert.are.same(told, concatenated)
  end)

  it("is a Lua error if the other operand is neither string nor error", function()
    local err
    local b = barrier.new(2)
    b:wait(function(e)
      err = e
    end)
    b:reset()
    run_loop()
    for _, value in ipairs { {}, true, print } do
      assert.is_false((pcall(function() return err .. value end)))
      assert.is_false((pcall(function() return value .. err end)))
    end
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
