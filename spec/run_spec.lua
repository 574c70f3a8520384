-- barrier.run.
local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local add, later, raises = support.add, support.later, support.raises

describe("run", function()
  it("runs a coroutine and the loop until it has ended, and returns what it returned", function()
    local log = {}
    local results = support.pack(barrier.run(function(...)
      add(log, select("#", ...))
      add(log, select(2, barrier.await(uv.fs_stat, ".")).type)
      return 1, nil, 3, nil
    end))
    assert.are.same({ 0, "directory" }, log)
    assert.are.same({ n = 4, 1, nil, 3, nil }, results)
    assert.are.equal(0, select("#", barrier.run(function() end)))
    assert.are.equal(5, barrier.run(100000, function() return 5 end))
  end)

  it("leaves the other handles of the loop as they are", function()
    local timer = uv.new_timer()
    timer:start(1000000, 0, error)
    barrier.run(function()
      barrier.await(later)
    end)
    assert.is_true(timer:is_active())
    timer:close()
    support.run_loop()
  end)

  describe("does not wait for other timers of the loop if", function()
    local late, is_late

    ---Lets the time pass until timers are due when the loop begins.
    local function compute()
      local start = uv.hrtime()
      repeat until uv.hrtime() - start > 5000000
    end

    before_each(function()
      late, is_late = uv.new_timer(), false
      late:start(3000, 0, function() is_late = true end)
    end)

    after_each(function()
      late:close()
      support.run_loop()
    end)

    it("main ends", function()
      local soon = uv.new_timer()
      barrier.run(function()
        barrier.await(function(callback)
          soon:start(1, 0, callback)
          compute()
        end)
      end)
      soon:close()
      assert.is_false(is_late)
    end)

    it("its time has passed", function()
      local b = barrier.new(2)
      raises("main has not ended after 1 ms", barrier.run, 1, function()
        compute()
        b:wait()
      end)
      b:wait(function() end)
      assert.is_false(is_late)
    end)
  end)

  support.it_nests("does not end a loop that other code runs inside", function()
    local fired, fired_inside = false, nil
    barrier.run(function()
      later(function()
        later(function() fired = true end, 20)
        uv.run()
        fired_inside = fired
      end, 1)
      barrier.await(function(callback) later(callback, 10) end)
    end)
    assert.is_true(fired_inside)
  end)

  it("goes round once more, so that handles that were just closed are gone", function()
    local gone = false
    barrier.run(function()
      local timer = uv.new_timer()
      timer:close(function()
        gone = true
      end)
    end)
    assert.is_true(gone)
    gone = false
    pcall(barrier.run, function()
      uv.new_timer():close(function()
        gone = true
      end)
      error "failed"
    end)
    assert.is_true(gone)
  end)

  it("raises what the coroutine raises, a string with its traceback", function()
    local ok, err = pcall(barrier.run, function()
      local function inner()
        error "at once"
      end
      inner()
    end)
    assert.is_false(ok)
    assert.is_truthy(err:find "^spec[/\\]run_spec.lua:%d+: at once\nstack traceback:", err)
    assert.is_truthy(err:find("inner", 1, true), err)
    local object = {}
    ok, err = pcall(barrier.run, function()
      error(object)
    end)
    assert.is_false(ok)
    assert.are.equal(object, err)
  end)

  support.it_catches("raises it after a wait, too", function()
    local ok, err = pcall(barrier.run, function()
      barrier.await(later)
      local function inner()
        error "afterwards"
      end
      inner()
    end)
    assert.is_false(ok)
    assert.is_truthy(err:find ": afterwards\nstack traceback:", err)
    assert.is_truthy(err:find("inner", 1, true), err)
    ok, err = pcall(barrier.run, function()
      barrier.await(later)
      error()
    end)
    assert.is_false(ok)
    assert.is_nil(err)
  end)

  it("raises an error with the report of stuck if it cannot end", function()
    local b = barrier.new(2)
    local waiter
    local ok, err = pcall(barrier.run, function()
      waiter = true
      b:wait()
    end)
    assert.is_false(ok)
    assert.is_true(waiter)
    assert.is_truthy(err:find("main has not ended, and the loop has nothing left to do\n", 1, true),
      err)
    assert.is_truthy(err:find("waiters:1/2", 1, true), err)
    assert.is_truthy(err:find("run_spec.lua", 1, true), err)
    b:wait(function() end) -- it is left as it is, and goes on
    support.run_loop()
    assert.are.equal(1, b.generation)
  end)

  it("raises such an error if the time has passed", function()
    local timer = uv.new_timer()
    timer:start(1000000, 0, error)
    local b = barrier.new(2)
    raises("main has not ended after 5 ms\n<barrier.Barrier", barrier.run, 5, function()
      b:wait()
    end)
    b:wait(function() end)
    timer:close()
    support.run_loop()
    raises("nothing left to do", barrier.run, 1000000, function()
      coroutine.yield()
    end)
    support.collect_garbage()
  end)

  it("is refused in a coroutine, and with wrong arguments, at the caller's line", function()
    support.co(function()
      raises("cannot run the loop in a coroutine", barrier.run, error)
    end)
    for _, timeout in ipairs { -1, 1.5, 0 / 0, 2 ^ 40 } do
      raises("bad argument #1 to 'run' (timeout must be an integer >= 0, in milliseconds, got ",
        barrier.run, timeout, print)
    end
    raises("bad argument #1 to 'run' (main must be callable, got table)", barrier.run, {})
    raises("bad argument #2 to 'run' (main must be callable, got nil)", barrier.run, 5)
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() barrier.run(5, 6) end)
    assert.is_truthy(err:find("run_spec.lua:" .. line .. ": bad argument", 1, true), err)
  end)
end)

describe("a program", function()
  local FAILS = "barrier.await(uv.fs_stat, '.') error 'failed'"
  local WAITS = "barrier.new(2):wait()"
  local BY_LOOP = "coroutine.wrap(function() %s end)() uv.run()"
  local BY_RUN = "barrier.run(function() %s end)"

  local function ends_with(status, way, body)
    return function()
      assert.are.equal(status, support.chunk(way:format(body)).code)
    end
  end

  it("ends with status 255 if no coroutine catches an error", ends_with(255, BY_LOOP, FAILS))
  support.it_catches("ends with status 1 if it happens in run", ends_with(1, BY_RUN, FAILS))
  it("ends with status 0 if a party waits for ever", ends_with(0, BY_LOOP, WAITS))
  it("ends with status 1 if it waits in run", ends_with(1, BY_RUN, WAITS))
end)
