local uv = require "luv"
local barrier = require "barrier"
local support = require "spec.support"

local co, party, run_loop = support.co, support.party, support.run_loop
local listener = support.listener

describe("a trip", function()
  it("lets all parties through with positions 0 to parties-1, the last arrival at once", function()
    local b, log = barrier.new(3), {}
    for i = 1, 3 do
      party(b, "p" .. i, log)
    end
    assert.are.same({ "p3 2" }, log)
    run_loop()
    assert.are.same({ "p3 2", "p1 0", "p2 1" }, log)
  end)

  it("goes from filling to draining to filling", function()
    local b = barrier.new(2)
    local seen = {}
    co(function()
      b:wait()
      table.insert(seen, b.state)
    end)
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.n_waiting)
    co(function()
      b:wait()
      table.insert(seen, b.state)
    end)
    assert.are.equal("draining", b.state)
    assert.are.equal(0, b.n_waiting)
    run_loop()
    assert.are.same({ "draining", "filling" }, seen)
    assert.are.equal("filling", b.state)
    assert.are.equal(0, b.n_waiting)
    assert.are.same({}, b:waiters())
  end)

  it("counts as one generation", function()
    local b, log = barrier.new(2), {}
    assert.are.equal(0, b.generation)
    party(b, "a", log)
    assert.are.equal(0, b.generation)
    party(b, "b", log)
    assert.are.equal(1, b.generation)
    run_loop()
    assert.are.equal(1, b.generation)
  end)

  it("is draining for all but the last to leave", function()
    local b, states = barrier.new(5), {}
    for _ = 1, 5 do
      co(function()
        b:wait()
        table.insert(states, b.state .. " " .. b.n_waiting .. " " .. #b:waiters())
      end)
    end
    run_loop()
    assert.are.same({
      "draining 0 4", "draining 0 3", "draining 0 2", "draining 0 1", "filling 0 0",
    }, states)
  end)

  it("of a barrier for one party never suspends", function()
    local b = barrier.new(1)
    local positions = {}
    local alone = co(function()
      positions[1] = b:wait()
      positions[2] = b:wait()
    end)
    assert.are.equal("dead", coroutine.status(alone))
    assert.are.same({ 0, 0 }, positions)
    assert.are.equal("filling", b.state)
    assert.are.equal(2, b.generation)
    run_loop()
    assert.are.equal("filling", b.state)
  end)

  it("yields no values to the code that resumed the coroutine", function()
    local b = barrier.new(2)
    local waiting = coroutine.create(function(...)
      return b:wait(...)
    end)
    assert.are.equal(1, select("#", coroutine.resume(waiting)))
    assert.are.equal("suspended", coroutine.status(waiting))
    co(function()
      b:wait()
    end)
    run_loop()
    assert.are.equal("dead", coroutine.status(waiting))
  end)

  it("gives wait one result, an integer", function()
    local b, counts, types = barrier.new(2), {}, {}
    local function keep(...)
      table.insert(counts, select("#", ...))
      table.insert(types, (math.type or type)(...))
    end
    for _ = 1, 2 do
      co(function()
        keep(b:wait())
      end)
    end
    run_loop()
    local integer = math.type and "integer" or "number"
    assert.are.same({ 1, 1 }, counts)
    assert.are.same({ integer, integer }, types)
  end)

  it("resumes the waiters from the loop, not from the last arrival", function()
    local b, inside, log = barrier.new(3), false, {}
    for i = 1, 2 do
      co(function()
        b:wait()
        table.insert(log, i .. " " .. tostring(inside))
      end)
    end
    co(function()
      inside = true
      b:wait()
      coroutine.yield()
    end)
    inside = false
    assert.are.same({}, log)
    run_loop()
    assert.are.same({ "1 false", "2 false" }, log)
  end)

  it("resumes all parties in one turn of the loop", function()
    local b, order = barrier.new(4), {}
    local timer = uv.new_timer()
    for i = 1, 4 do
      co(function()
        b:wait()
        table.insert(order, i)
        if i == 1 then
          timer:start(0, 0, function()
            table.insert(order, "timer")
            timer:close()
          end)
        end
      end)
    end
    run_loop()
    assert.are.same({ 4, 1, 2, 3, "timer" }, order)
  end)

  it("resumes coroutines and calls callbacks alike in order of arrival", function()
    local b, log = barrier.new(6), {}
    b:wait(listener(log, "callback 1"))
    party(b, "coroutine 2", log)
    b:wait(listener(log, "callback 3"))
    b:wait(listener(log, "callback 4"))
    party(b, "coroutine 5", log)
    b:wait(listener(log, "callback 6"))
    assert.are.same({}, log)
    run_loop()
    assert.are.same({
      "callback 1 0", "coroutine 2 1", "callback 3 2", "callback 4 3", "coroutine 5 4",
      "callback 6 5",
    }, log)
  end)

  it("keeps the order of arrival whichever party has left before", function()
    local b, log, waiters = barrier.new(6), {}, {}
    for i = 1, 5 do
      waiters[i] = b:wait(listener(log, "early " .. i))
    end
    for _, i in ipairs { 4, 1, 2 } do
      waiters[i]:close()
    end
    local expected = { waiters[3], waiters[5] }
    for i = 1, 3 do
      table.insert(expected, b:wait(listener(log, "late " .. i)))
    end
    local listed = b:waiters()
    assert.are.equal(5, #listed)
    for i = 1, 5 do
      assert.is_true(rawequal(expected[i], listed[i]))
    end
    b:wait(listener(log, "last"))
    run_loop()
    assert.are.same({
      "early 3 0", "early 5 1", "late 1 2", "late 2 3", "late 3 4", "last 5",
    }, log)
  end)

  it("needs one timer, whatever the number of barriers", function()
    local result = support.chunk [[
      for i = 1, 20 do
        local b = barrier.new(2)
        for party = 1, 2 do
          coroutine.wrap(function() b:wait() end)()
        end
      end
      local active = {}
      uv.walk(function(handle)
        if uv.is_active(handle) then active[#active + 1] = uv.handle_get_type(handle) end
      end)
      print(table.concat(active, " "))
      uv.run()
      active = 0
      uv.walk(function(handle) if uv.is_active(handle) then active = active + 1 end end)
      print(active)
    ]]
    assert.are.equal("", result.err)
    assert.are.equal("timer\n0\n", result.out)
  end)

  it("of several barriers lets them out in the order in which they tripped", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    party(a, "a", log)
    party(b, "b", log)
    party(b, "b", log)
    party(a, "a", log)
    run_loop()
    assert.are.same({ "b 1", "a 1", "b 0", "a 0" }, log)
  end)

  it("can be followed by others for ever", function()
    local b, rounds = barrier.new(3), 0
    for _ = 1, 3 do
      co(function()
        for _ = 1, 1000 do
          b:wait()
        end
        rounds = rounds + 1
      end)
    end
    run_loop()
    assert.are.equal(3, rounds)
    assert.are.equal(1000, b.generation)
  end)

  it("leaves a coroutine free to wait at another barrier, and to come back", function()
    local a, b, log = barrier.new(2), barrier.new(2), {}
    for i = 1, 2 do
      co(function()
        for _ = 1, 3 do
          a:wait()
          b:wait()
        end
        table.insert(log, i)
      end)
    end
    run_loop()
    assert.are.equal(2, #log)
    assert.are.equal(3, a.generation)
    assert.are.equal(3, b.generation)
  end)

  it("serves many parties in order of arrival", function()
    local b, order = barrier.new(20000), {}
    for i = 1, 20000 do
      co(function()
        local position = b:wait()
        if position ~= i - 1 then
          error("wrong position")
        end
        table.insert(order, i)
      end)
    end
    run_loop()
    assert.are.equal(20000, table.remove(order, 1))
    for i = 1, 19999 do
      if order[i] ~= i then
        assert.are.equal(i, order[i])
      end
    end
    assert.are.equal(19999, #order)
    assert.are.same({}, b:waiters())
  end)
end)

describe("the positions of a trip", function()
  it("are different for each party of each trip", function()
    local b, seen = barrier.new(7), {}
    for i = 1, 7 do
      co(function()
        for trip = 1, 20 do
          local position = b:wait()
          seen[trip] = seen[trip] or {}
          assert(not seen[trip][position])
          seen[trip][position] = i
        end
      end)
    end
    run_loop()
    for trip = 1, 20 do
      for position = 0, 6 do
        assert.is_truthy(seen[trip][position])
      end
    end
  end)

  it("have no gaps or duplicates after a party has left", function()
    local b, log = barrier.new(4), {}
    local nobody = function() end
    local first = b:wait(nobody)
    b:wait(listener(log, "a"))
    local middle = b:wait(nobody)
    first:close()
    middle:close()
    b:wait(listener(log, "b"))
    b:wait(listener(log, "c"))
    assert.are.equal(3, b.n_waiting)
    b:wait(listener(log, "d"))
    run_loop()
    assert.are.same({ "a 0", "b 1", "c 2", "d 3" }, log)
  end)

  it("stay as they were given when a party leaves after the trip", function()
    local orders = { { 2, 3, 4 }, { 4, 3, 2 }, { 2, 4, 3 }, { 3, 2, 4 }, { 3, 4, 2 } }
    local b = barrier.new(7)
    for _, order in ipairs(orders) do
      local log, waiters = {}, {}
      for i = 1, 7 do
        waiters[i] = b:wait(listener(log, "p" .. i))
      end
      assert.are.equal("draining", b.state)
      for _, i in ipairs(order) do
        waiters[i]:close()
      end
      waiters[7]:close()
      run_loop()
      assert.are.same({ "p1 0", "p5 4", "p6 5" }, log)
    end
    local log = {}
    b:wait(listener(log, "p1")):close()
    for i = 1, 7 do
      b:wait(listener(log, "p" .. i))
    end
    run_loop()
    assert.are.same({ "p1 0", "p2 1", "p3 2", "p4 3", "p5 4", "p6 5", "p7 6" }, log)
  end)

  it("stay as they were given when the first to leave takes others with it", function()
    local b, log, waiters = barrier.new(5), {}, {}
    for i = 1, 5 do
      waiters[i] = b:wait(function(err, position)
        listener(log, "p" .. i)(err, position)
        if i == 1 then
          waiters[2]:close()
          waiters[4]:close()
        end
      end)
    end
    run_loop()
    assert.are.same({ "p1 0", "p3 2", "p5 4" }, log)
  end)

  it("start from 0 again after all parties still inside have left early", function()
    local b, log = barrier.new(2), {}
    local one, two = b:wait(listener(log, "a")), b:wait(listener(log, "b"))
    one:close()
    two:close()
    assert.are.equal("filling", b.state)
    assert.are.equal(1, b.generation)
    b:wait(listener(log, "c"))
    b:wait(listener(log, "d"))
    run_loop()
    assert.are.same({ "c 0", "d 1" }, log)
  end)
end)
