local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co = support.co

local function message(f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  return tostring(err)
end

---Runs f in a coroutine and returns its error.
local function message_in_coroutine(f)
  local _, err = coroutine.resume(coroutine.create(f))
  return tostring(err)
end

describe("barrier.new", function()
  it("takes an integer of at least 1, also as a float", function()
    assert.are.equal(1, barrier.new(1).parties)
    assert.are.equal(3, barrier.new(3.0).parties)
    assert.are.equal("3", tostring(barrier.new(3.0).parties))
    assert.are.equal(2 ^ 40, barrier.new(2 ^ 40).parties)
  end)

  it("names the rule for anything else", function()
    for _, bad in ipairs { 0, -1, 2.5, 1 / 0, -1 / 0, 0 / 0, "3", true, {}, print } do
      local err = message(barrier.new, bad)
      local rule = "bad argument #1 to 'new' (parties must be an integer >= 1, got "
      assert.is_truthy(err:find(rule, 1, true), err)
    end
    assert.is_truthy(message(barrier.new):find("bad argument #1 to 'new'", 1, true))
  end)

  it("names an unknown option, and a bad value of a known one", function()
    local function check(expected, options)
      local err = message(barrier.new, 2, options)
      assert.is_truthy(err:find(expected, 1, true), err)
    end
    check("bad argument #2 to 'new' (unknown option 'acton')", { acton = print })
    check("bad argument #2 to 'new' (unknown option '1')", { print })
    check("option 'action' must be callable, got number", { action = 1 })
    check("option 'action' must be callable, got boolean", { action = false })
    check("option 'schedule' must be callable or false, got boolean", { schedule = true })
    check("bad argument #2 to 'new' (options must be a table, got string)", "action")
  end)

  it("takes callable tables as options", function()
    local called
    local b = barrier.new(1, { action = setmetatable({}, { __call = function(_, self)
      called = self
    end }) })
    co(function()
      b:wait()
    end)
    assert.are.equal(b, called)
  end)
end)

describe("wait where it cannot suspend", function()
  local function changes_nothing(b, f)
    local before = tostring(b)
    f()
    assert.are.equal(before, tostring(b))
    assert.are.equal(0, #b:waiters())
    assert.is_false(uv.loop_alive())
  end

  local barriers = {
    waiting = function()
      return barrier.new(2)
    end,
    ["of one party"] = function()
      return barrier.new(1)
    end,
    broken = function()
      local b = barrier.new(2)
      b:abort()
      return b
    end,
  }

  for name, make in pairs(barriers) do
    it("is an error in the main chunk, on a barrier " .. name, function()
      local b = make()
      changes_nothing(b, function()
        local result = support.chunk([[
          local b = barrier.new(]] .. b.parties .. [[)
          if ]] .. tostring(b.broken) .. [[ then b:abort() end
          local ok, err = pcall(function() b:wait(10) end)
          print(ok, err, tostring(b):match("%[.*"), uv.run("nowait"))
        ]])
        assert.is_truthy(result.out:find("^false\t.*cannot wait outside a coroutine"), result.out)
        assert.is_truthy(result.out:find(tostring(b):match("%[.*"), 1, true))
      end)
    end)

    it("is an error inside a C function that calls Lua, on a barrier " .. name, function()
      local b = make()
      local err
      changes_nothing(b, function()
        err = message_in_coroutine(function()
          table.sort({ 3, 1, 2 }, function()
            b:wait(10)
          end)
        end)
      end)
      assert.is_truthy(err:find("cannot wait here", 1, true), err)
    end)
  end

  it("as the last arrival is an error too, and the others go on waiting", function()
    local b = barrier.new(2)
    co(function()
      b:wait()
    end)
    local err = message_in_coroutine(function()
      string.gsub("x", "x", function()
        b:wait()
      end)
    end)
    assert.is_truthy(err:find("cannot wait here", 1, true), err)
    assert.are.equal(1, b.n_waiting)
    assert.are.equal(0, b.generation)
  end)

  it("is no error with a callback", function()
    local b, called = barrier.new(1), nil
    table.sort({ 2, 1 }, function(x, y)
      if not called then
        called = "soon"
        b:wait(function(_, position)
          called = position
        end)
      end
      return x < y
    end)
    uv.run()
    assert.are.equal(0, called)
  end)
end)

describe("bad arguments", function()
  it("of wait name the rule and change nothing", function()
    local b = barrier.new(2)
    local function check(expected, ...)
      local args, n = { ... }, select("#", ...)
      local err = message_in_coroutine(function()
        b:wait((table.unpack or unpack)(args, 1, n))
      end)
      assert.is_truthy(err:find(expected, 1, true), err)
      assert.are.equal(0, #b:waiters())
    end
    check("#1 to 'wait' (timeout must be an integer >= 0, in milliseconds, got -1)", -1)
    check("bad argument #1 to 'wait' (timeout must be an integer", 1.5)
    check("bad argument #1 to 'wait' (timeout must be an integer", 1 / 0)
    check("bad argument #1 to 'wait' (timeout or callback expected, got string)", "10")
    check("bad argument #1 to 'wait' (timeout or callback expected, got table)", {})
    check("bad argument #2 to 'wait' (callback must be callable, got number)", 1, 2)
    check("bad argument #2 to 'wait' (callback must be callable, got boolean)", nil, true)
    check("bad argument #2 to 'wait' (nothing comes after the callback)", print, 10)
    assert.is_false(uv.loop_alive())
  end)

  it("of the other methods name the rule", function()
    local b = barrier.new(2)
    assert.is_truthy(message(b.with, b, 1):find(
      "bad argument #1 to 'with' (body must be callable, got number)", 1, true))
    assert.is_truthy(message(b.with, b):find("'with' (body must be callable, got nil", 1, true))
    assert.is_truthy(message(b.cancel, b, 1):find(
      "bad argument #1 to 'cancel' (coroutine expected, got number)", 1, true))
    local waiter = b:wait(print)
    assert.is_truthy(message(b.cancel, b, waiter):find("Waiter (it has a method close)", 1, true))
    assert.is_truthy(message(waiter.close, waiter, 1):find(
      "bad argument #1 to 'close' (on_close must be callable, got number)", 1, true))
    waiter:close()
  end)

  it("tell where they are", function()
    local b = barrier.new(2)
    local err = message_in_coroutine(function()
      b:wait(-1)
    end)
    assert.is_truthy(err:find("arguments_spec.lua:%d+: bad argument"), err)
    err = message(function()
      b:cancel()
    end)
    assert.is_truthy(err:find("arguments_spec.lua:%d+: bad argument"), err)
    err = message(function()
      b:with()
    end)
    assert.is_truthy(err:find("arguments_spec.lua:%d+: bad argument"), err)
  end)
end)

describe("a wrong self", function()
  it("is an error in every method", function()
    local b = barrier.new(2)
    for _, name in ipairs { "wait", "with", "reset", "abort", "cancel", "waiters" } do
      for _, wrong in ipairs { 1, "b", {}, io.stdout, print } do
        local err = message(b[name], wrong, print)
        assert.is_truthy(err:find("calling '" .. name .. "' on bad self (barrier expected, got ", 1,
          true), err)
      end
      assert.is_truthy(message(b[name]):find("bad self", 1, true))
    end
    local waiter = b:wait(print)
    assert.is_truthy(message(waiter.close, b):find("calling 'close' on bad self", 1, true))
    waiter:close()
  end)
end)

describe("the members of a barrier", function()
  it("are read-only, and unknown ones are nil", function()
    local b = barrier.new(2)
    for _, name in ipairs { "parties", "n_waiting", "wait", "other" } do
      assert.is_truthy(message(function()
        b[name] = 1
      end):find("cannot assign to '" .. name .. "'", 1, true))
    end
    assert.is_nil(b.other)
    assert.is_nil(b[1])
    assert.is_nil(b[{}])
  end)

  it("show in tostring", function()
    local b = barrier.new(3)
    b:wait(print)
    b:wait(print)
    local pattern = "^<barrier%.Barrier object at 0x%x+ %[filling, waiters:2/3%]>$"
    assert.is_truthy(tostring(b):find(pattern))
    b:abort()
    assert.is_truthy(tostring(b):find("^<barrier%.Barrier object at 0x%x+ %[broken%]>$"))
    for _, waiter in ipairs(b:waiters()) do
      assert.is_truthy(tostring(waiter):find("^<barrier.Waiter object at 0x%x+ %[waiting%]>$"))
      waiter:close()
      assert.is_truthy(tostring(waiter):find("%[done%]>$"))
    end
  end)
end)
