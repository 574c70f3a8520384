-- One barrier for several loops, one of which is Neovim's.
local barrier = require "barrier"
local support = require "spec.nvim.support"

local uv, co, add, wait_for = support.uv, support.co, support.add, support.wait_for
local in_fast_event = support.in_fast_event

local it = barrier.implementation == "C" and it or function(name) -- luacheck: ignore 431
  pending(name .. " (left out: only the C core promises it)")
end

local used = 0

local function new(parties)
  used = used + 1
  return barrier.shared("nvim " .. used, parties)
end

describe("in Neovim, a waiter at a shared barrier", function()
  it("resumes where vim.api may be called", function()
    local b, fast = new(3), {}
    for _ = 1, 2 do
      co(function()
        local position = b:wait()
        fast[position + 1] = vim.in_fast_event()
        vim.api.nvim_get_current_buf()
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
  end)

  it("is suspended in a fast event even as the last arrival", function()
    local b, log = new(2), {}
    co(function() add(log, "first " .. b:wait()) end)
    in_fast_event(function()
      co(function()
        local position = b:wait()
        add(log, "last " .. position .. " " .. tostring(vim.in_fast_event()))
      end)
      add(log, "suspended")
    end)
    wait_for(function()
      return #log == 3
    end)
    assert.are.same({ "suspended", "first 0", "last 1 false" }, log)
  end)

  it("passes at once as the last arrival elsewhere", function()
    local b, log = new(2), {}
    co(function() add(log, "first " .. b:wait()) end)
    co(function() add(log, "last " .. b:wait()) end)
    assert.are.same({ "last 1" }, log)
    wait_for(function()
      return #log == 2
    end)
  end)

  it("times out, is cancelled and aborted", function()
    local b, log = new(3), {}
    b:wait(1, function(err) add(log, err.name) end)
    wait_for(function()
      return #log == 1
    end)
    local c = co(function()
      local _, err = pcall(b.wait, b)
      add(log, err.message)
    end)
    b:wait(function(err) add(log, tostring(err)) end)
    b:cancel(c)
    b:abort "why"
    wait_for(function()
      return #log == 3
    end)
    table.sort(log)
    assert.are.same({ "BrokenBarrierError: barrier aborted: why", "TimeoutError",
      "wait cancelled" }, log)
  end)

  it("lets others out when it runs the loop", function()
    local b, log = new(3), {}
    b:wait(function()
      add(log, "a")
      wait_for(function()
        return #log == 2
      end)
      add(log, "a again")
    end)
    b:wait(function() add(log, "b") end)
    b:arrive()
    wait_for(function()
      return #log == 3
    end)
    assert.are.same({ "a", "b", "a again" }, log)
  end)

  it("meets threads", function()
    local b, log = new(3), {}
    local threads = {}
    for i = 1, 2 do
      threads[i] = uv.new_thread(function(path, cpath, name)
        package.path, package.cpath = path, cpath
        local thread_barrier = require "barrier".shared(name, 3)
        local loop = (vim and (vim.uv or vim.loop)) or require "luv"
        coroutine.wrap(function()
          for _ = 1, 50 do thread_barrier:wait() end
        end)()
        loop.run()
      end, package.path, package.cpath, b.name)
    end
    co(function()
      for _ = 1, 50 do
        local position = b:wait()
        add(log, position)
        vim.api.nvim_get_current_buf()
        vim.schedule(function() end)
      end
    end)
    wait_for(function()
      return #log == 50
    end)
    for i = 1, 2 do
      threads[i]:join()
    end
    assert.are.equal(50, b.generation)
  end)
end)
