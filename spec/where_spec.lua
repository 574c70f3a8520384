local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co, listener, party = support.co, support.listener, support.party
local run_loop = support.run_loop

local function nobody() end

local states = {
  empty = function()
    return barrier.new(2)
  end,
  ["for one"] = function()
    return barrier.new(1)
  end,
  ["that an arrival would trip"] = function()
    local b = barrier.new(2)
    b:wait(nobody)
    return b
  end,
  draining = function()
    local b = barrier.new(2)
    b:wait(nobody)
    b:wait(nobody)
    b:wait(nobody)
    return b
  end,
  resetting = function()
    local b = barrier.new(2)
    b:wait(nobody)
    b:reset()
    return b
  end,
  broken = function()
    local b = barrier.new(2)
    b:abort("why")
    return b
  end,
}

local ALL_STATES = {}
for name in pairs(states) do
  table.insert(ALL_STATES, name)
end

---Runs f on barriers in all states (or in those of `only`). It must raise an error and
---change nothing. Returns the messages.
local function changes_nothing(f, only)
  local messages = {}
  for _, name in ipairs(only or ALL_STATES) do
    run_loop()
    local b = states[name]()
    local function shown()
      return table.concat({
        tostring(b), b.state, b.n_waiting, b.generation, #b:waiters(), tostring(uv.loop_alive()),
      }, " ")
    end
    local before = shown()
    local ok, message = pcall(f, b)
    assert.is_false(ok, name)
    assert.are.equal("string", type(message), name)
    assert.are.equal(before, shown(), name)
    table.insert(messages, message)
    run_loop()
    b:reset()
    run_loop()
    if b.n_waiting > 0 then -- one was blocked
      b:wait(nobody)
      run_loop()
    end
    local log = {}
    for i = 1, b.parties do
      party(b, tostring(i), log)
    end
    run_loop()
    assert.are.equal(b.parties, #log, name)
  end
  return messages
end

---Calls f in a coroutine, and raises its error.
local function in_coroutine(f)
  return function(b)
    local ok, err = coroutine.resume(coroutine.create(f), b)
    if not ok then
      error(err, 0)
    end
  end
end

local function all_match(pattern, messages)
  assert.are.equal(6, #messages)
  for _, message in ipairs(messages) do
    assert.is_truthy(message:find(pattern), message)
  end
end

describe("wait in the main chunk", function()
  it("raises an error and changes nothing, whatever the barrier's state", function()
    all_match("where_spec%.lua:%d+: cannot wait outside a coroutine", changes_nothing(function(b)
      b:wait()
    end))
    all_match("cannot wait outside a coroutine", changes_nothing(function(b)
      b:wait(10)
    end))
  end)

  it("does the same in a callback of the loop", function()
    local b, timer, ok, message = barrier.new(1), uv.new_timer(), nil, nil
    timer:start(0, 0, function()
      timer:close()
      ok, message = pcall(b.wait, b)
    end)
    run_loop()
    assert.is_false(ok)
    assert.is_truthy(message:find("cannot wait outside a coroutine", 1, true))
    assert.are.equal(0, b.generation)
  end)

  it("raises in with too, and the body is not called", function()
    local called = false
    all_match("where_spec%.lua:%d+: cannot wait outside a coroutine", changes_nothing(function(b)
      b:with(function()
        called = true
      end)
    end))
    assert.is_false(called)
  end)

  it("works with a callback", function()
    local b, log = barrier.new(2), {}
    b:wait(listener(log, "a"))
    b:wait(1000, listener(log, "b"))
    run_loop()
    assert.are.same({ "a 0", "b 1" }, log)
  end)

  it("ends a script with the error", function()
    local result = support.chunk "barrier.new(1):wait()"
    assert.are_not.equal(0, result.code)
    assert.is_truthy(result.err:find("cannot wait outside a coroutine", 1, true))
  end)
end)

describe("wait where the coroutine cannot yield", function()
  it("raises an error and changes nothing in a comparator of table.sort", function()
    all_match("where_spec%.lua:%d+: cannot wait here: .*cannot yield across",
      changes_nothing(in_coroutine(function(b)
        table.sort({ 3, 2, 1 }, function(x, y)
          b:wait()
          return x < y
        end)
      end)))
  end)

  it("raises an error and changes nothing in a callback of string.gsub", function()
    all_match("cannot wait here.*give wait a callback", changes_nothing(in_coroutine(function(b)
      ("x"):gsub("x", function()
        b:wait(10)
      end)
    end)))
    all_match("where_spec%.lua:%d+: cannot wait here", changes_nothing(in_coroutine(function(b)
      ("x"):gsub("x", function()
        b:with(nobody)
      end)
    end)))
  end)

  it("may be tried again where the coroutine can yield", function()
    local b, log = barrier.new(2), {}
    party(b, "first", log)
    co(function()
      local tried
      table.sort({ 2, 1 }, function(x, y)
        tried = tried or { pcall(b.wait, b) }
        return x < y
      end)
      assert(tried[1] == false)
      table.insert(log, "second " .. b:wait())
    end)
    run_loop()
    assert.are.same({ "second 1", "first 0" }, log)
  end)

  it("works with a callback", function()
    local b, log = barrier.new(1), {}
    co(function()
      ("x"):gsub("x", function()
        b:wait(listener(log, "a"))
      end)
    end)
    run_loop()
    assert.are.same({ "a 0" }, log)
  end)

  local function in_metamethod(b)
    return setmetatable({}, {
      __index = function()
        return b:wait()
      end,
    }).position
  end

  local function in_iterator(b)
    local position
    for result in function()
      if not position then
        local first = b:wait()
        return first
      end
    end do
      position = result
    end
    return position
  end

  local function in_pcall(b)
    local ok, result = pcall(b.wait, b)
    if not ok then
      error(result, 0)
    end
    return result
  end

  local function can_yield_in(f)
    return pcall(coroutine.wrap(function()
      return f {
        wait = function()
          coroutine.yield()
        end,
      }
    end))
  end

  -- Lua 5.1 does not say whether a metamethod is running. There, a wait that need not
  -- suspend passes.
  local SUSPENDING = { "empty", "draining", "resetting" }

  for name, f in pairs {
    ["a metamethod"] = in_metamethod, ["an iterator"] = in_iterator, pcall = in_pcall,
  } do
    it("either works in " .. name .. " or changes nothing", function()
      if not can_yield_in(f) then
        changes_nothing(in_coroutine(f), f == in_metamethod and SUSPENDING or nil)
        local b = states.broken()
        assert.is_false((pcall(in_coroutine(f), b)))
        run_loop()
        assert.are.same({}, b:waiters())
        return
      end
      local b, log = barrier.new(2), {}
      for i = 1, 2 do
        co(function()
          table.insert(log, i .. " " .. f(b))
        end)
      end
      run_loop()
      assert.are.same({ "2 1", "1 0" }, log)
    end)
  end
end)

describe("a method called on something other than a barrier", function()
  local methods = {
    "wait", "with", "reset", "abort", "cancel", "waiters", "arrive", "register", "deregister",
    "await_trip",
  }
  local b = barrier.new(2)
  local waiter = b:wait(nobody)
  waiter:close()
  local timer = uv.new_timer()
  timer:close()
  run_loop()

  for _, name in ipairs(methods) do
    it("raises an error that names it: " .. name, function()
      for _, self in ipairs {
        false, 5, "barrier", {}, print, timer, waiter, setmetatable({}, { __index = b }),
      } do
        for _, argument in ipairs { nobody, false } do
          local ok, message = pcall(function()
            b[name](self, argument or nil)
          end)
          assert.is_false(ok)
          assert.are.equal("calling '" .. name .. "' on bad self (barrier expected, got "
            .. type(self) .. ")", (message:gsub("^%S*where_spec%.lua:%d+: ", "")))
        end
      end
      local ok, message = pcall(b[name])
      assert.is_false(ok)
      assert.is_truthy(message:find("calling '" .. name .. "' on bad self", 1, true))
    end)
  end

  it("raises an error if it is a Waiter's close", function()
    for _, self in ipairs { 5, {}, timer, b } do
      local ok, message = pcall(waiter.close, self)
      assert.is_false(ok)
      assert.is_truthy(message:find("calling 'close' on bad self (Waiter expected, got "
        .. type(self) .. ")", 1, true))
    end
  end)

  it("raises an error in a coroutine as well", function()
    local ok, message = coroutine.resume(coroutine.create(function()
      b.wait({})
    end))
    assert.is_false(ok)
    assert.is_truthy(message:find("calling 'wait' on bad self", 1, true))
  end)
end)

describe("a bad argument", function()
  local unpack = unpack or table.unpack
  local TIMEOUT = "#1 to 'wait' (timeout must be an integer >= 0"
    .. (math.type and "" or " and <= 2^53") -- numbers are floats before Lua 5.3
  local bad = {
    wait = {
      TIMEOUT .. ", in milliseconds, got -1)", { -1 },
      TIMEOUT .. ", in milliseconds, got 1.5)", { 1.5 },
      TIMEOUT .. ", in milliseconds, got " .. 1 / 0, { 1 / 0 },
      TIMEOUT .. ", in milliseconds, got " .. -1 / 0, { -1 / 0 },
      TIMEOUT, { 0 / 0 },
      TIMEOUT, { -1, nobody },
      "#1 to 'wait' (timeout or callback expected, got string)", { "10" },
      "#1 to 'wait' (timeout or callback expected, got string)", { "10", nobody },
      "#1 to 'wait' (timeout or callback expected, got table)", { {} },
      "#1 to 'wait' (timeout or callback expected, got boolean)", { false },
      "#1 to 'wait' (timeout or callback expected, got boolean)", { true, nobody },
      "#2 to 'wait' (nothing comes after the callback)", { nobody, 10 },
      "#2 to 'wait' (nothing comes after the callback)", { nobody, nobody },
      "#2 to 'wait' (callback must be callable, got string)", { 10, "f" },
      "#2 to 'wait' (callback must be callable, got number)", { 10, 10 },
      "#2 to 'wait' (callback must be callable, got table)", { nil, {} },
      "#3 to 'wait' (no such argument is taken, got number)", { 10, nobody, 1 },
      "#3 to 'wait' (no such argument is taken, got boolean)", { nil, nil, false },
    },
    with = {
      "#1 to 'with' (body must be callable, got nil)", {},
      "#1 to 'with' (body must be callable, got number)", { 10 },
      "#1 to 'with' (body must be callable, got table)", { {} },
      "#2 to 'with' (no such argument is taken, got number)", { nobody, 10 },
      "#3 to 'with' (no such argument is taken, got number)", { nobody, nil, 10 },
    },
    arrive = {
      "#2 to 'arrive' (no such argument is taken, got number)", { 1, 2 },
      "#3 to 'arrive' (no such argument is taken, got boolean)", { nil, nil, false },
    },
    register = { "#2 to 'register' (no such argument is taken, got number)", { 1, 2 } },
    deregister = { "#2 to 'deregister' (no such argument is taken, got number)", { 1, 2 } },
    reset = { "#1 to 'reset' (no such argument is taken, got number)", { 1 } },
    abort = { "#2 to 'abort' (no such argument is taken, got string)", { "x", "y" } },
    waiters = { "#1 to 'waiters' (no such argument is taken, got table)", { {} } },
    cancel = {
      "#1 to 'cancel' (coroutine expected, got nil)", {},
      "#1 to 'cancel' (coroutine expected, got function)", { nobody },
      "#1 to 'cancel' (coroutine expected, got table)", { {} },
      "#1 to 'cancel' (coroutine expected, got Waiter", { barrier.new(2):wait(nobody) },
    },
  }
  if jit then -- every cdata has a metamethod __call
    local cdata = require("ffi").new("int64_t", 50)
    table.insert(bad.wait, "#1 to 'wait' (timeout or callback expected, got cdata)")
    table.insert(bad.wait, { cdata })
    table.insert(bad.wait, "#2 to 'wait' (callback must be callable, got cdata)")
    table.insert(bad.wait, { 10, cdata })
  end
  bad.await_trip = {} -- takes what wait takes
  for i, case in ipairs(bad.wait) do
    bad.await_trip[i] = type(case) == "string" and case:gsub("'wait'", "'await_trip'") or case
  end
  for name, cases in pairs(bad) do
    it("of " .. name .. " is named, and changes nothing", function()
      for i = 1, #cases, 2 do
        local function call(b)
          b[name](b, unpack(cases[i + 1], 1, 3))
        end
        for _, f in ipairs { call, in_coroutine(call) } do
          for _, message in ipairs(changes_nothing(f)) do
            assert.is_truthy(message:find("bad argument " .. cases[i], 1, true), message)
            assert.is_truthy(message:find("^%S*where_spec%.lua:%d+: "), message)
          end
        end
      end
    end)
  end

  it("of a Waiter's close leaves it in the barrier", function()
    local b, log = barrier.new(2), {}
    local waiter = b:wait(listener(log, "a"))
    assert.is_false(pcall(waiter.close, waiter, nobody, 1))
    assert.is_false(pcall(waiter.is_closing, waiter, 1))
    for _, on_close in ipairs { 5, "f", {}, true } do
      local ok, message = pcall(function()
        waiter:close(on_close)
      end)
      assert.is_false(ok)
      assert.is_truthy(message:find("where_spec%.lua:%d+: bad argument #1 to 'close' "
        .. "%(on_close must be callable, got " .. type(on_close) .. "%)"), message)
    end
    assert.are.equal(1, b.n_waiting)
    b:wait(nobody)
    run_loop()
    assert.are.same({ "a 0" }, log)
  end)

  it("is not nil, however often", function()
    local b, log = barrier.new(1), {}
    co(function()
      table.insert(log, b:wait(nil))
      table.insert(log, b:wait(nil, nil, nil, nil))
      table.insert(log, b:wait(0))
      table.insert(log, b:wait(5.0))
    end)
    b:wait(nil, listener(log, "a"))
    run_loop()
    assert.are.same({ 0, 0, 0, 0, "a 0" }, log)
    b:abort(nil, nil)
    b:reset(nil)
    assert.are.equal("filling", b.state)
    assert.are.same({}, b:waiters(nil))
  end)
end)
