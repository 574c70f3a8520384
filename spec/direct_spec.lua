---Barriers whose turns are calls of a function that the core was given, as in Neovim: without the
---timer, as long as the loop has its turns.
local uv = require "luv"
local barrier = require "barrier"
local core = require("barrier.environment").core()
local support = require "spec.support"

local co, listener, run_loop = support.co, support.listener, support.run_loop

describe("a barrier whose schedule is the core's own", function()
  local queue, n_scheduled, problem

  local function schedule(f)
    n_scheduled = n_scheduled + 1
    if problem then
      error(problem, 0)
    end
    queue[#queue + 1] = f
  end

  ---Calls what is scheduled, and what that schedules, `most` times at most; returns how often.
  local function run_queue(most)
    local n = 0
    while queue[1] and n < most do
      n = n + 1
      table.remove(queue, 1)()
    end
    return n
  end

  ---True if the loop has anything to do.
  local function is_loop_alive()
    return uv.loop_alive()
  end

  before_each(function()
    queue, n_scheduled, problem = {}, 0, nil
    core.schedule_by(schedule)
  end)

  it("lets its parties out in a scheduled call, and starts no timer", function()
    local b, log = barrier.new(3, { schedule = schedule }), {}
    b:wait(listener(log, "callback"))
    support.party(b, "coroutine", log)
    assert.are.equal(0, n_scheduled)
    b:arrive()
    assert.are.same({ 1, {} }, { n_scheduled, log })
    assert.is_falsy(is_loop_alive())
    run_queue(10)
    assert.are.same({ "callback 0", "coroutine 1" }, log)
    assert.are.same({ {}, false }, { queue, is_loop_alive() or false })
  end)

  it("lets out the rest in a call that comes inside one of its parties", function()
    local b, log = barrier.new(3, { schedule = schedule }), {}
    b:wait(function()
      log[#log + 1] = "before"
      run_queue(10)
      log[#log + 1] = "after"
    end)
    b:wait(listener(log, "inside"))
    b:arrive()
    run_queue(10)
    assert.are.same({ "before", "inside 1", "after" }, log)
  end)

  it("lets the loop poll where parties trip it for ever", function()
    local b, waits, ended = barrier.new(2, { schedule = schedule }), 0, false
    for _ = 1, 2 do
      co(function()
        while not ended do
          b:wait()
          waits = waits + 1
        end
      end)
    end
    local n = run_queue(10000)
    assert.is_true(n < 10000)
    assert.is_true(waits > 0)
    local before = waits
    uv.run "once"
    uv.run "once"
    run_queue(10000)
    assert.is_true(waits > before)
    ended = true
    for _ = 1, 10 do
      run_queue(10000)
      uv.run "nowait"
    end
  end)

  support.it_in_c("is as it was where the schedule raises an error in an arrival", function()
    local b, log = barrier.new(2, { schedule = schedule }), {}
    b:wait(listener(log, "first"))
    problem = "no schedule"
    local ok, err = pcall(b.arrive, b)
    assert.are.same({ false, "no schedule", 1, 0 }, { ok, err, b.n_waiting, b.generation })
    problem = nil
    assert.is_true(b:arrive())
    run_queue(10)
    assert.are.same({ "first 0" }, log)
  end)

  support.it_catches("ends waits by a timeout and a cancel in a scheduled call", function()
    local b, log = barrier.new(9, { schedule = schedule }), {}
    support.party(b, "hasty", log, 0)
    local patient = support.party(b, "patient", log)
    run_loop()
    assert.are.same({ 1, {} }, { n_scheduled, log })
    assert.is_true(b:cancel(patient))
    run_queue(10)
    assert.are.equal(2, #log)
  end)

  it("reports what a party raises as the error of the call", function()
    local b, log = barrier.new(2, { schedule = schedule }), {}
    b:wait(function()
      error("of the party", 0)
    end)
    b:wait(listener(log, "other"))
    local ok, err = pcall(run_queue, 10)
    assert.is_false(ok)
    assert.is_truthy(err:find("of the party", 1, true), err)
    run_queue(10)
    assert.are.same({ "other 1" }, log)
  end)
end)
