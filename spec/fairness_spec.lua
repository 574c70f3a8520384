local support = require "spec.support"

-- Each child runs a 1 ms timer and a TCP echo on loopback beside something that never ends.
-- It exits when both have had their turns. If they starve, it is killed.
local PRELUDE = [[
  local ticks, echoes = 0, 0
  local function check()
    if ticks >= 20 and echoes >= 20 then
      print "alive"
      os.exit(0, false)
    end
  end
  local timer = uv.new_timer()
  timer:start(1, 1, function() ticks = ticks + 1 check() end)
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  server:listen(8, function()
    local peer = uv.new_tcp()
    server:accept(peer)
    peer:read_start(function(_, data) if data then peer:write(data) end end)
  end)
  local client = uv.new_tcp()
  client:connect("127.0.0.1", server:getsockname().port, function()
    client:read_start(function()
      echoes = echoes + 1
      check()
      client:write "x"
    end)
    client:write "x"
  end)
]]

local function leaves_others_alive(code)
  local result = support.chunk(PRELUDE .. code .. "\nuv.run()")
  assert.are.equal("alive\n", result.out, result.err)
end

describe("timers and I/O of the same loop are not starved by", function()
  it("coroutines that trip a barrier for ever", function()
    leaves_others_alive [[
      local b = barrier.new(3)
      for _ = 1, 3 do coroutine.wrap(function() while true do b:wait() end end)() end
    ]]
  end)

  it("coroutines that trip many barriers for ever", function()
    leaves_others_alive [[
      for _ = 1, 50 do
        local b = barrier.new(2)
        for _ = 1, 2 do coroutine.wrap(function() while true do b:wait() end end)() end
      end
    ]]
  end)

  it("waits with timeout 0 for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      local function again() b:wait(0, again) end
      again()
    ]]
  end)

  it("callbacks that wait on a broken barrier for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      b:abort()
      local function again() b:wait(again) end
      again()
    ]]
  end)

  it("resets for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      local function again() b:wait(again) b:reset() end
      again()
    ]]
  end)

  support.it_catches("coroutines that wait on a broken barrier for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      b:abort()
      coroutine.wrap(function() while true do pcall(b.wait, b) end end)()
    ]]
  end)

  support.it_catches("coroutines whose action fails for ever", function()
    leaves_others_alive [[
      local b = barrier.new(1, { action = function(self) self:reset() end })
      coroutine.wrap(function() while true do pcall(b.wait, b) end end)()
    ]]
  end)

  support.it_catches("coroutines that other code resumes for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      local x
      x = coroutine.create(function()
        while true do
          local own = b:wait(function() coroutine.resume(x) end)
          b:reset()
          pcall(b.wait, b)
          own:close()
        end
      end)
      coroutine.resume(x)
    ]]
  end)

  it("watchers and arrivals that trip a barrier for ever", function()
    leaves_others_alive [[
      local b = barrier.new(1)
      local function again() b:await_trip(again) b:arrive() end
      again()
    ]]
  end)

  it("blocked arrivals that trip the barrier for ever", function()
    leaves_others_alive [[
      local b = barrier.new(1, { action = function(self) self:arrive() end })
      b:arrive()
    ]]
  end)

  it("phases that time out for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2, { timeout = 0 })
      local function again() b:reset() b:wait(again) end
      again()
    ]]
  end)

  it("a schedule that makes its barrier ready again for ever", function()
    for _, code in ipairs {
      "b:reset()", "b:wait(function() end):close(function() end)", "b:reset() b:abort()",
      "b:reset() b:abort() b:wait(function() end)", "b:reset() b:await_trip(print) b:reset()",
    } do
      leaves_others_alive([[
        local b
        b = barrier.new(2, { schedule = function(drain) ]] .. code .. [[ end })
        for _ = 1, 2 do b:wait(function() end) end
      ]])
    end
  end)

  it("a schedule that hands over and drains in the next turn for ever", function()
    leaves_others_alive [[
      local drains = {}
      local b = barrier.new(1, { schedule = function(drain) drains[1] = drain end })
      local other = barrier.new(1, { schedule = function(drain) drain() drains[1]() end })
      local function again() b:wait(again) other:wait(function() end) end
      again()
    ]]
  end)

  it("cancels for ever", function()
    leaves_others_alive [[
      local b = barrier.new(2)
      local function again() b:wait(function() end):close(again) end
      again()
    ]]
  end)

  it("more parties than a barrier takes, some always blocked", function()
    leaves_others_alive [[
      local b = barrier.new(3)
      for _ = 1, 8 do coroutine.wrap(function() while true do b:wait() end end)() end
    ]]
  end)

  it("very many parties of one barrier", function()
    leaves_others_alive [[
      local b = barrier.new(2000)
      for _ = 1, 2000 do coroutine.wrap(function() while true do b:wait() end end)() end
    ]]
  end)

  it("trips of a barrier whose schedule drains at once", function()
    leaves_others_alive [[
      local b = barrier.new(2, { schedule = function(drain) drain() end })
      for _ = 1, 2 do coroutine.wrap(function() while true do b:wait() end end)() end
    ]]
  end)

  it("trips after other code has closed all of our handles", function()
    leaves_others_alive [[
      local mine = {}
      uv.walk(function(handle) mine[tostring(handle)] = true end)
      -- In a callback, since luv 1.50 and 1.51 cannot walk in a coroutine.
      local function close_all()
        uv.walk(function(handle)
          if not mine[tostring(handle)] and uv.handle_get_type(handle) ~= "tcp" then
            handle:close()
          end
        end)
      end
      local b, trips = barrier.new(2), 0
      for _ = 1, 2 do
        coroutine.wrap(function()
          while true do
            b:wait()
            trips = trips + 1
            if trips == 5000 then
              uv.new_timer():start(0, 0, close_all)
            end
          end
        end)()
      end
    ]]
  end)
end)

describe("timeouts that pass together", function()
  -- Prints how many callbacks there were in all, and the most in one pass of the loop.
  local COUNTER = [[
    local total, pass, most, passes = 0, 0, 0, uv.new_idle()
    passes:start(function() pass = 0 end)
    uv.unref(passes)
    local function count()
      total, pass = total + 1, pass + 1
      most = math.max(most, pass)
    end
    local function finish()
      local till = uv.hrtime() + 5e6
      repeat until uv.hrtime() > till
      uv.run()
      print(total, most)
    end
  ]]

  it("leave the loop its turn after 512, those of waits", function()
    assert.are.equal("2000\t512\n", support.output_of(COUNTER .. [[
      local b = barrier.new(3000)
      for _ = 1, 2000 do b:wait(1, count) end
      finish()
    ]]))
  end)

  it("leave the loop its turn after 512, those of phases", function()
    assert.are.equal("2000\t512\n", support.output_of(COUNTER .. [[
      local list = {}
      for i = 1, 2000 do
        list[i] = barrier.new(2, { timeout = 1 })
        list[i]:wait(count)
      end
      finish()
    ]]))
  end)

  it("leave the loop its turn after 512, also where no party is let out", function()
    assert.are.equal("512\n", support.output_of [[
      local b = barrier.new(3000, { schedule = function() end })
      for _ = 1, 2000 do b:wait(1, function() end) end
      local before, most, passes = b.n_waiting, 0, uv.new_idle()
      passes:start(function()
        most, before = math.max(most, before - b.n_waiting), b.n_waiting
      end)
      uv.unref(passes)
      local till = uv.hrtime() + 5e6
      repeat until uv.hrtime() > till
      uv.run()
      print(most)
    ]])
  end)

  it("pass in order, and none is lost", function()
    assert.are.equal("0\n", support.output_of [[
      local b, last, wrong = barrier.new(3000), 0, 0
      for i = 1, 1500 do
        b:wait(1, function(err)
          if err.name ~= "TimeoutError" or i ~= last + 1 then wrong = wrong + 1 end
          last = i
        end)
      end
      uv.run()
      print(wrong + 1500 - last + b.n_waiting)
    ]])
  end)
end)

describe("a trip after one of more than 512 parties", function()
  local code = [[
    local pass, passes, waited = 0, uv.new_idle(), {}
    passes:start(function() pass = pass + 1 end)
    uv.unref(passes)
    local function trip()
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        timer:close()
        local from = pass
        barrier.new(1):wait(function() waited[#waited + 1] = pass - from end)
      end)
      uv.run()
    end
    trip()
    local crowd = barrier.new(600)
    for _ = 1, 600 do crowd:wait(function() end) end
    uv.run()
    trip()
    print(waited[2] - waited[1])
  ]]

  support.it_polls("is served in the pass of the loop in which it would be otherwise", function()
    assert.are.equal("0\n", support.output_of(code))
  end)
end)
