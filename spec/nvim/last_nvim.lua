-- Contract, point 15: whichever party arrives last, all go on where vim.api may be called.
local barrier = require "barrier"
local support = require "spec.nvim.support"

local uv, co, add, wait_for = support.uv, support.co, support.add, support.wait_for
local in_fast_event = support.in_fast_event

---Notes where it is called. What ends in a fast event is not what `has` expects.
local function note(log, what)
  local fast = vim.in_fast_event()
  add(log, what .. (fast and " in a fast event" or " in buffer " .. vim.api.nvim_get_current_buf()))
end

---A party in coroutine style, which notes its position or how it failed.
local function party(b, log, name)
  return co(function()
    local ok, result = pcall(b.wait, b)
    note(log, name .. " " .. tostring(ok and result or result.reason or result))
  end)
end

local function has(log, n)
  wait_for(function()
    return #log >= n
  end)
  local buffer = " in buffer " .. vim.api.nvim_get_current_buf()
  for i, line in ipairs(log) do
    log[i] = line:gsub(vim.pesc(buffer) .. "$", "")
  end
  return log
end

---The ways of being last.
local LAST = {
  coroutine = function(b, log)
    party(b, log, "last")
  end,
  callback = function(b, log)
    b:wait(function(err, position)
      note(log, "last " .. tostring(err and (err.reason or err) or position))
    end)
  end,
  arrive = function(b)
    assert(b:arrive() == true)
  end,
  deregister = function(b)
    assert(b:deregister() == true)
  end,
}

for name, come in pairs(LAST) do
  local waits = name == "coroutine" or name == "callback"

  describe("a last arrival in a fast event, by " .. name .. ",", function()
    it("trips the barrier in the scheduled turn, after which all may call vim.api", function()
      local b, log, then_ = barrier.new(2), {}, nil
      party(b, log, "first")
      b:await_trip(function(_, generation)
        note(log, "watcher " .. generation)
      end)
      in_fast_event(function()
        come(b, log)
        then_ = { b.state, b.generation, b.n_waiting, #b:waiters() }
        b:wait(function() end):close() -- is blocked
      end)
      local expected = waits and { "first 0", "last 1", "watcher 1" } or { "first 0", "watcher 1" }
      assert.are.same(expected, has(log, #expected))
      assert.are.same({ "filling", 0, waits and 2 or 1, waits and 2 or 1 }, then_)
      assert.are.equal(1, b.generation)
    end)

    it("has the action run in that turn, before anyone goes on", function()
      local log = {}
      local b = barrier.new(2, { action = function(b)
        note(log, "action " .. b.n_arrived)
      end })
      party(b, log, "first")
      in_fast_event(function()
        come(b, log)
      end)
      local arrived = name == "deregister" and 1 or 2
      local expected = { "action " .. arrived, "first 0", waits and "last 1" or nil }
      assert.are.same(expected, has(log, #expected))
    end)

    it("breaks the barrier if the action raises, for the reason that all parties get", function()
      local log = {}
      local b = barrier.new(2, { action = function()
        error("boom", 0)
      end })
      party(b, log, "first")
      in_fast_event(function()
        come(b, log)
      end)
      local expected = { "first boom", waits and "last boom" or nil }
      assert.are.same(expected, has(log, #expected))
      assert.is_true(b.broken)
    end)

    it("trips it again and again", function()
      local b, log = barrier.new(2), {}
      for trip = 1, 3 do
        if b.parties < 2 then
          b:register()
        end
        party(b, log, "first")
        in_fast_event(function()
          come(b, log)
        end)
        local n = trip * (waits and 2 or 1)
        wait_for(function()
          return #log == n and b.generation == trip
        end)
      end
    end)

    it("is not undone by a party that leaves before its turn, nor by a timeout", function()
      local calls, log = 0, {}
      local b = barrier.new(3, { timeout = 60, action = function(self)
        calls = calls + 1
        note(log, "action " .. self.n_waiting)
      end })
      local first = b:wait(function() end)
      b:wait(60, function(err, position)
        note(log, "second " .. tostring(err or position))
      end)
      in_fast_event(function()
        come(b, log)
        first:close()
        local finish = uv.hrtime() + 100 * 1e6
        while uv.hrtime() < finish do end -- luacheck: ignore 542
      end)
      local expected = { "action " .. (waits and 2 or 1), "second 0", waits and "last 1" or nil }
      assert.are.same(expected, has(log, #expected))
      assert.are.equal(1, b.generation)
      assert.are.equal(1, calls)
    end)

    it("trips at once with schedule = false, also where vim.api may not be called", function()
      local b, log, generation = barrier.new(2, { schedule = false }), {}, nil
      b:wait(function(_, position)
        note(log, "first " .. position)
      end)
      in_fast_event(function()
        come(b, log)
        generation = b.generation
      end)
      local expected = { "first 0 in a fast event" }
      if waits then
        table.insert(expected, name == "coroutine" and 1 or 2, "last 1 in a fast event")
      end
      wait_for(function()
        return #log == #expected
      end)
      assert.are.equal(1, generation)
      assert.are.same(expected, log)
    end)
  end)
end

describe("an action that raises in the turn of a last arrival", function()
  it("is reported where nobody waits", function()
    local output, status = support.chunk [[
      local b = require "barrier".new(1, { action = function() error "nobody hears it" end })
      local timer, told = (vim.uv or vim.loop).new_timer(), nil
      timer:start(0, 0, function()
        timer:close()
        told = b:arrive()
      end)
      pcall(wait_for, function() return b.broken end)
      vim.wait(50, function() return false end, 1)
      io.stdout:write(tostring(told))
    ]]
    assert.is_truthy(output:find("nobody hears it", 1, true), output)
    assert.is_truthy(output:find("true", 1, true), output)
    assert.are.equal("number", type(status))
  end)
end)

describe("what is scheduled in Neovim", function()
  ---Schedules two functions in a fast event, and calls `meanwhile` with the module's handles before
  ---they have run.
  local function schedule_two(meanwhile)
    local new_timer, new_idle, timer, idle = uv.new_timer, uv.new_idle, nil, nil
    uv.new_timer = function()
      timer = new_timer()
      return timer
    end
    uv.new_idle = function()
      idle = new_idle()
      return idle
    end
    barrier.close() -- makes new ones
    uv.new_timer, uv.new_idle = new_timer, new_idle
    local drained, fast = 0, false
    in_fast_event(function()
      for _ = 1, 2 do
        require("barrier.neovim").schedule(function()
          drained = drained + 1
        end)
      end
      fast = { idle:is_active(), timer:is_active(), drained }
    end)
    meanwhile(idle, timer)
    wait_for(function()
      return drained == 2
    end)
    assert.are.same({ true, false, 0 }, fast)
    assert.are.same({ false, false }, { idle:is_active(), timer:is_active() })
  end

  it("keeps the loop from sleeping", function()
    schedule_two(function() end)
  end)

  it("is awaited by a timer where nothing scheduled runs for long", function()
    schedule_two(function(idle, timer)
      vim.wait(20000, function()
        return timer:is_active()
      end, 1, true)
      assert.are.same({ false, true }, { idle:is_active(), timer:is_active() })
    end)
  end)

  it("is counted by barrier.close, also an action alone that was put off", function()
    local ran, closed, message
    in_fast_event(function()
      local b = barrier.new(1, { action = function()
        ran = true
      end })
      b:arrive()
      closed, message = barrier.close()
    end)
    wait_for(function()
      return ran
    end)
    assert.is_nil(closed)
    assert.is_truthy(message:find("notified: 1,", 1, true), message)
  end)

  it("may be called off by barrier.close, and works again afterwards", function()
    local b, passed = barrier.new(1), 0
    for round = 1, 2 do
      b:wait(function()
        passed = passed + 1
      end)
      wait_for(function()
        return passed == round
      end)
      barrier.close()
    end
  end)
end)
