local barrier = require "barrier"
local support = require "spec.support"

local co, run_loop = support.co, support.run_loop

local METHODS = {
  "wait", "with", "arrive", "register", "deregister", "await_trip", "reset", "abort", "cancel",
  "waiters",
}

local function nobody() end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

describe("barrier.new", function()
  it("makes an empty barrier for that many parties", function()
    local b = barrier.new(3)
    assert.are.equal(support.type_of_barrier, type(b))
    assert.are.equal(3, b.parties)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.generation)
    assert.is_false(b.broken)
    assert.are.same({}, b:waiters())
  end)

  it("takes any integer >= 1, including 3.0", function()
    for _, parties in ipairs { 1, 3.0, 2 ^ 31 - 1 } do
      assert.are.equal(parties, barrier.new(parties).parties)
    end
  end)

  it("rejects any other number of parties, and says what it expects", function()
    local wrong = {
      0, -4, 0.5, 2.5, 2 ^ 31, 2 ^ 32, 2 ^ 53, 1 / 0, -1 / 0, 0 / 0, "3", true, {},
    }
    for _, parties in ipairs(wrong) do
      local message = message_of(barrier.new, parties)
      local got = type(parties) == "number" and tostring(parties) or type(parties)
      assert.is_truthy(message:find("bad argument #1 to 'new' (parties must be an integer >= 1",
        1, true), message)
      assert.is_truthy(message:find(", got " .. got .. ")", 1, true), message)
    end
    assert.is_truthy(message_of(barrier.new):find("got no value)", 1, true))
    assert.is_truthy(message_of(barrier.new, nil, {}):find("bad argument #1 to 'new'", 1, true))
  end)

  it("points at the line that called it", function()
    local message = message_of(function()
      local b = barrier.new(0)
      return b
    end)
    assert.is_truthy(message:find("^%S*module_spec%.lua:%d+: bad argument"))
  end)

  it("takes options, or none", function()
    local function f() end
    local callable = setmetatable({}, { __call = f })
    for _, options in ipairs {
      {}, { action = f }, { schedule = f }, { schedule = false },
      { action = callable, schedule = callable }, { timeout = 0 }, { timeout = 500, action = f },
    } do
      assert.are.equal(2, barrier.new(2, options).parties)
    end
    assert.are.equal(2, barrier.new(2, nil).parties)
  end)

  it("rejects options that are not a table", function()
    for _, options in ipairs { 5, "action", true, print, coroutine.create(function() end) } do
      assert.are.equal("bad argument #2 to 'new' (options must be a table, got " .. type(options)
        .. ")", (message_of(barrier.new, 2, options):gsub("^%S+:%d+: ", "")))
    end
  end)

  it("rejects an unknown option, and names it", function()
    local function f() end
    local cases = { acton = { acton = f }, ["1"] = { f }, time = { action = f, time = 1 } }
    for name, options in pairs(cases) do
      local message = message_of(barrier.new, 2, options)
      assert.is_truthy(message:find("bad argument #2 to 'new' (unknown option '" .. name .. "')",
        1, true), message)
    end
  end)

  it("rejects an option with a wrong value, and names it", function()
    for _, value in ipairs { 1, "f", {}, true } do
      assert.is_truthy(message_of(barrier.new, 2, { action = value }):find(
        "bad argument #2 to 'new' (option 'action' must be callable, got " .. type(value) .. ")",
        1, true))
      assert.is_truthy(message_of(barrier.new, 2, { schedule = value }):find(
        "bad argument #2 to 'new' (option 'schedule' must be callable or false, got "
          .. type(value) .. ")", 1, true))
    end
    assert.is_false((pcall(barrier.new, 2, { action = false })))
  end)

  it("makes barriers that are independent of each other", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    support.party(a, "a", log)
    support.party(b, "b", log)
    assert.are.equal(1, a.n_waiting)
    assert.are.equal(1, b.n_waiting)
    support.party(a, "a", log)
    run_loop()
    assert.are.same({ "a 1", "a 0" }, log)
    assert.are.equal(1, a.generation)
    assert.are.equal(0, b.generation)
    assert.are.equal(1, b.n_waiting)
  end)
end)

describe("the module", function()
  it("exports four classes of errors, a version and its functions", function()
    local names = {}
    for name in pairs(barrier) do
      table.insert(names, name)
    end
    table.sort(names)
    assert.are.same({
      "BrokenBarrierError", "CancelledError", "GroupError", "TimeoutError", "_VERSION", "await",
      "cancel", "close", "debug", "group", "implementation", "new", "redis", "run", "shared",
      "stuck",
    }, names)
    assert.is_truthy(barrier._VERSION:find "^luv%-barrier %d+%.%d+%.%d+$")
    assert.are.equal("table", type(barrier.BrokenBarrierError))
    assert.are.equal("table", type(barrier.CancelledError))
    assert.are.equal("table", type(barrier.TimeoutError))
    assert.are.equal("table", type(barrier.GroupError))
    assert.are_not.equal(barrier.BrokenBarrierError, barrier.CancelledError)
    assert.are_not.equal(barrier.BrokenBarrierError, barrier.TimeoutError)
    assert.are_not.equal(barrier.CancelledError, barrier.TimeoutError)
  end)

  it("starts nothing when it is loaded or a barrier is made", function()
    local result = support.chunk [[
      local handles = 0
      local b = barrier.new(2)
      uv.walk(function() handles = handles + 1 end)
      print(handles, uv.loop_alive(), b.state)
    ]]
    assert.are.equal("0\tfalse\tfilling\n", result.out)
  end)
end)

---A barrier that gets a metatable of its own, as it does after some hundred waits.
local function used(parties)
  local b = barrier.new(parties)
  for _ = 1, 100 do
    for _ = 1, parties do
      b:wait(nobody)
    end
    run_loop()
  end
  return b
end

for kind, make in pairs { ["new"] = barrier.new, ["much used"] = used } do
  describe("the members of a " .. kind .. " barrier", function()
    it("are read-only", function()
      local b = make(2)
      for _, name in ipairs {
        "parties", "n_waiting", "n_arrived", "broken", "state", "generation", "wait", "reset",
        "abort", "arrive", "other",
      } do
        local before = b[name]
        local message = message_of(function()
          b[name] = 7
        end)
        assert.is_truthy(message:find("module_spec%.lua:%d+: .*" .. name), message)
        assert.are.equal(before, b[name])
      end
    end)

    it("are nil if they are unknown", function()
      local b = make(2)
      for _, key in ipairs { "other", "Parties", "_count", "", 1, 5, true, {}, print } do
        assert.is_nil(b[key])
      end
    end)

    it("are methods, and properties that are not functions", function()
      local b = make(2)
      for _, name in ipairs(METHODS) do
        assert.are.equal("function", type(b[name]), name)
      end
      assert.are.equal("number", type(b.parties))
      assert.are.equal("number", type(b.n_waiting))
      assert.are.equal("number", type(b.n_arrived))
      assert.are.equal("number", type(b.generation))
      assert.are.equal("boolean", type(b.broken))
      assert.are.equal("string", type(b.state))
      if math.type then
        assert.are.equal("integer", math.type(make(2.0).parties))
        assert.are.equal("integer", math.type(b.n_waiting))
        assert.are.equal("integer", math.type(b.generation))
      end
    end)

    it("hide the metatable, and so the finalizer", function()
      local b = make(2)
      assert.are_not.equal("table", type(getmetatable(b)))
      assert.is_false((pcall(setmetatable, b, {})))
    end)

    it("are the same for every barrier", function()
      local b, other = make(3), barrier.new(3)
      for _, name in ipairs(METHODS) do
        assert.are.equal(other[name], b[name])
      end
      assert.are.equal(3, b.parties)
      assert.is_truthy(tostring(b):find("filling, waiters:0/3", 1, true))
      b:wait(nobody)
      assert.are.equal(1, b.n_waiting)
      assert.are.equal(0, other.n_waiting)
    end)
  end)
end

it("A much used barrier counts its trips, and is collected", function()
  local seen = setmetatable({}, { __mode = "k" })
  seen[used(2)] = true
  assert.are.equal(100, next(seen).generation)
  collectgarbage()
  collectgarbage()
  assert.is_nil(next(seen))
end)

describe("tostring of a barrier", function()
  local function shown(b)
    local address, rest = tostring(b):match("^<barrier%.Barrier object at (%w+) %[(.*)%]>$")
    assert.is_truthy(address)
    return rest, address
  end

  it("shows its state, how many are waiting and how many parties there are", function()
    local b = barrier.new(3)
    assert.are.equal("filling, waiters:0/3", (shown(b)))
    for i = 1, 2 do
      co(function()
        b:wait()
      end)
      assert.are.equal("filling, waiters:" .. i .. "/3", (shown(b)))
    end
    co(function()
      b:wait()
    end)
    assert.are.equal("draining, waiters:0/3", (shown(b)))
    run_loop()
    assert.are.equal("filling, waiters:0/3", (shown(b)))
    b:wait(function() end)
    b:reset()
    assert.are.equal("resetting, waiters:0/3", (shown(b)))
    b:abort("why")
    assert.are.equal("broken", (shown(b)))
    run_loop()
    assert.are.equal("broken", (shown(b)))
    b:reset()
    assert.are.equal("filling, waiters:0/3", (shown(b)))
  end)

  it("differs between barriers, and never changes for an idle one", function()
    local a, b = barrier.new(1), barrier.new(1)
    assert.are.equal(select(2, shown(a)), select(2, shown(a)))
    assert.are_not.equal(select(2, shown(a)), select(2, shown(b)))
    assert.is_true(a ~= b)
  end)
end)
