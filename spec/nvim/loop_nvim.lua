local barrier = require "barrier"
local environment = require "barrier.environment"
local support = require "spec.nvim.support"

local uv, co, add, wait_for = support.uv, support.co, support.add, support.wait_for
local in_fast_event = support.in_fast_event

describe("in Neovim, require 'barrier'", function()
  it("uses Neovim's own luv and asks for no other", function()
    local loaded = package.loaded.luv
    package.loaded.luv = nil
    package.preload.luv = function()
      error "somebody asked for the rock"
    end
    local found, result = pcall(environment.luv)
    package.preload.luv = nil
    package.loaded.luv = loaded
    assert.is_true(found, result)
    assert.are.equal(uv, result)
  end)

  it("works where no other luv can be found", function()
    local output, status = support.chunk [[
      package.loaded.barrier, package.loaded["barrier.core"], package.loaded.luv = nil, nil, nil
      package.preload.luv = function() error "somebody asked for the rock" end
      local b = require "barrier".new(2)
      local passed = 0
      for _ = 1, 2 do b:wait(function(err) assert(not err) passed = passed + 1 end) end
      wait_for(function() return passed == 2 end)
      io.stdout:write "passed"
    ]]
    assert.are.equal("passed", output)
    assert.are.equal(0, status)
  end)
end)

describe("in Neovim, a waiter", function()
  it("resumes where vim.api may be called", function()
    local b, fast, lines = barrier.new(3), {}, nil
    local buffer = vim.api.nvim_create_buf(false, true)
    for i = 1, 2 do
      co(function()
        local position = b:wait()
        fast[i] = vim.in_fast_event()
        vim.api.nvim_buf_set_lines(buffer, position, position, true, { "line " .. position })
        lines = vim.api.nvim_buf_get_lines(buffer, 0, -1, true)
      end)
    end
    in_fast_event(function()
      b:wait(function(err)
        assert(not err)
        fast[3] = vim.in_fast_event()
      end)
    end)
    wait_for(function()
      return #fast == 3
    end)
    assert.are.same({ false, false, false }, fast)
    assert.are.same({ "line 0", "line 1", "" }, lines)
    vim.api.nvim_buf_delete(buffer, { force = true })
  end)

  it("resumes there after a timeout, a cancellation, a reset and an abort too", function()
    local log = {}
    local function wait(b, timeout)
      return co(function()
        local ok, err = pcall(b.wait, b, timeout)
        assert(not ok and not vim.in_fast_event())
        add(log, tostring(err))
      end)
    end
    wait(barrier.new(2), 1)
    local cancelled, reset, aborted = barrier.new(2), barrier.new(2), barrier.new(2)
    local waiting = wait(cancelled)
    wait(reset)
    wait(aborted)
    in_fast_event(function()
      cancelled:cancel(waiting)
      reset:reset()
      aborted:abort "enough"
    end)
    wait_for(function()
      return #log == 4
    end)
    table.sort(log)
    assert.are.same({
      "BrokenBarrierError: barrier aborted: enough",
      "BrokenBarrierError: barrier reset",
      "CancelledError: wait cancelled",
      "TimeoutError: wait timed out after 1 ms, 1 of 2 had arrived",
    }, log)
  end)

  it("resumes in luv's callback with schedule = false", function()
    local b, fast = barrier.new(3, { schedule = false }), {}
    co(function()
      b:wait()
      fast[1] = vim.in_fast_event()
    end)
    for i = 2, 3 do
      b:wait(function()
        fast[i] = vim.in_fast_event()
      end)
    end
    wait_for(function()
      return #fast == 3
    end)
    assert.are.same({ true, true, true }, fast)
  end)

  it("resumes where a custom schedule says", function()
    local calls, fast = 0, nil
    local b = barrier.new(2, {
      schedule = function(drain)
        calls = calls + 1
        vim.schedule(drain)
      end,
    })
    co(function()
      b:wait()
      fast = vim.in_fast_event()
    end)
    b:wait(function() end)
    wait_for(function()
      return fast ~= nil
    end)
    assert.is_false(fast)
    assert.are.equal(1, calls)
  end)

  it("is let out in order, in one turn", function()
    local b, log, turns = barrier.new(4), {}, 0
    for i = 1, 4 do
      co(function()
        local position = b:wait()
        add(log, ("%d at %d in turn %d"):format(i, position, turns))
        if i == 1 then
          vim.schedule(function()
            turns = turns + 1
          end)
        end
      end)
    end
    assert.are.same({ "4 at 3 in turn 0" }, log)
    wait_for(function()
      return #log == 4 and turns == 1
    end)
    assert.are.same({
      "4 at 3 in turn 0", "1 at 0 in turn 0", "2 at 1 in turn 0", "3 at 2 in turn 0",
    }, log)
  end)

  it("may trip again and again", function()
    local b, ended = barrier.new(3), 0
    for _ = 1, 3 do
      co(function()
        for _ = 1, 500 do
          b:wait()
        end
        ended = ended + 1
      end)
    end
    wait_for(function()
      return ended == 3
    end)
    assert.are.equal(500, b.generation)
  end)

  it("that trips for ever starves neither luv nor vim.schedule", function()
    for _, options in ipairs { {}, { schedule = false } } do
      local b, rang, scheduled, ended = barrier.new(2, options), 0, 0, 0
      for _ = 1, 2 do
        co(function()
          while pcall(b.wait, b) do end -- until it is aborted
          ended = ended + 1
        end)
      end
      local timer = uv.new_timer()
      timer:start(1, 1, function()
        rang = rang + 1
        vim.schedule(function()
          scheduled = scheduled + 1
        end)
      end)
      wait_for(function()
        return rang >= 5 and scheduled >= 5 and b.generation > 5
      end)
      timer:close()
      b:abort()
      wait_for(function()
        return ended == 2
      end)
    end
  end)

  it("that nobody can reach is collected with its barrier", function()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local b = barrier.new(3)
      weak[b] = "barrier"
      weak[co(function()
        b:wait()
      end)] = "coroutine"
      weak[b:wait(function() end)] = "Waiter"
    end
    support.idle()
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)
end)

describe("in Neovim, a resumed coroutine", function()
  it("may call vim.wait, whose loop lets the others out", function()
    local b, log = barrier.new(4), {}
    for i = 1, 4 do
      co(function()
        b:wait()
        add(log, "in " .. i)
        if i == 1 then
          wait_for(function()
            return #log == 7
          end)
        end
        add(log, "out " .. i)
      end)
    end
    wait_for(function()
      return #log == 8
    end)
    assert.are.same({ "in 4", "out 4", "in 1", "in 2", "out 2", "in 3", "out 3", "out 1" }, log)
  end)

  it("may call vim.wait as the last to leave, whose loop lets the blocked in", function()
    local b, log = barrier.new(2), {}
    co(function()
      b:wait()
      wait_for(function()
        return #log == 2
      end)
      add(log, "done")
    end)
    for i = 2, 4 do
      co(function()
        b:wait()
        if i > 2 then
          add(log, i)
        end
      end)
    end
    wait_for(function()
      return #log == 3
    end)
    assert.are.same({ 3, 4, "done" }, log)
  end)

  it("may wait again, abort, reset, and collect garbage", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      co(function()
        b:wait()
        collectgarbage()
        barrier.new(2):wait(function() end)
        local ok, err = pcall(b.wait, b)
        add(log, ok and err or err.message)
        if i == 3 then
          b:abort "first"
          b:reset()
        end
        ok, err = pcall(b.wait, b)
        add(log, ok and err or err.message)
      end)
    end
    wait_for(function()
      return #log == 6
    end)
    assert.are.same({ 0, "barrier reset", "barrier reset", 0, 1, 2 }, log)
    assert.are.equal("filling", b.state)
  end)
end)

describe("in Neovim, the callback style", function()
  it("calls back once, from the loop", function()
    local b, log = barrier.new(2), {}
    b:wait(function(err, position)
      add(log, { err, position })
    end)
    b:wait(100000, function(err, position)
      add(log, { err, position })
    end)
    assert.are.equal(0, #log)
    wait_for(function()
      return #log == 2
    end)
    support.idle()
    assert.are.same({ { nil, 0 }, { nil, 1 } }, log)
  end)

  it("has a Waiter whose close calls back", function()
    local b, closed, called = barrier.new(2), 0, false
    local waiter = b:wait(function()
      called = true
    end)
    assert.are.equal(1, b.n_waiting)
    waiter:close(function()
      closed = closed + 1
    end)
    assert.are.equal(0, b.n_waiting)
    assert.are.equal(0, closed)
    wait_for(function()
      return closed == 1
    end)
    assert.is_false(called)
  end)

  it("times out", function()
    local b, err = barrier.new(2), nil
    b:wait(1, function(e)
      err = e
    end)
    wait_for(function()
      return err ~= nil
    end)
    assert.are.equal(barrier.TimeoutError, getmetatable(err))
    assert.are.equal(b, err.barrier)
  end)
end)

describe("in Neovim, an action", function()
  it("runs in the last arrival, before anyone is let through", function()
    local log = {}
    local b = barrier.new(2, {
      action = function(self)
        add(log, "action, " .. self.n_waiting .. " waiting")
      end,
    })
    for i = 1, 2 do
      co(function()
        b:wait()
        add(log, i)
      end)
    end
    wait_for(function()
      return #log == 3
    end)
    assert.are.same({ "action, 2 waiting", 2, 1 }, log)
  end)
end)
