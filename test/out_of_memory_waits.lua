-- Sections of out_of_memory.lua: waits of all kinds, and what ends them.
local t, sections = ...

local uv, new, check, co, add, wait = t.uv, t.new, t.check, t.co, t.add, t.wait
local run, patient, equal, joined = t.run, t.patient, t.equal, t.joined

function sections.coroutines()
  local b, log = new(3), {}
  for _ = 1, 2 do
    for _ = 1, 3 do co(wait, b, log) end
    run()
  end
  equal(table.concat(log, " "), "2 0 1 2 0 1")
  equal(b.generation, 2)
  equal(tostring(b):match "%[.*", "[filling, waiters:0/3]>")
end

function sections.growth()
  local b, log = new(300), {}
  for _ = 1, 299 do co(wait, b, log) end
  equal(#b:waiters(), 299)
  equal(b:wait(function(_, position) log[#log + 1] = position end) ~= nil, true)
  for _ = 1, 20 do co(wait, b, log) end
  run()
  equal(#log, 300)
  equal(b.n_waiting, 20)
  b:reset()
  run "barrier reset"
  b:deregister(298)
  for _ = 1, 3 do -- the memory of the crowd is given back meanwhile
    b:wait(function() end)
    b:wait(function() end)
    run()
  end
  equal(b.generation, 4)
end

function sections.callbacks()
  local b, log = new(2), {}
  local function callback(e, position) log[#log + 1] = e and tostring(e) or position end
  b:wait(callback)
  local w = b:wait(1000, callback)
  equal(tostring(w):match "%[.*", "[waiting]>")
  local late = b:wait(callback)
  late:close(function() log[#log + 1] = "closed" end)
  late:close()
  run()
  equal(tostring(w):match "%[.*", "[done]>")
  b:abort("why")
  b:wait(callback)
  run()
  equal(table.concat(log, " "), "closed 0 1 BrokenBarrierError: barrier aborted: why")
end

function sections.timeouts()
  local b, log = new(20), {}
  for i = 1, 15 do
    patient(b, log, 10 * i)
  end
  b:wait(5, function(e) log[#log + 1] = e.name end)
  patient(b, log, 0)
  run()
  equal(#log, 17)
  equal(b.n_waiting, 0)
  b = new(2)
  local before = uv.now()
  co(wait, b, log, 1000)
  co(wait, b, log, 1000)
  run()
  equal(#log, 19)
  equal(uv.now() - before < 1000, true) -- nothing keeps the loop alive
end

function sections.late_clock()
  local b, log = new(3), {}
  b:wait(30, function(e) add(log, e.message) end)
  uv.sleep(20)
  b:wait(15, function(e) add(log, e.message) end)
  run()
  equal(joined(log), "wait timed out after 30 ms, 2 of 3 had arrived, "
    .. "wait timed out after 15 ms, 1 of 3 had arrived")
  log = {}
  local function callback(e, position) add(log, e and e.message or position) end
  for timeout = 1, 4 do b:wait(timeout, callback) end
  uv.sleep(20) -- too late for those who have passed
  run()
  equal(joined(log), "wait timed out after 4 ms while the barrier was draining, 0, 1, 2")
end

function sections.blocked()
  local b, log = new(2), {}
  for _ = 1, 7 do co(wait, b, log) end
  equal(b.state, "draining")
  equal(#b:waiters(), 6)
  run()
  equal(table.concat(log, " "), "1 0 0 1 0 1")
  b:abort()
  run "barrier aborted"
end

function sections.arrivals()
  local b, log = new(4), {}
  check(b:arrive())
  co(wait, b, log)
  b:wait(function(_, position) add(log, position) end)
  equal(tostring(b):match "%[.*", "[filling, waiters:2/4, arrived:3]>")
  check(b:arrive())
  for _ = 1, 9 do check(b:arrive()) end
  co(wait, b, log)
  check(b:arrive())
  equal(b.state, "draining")
  run()
  equal(joined(log), "0, 1")
  equal(b.generation, 3)
  equal(b.n_arrived, 3)
  b:abort "why"
  equal(t.failed(b:arrive()), "BrokenBarrierError: barrier aborted: why")
  run "barrier aborted: why"
  b:reset()
  equal(b.n_arrived, 0)
  for _ = 1, 4 do check(b:arrive()) end
  for _ = 1, 5 do b:wait(function(_, position) add(log, position) end) end
  check(b:arrive())
  b:abort()
  run()
  equal(b.generation, 5)
end

function sections.parties()
  local b, log = new(2), {}
  local function callback(e, position) add(log, e and tostring(e) or position) end
  b:register()
  b:register(2)
  co(wait, b, log)
  b:wait(callback)
  check(b:arrive())
  check(b:deregister())
  equal(b.generation, 0)
  check(b:deregister())
  equal(b.generation, 1)
  check(b:deregister(3))
  run()
  equal(b.parties, 0)
  check(b:arrive())
  co(wait, b, log)
  b:wait(callback)
  run()
  equal(joined(log), "0, 1, 0, 0")
  equal(b.generation, 4)
  b:register(2)
  b:abort()
  equal(t.failed(b:deregister()), "BrokenBarrierError: barrier aborted")
  equal(b.parties, 1)
end

function sections.watching()
  local b, log = new(2), {}
  local function callback(e, generation) add(log, e and tostring(e) or "trip " .. generation) end
  local function watch(...) add(log, "trip " .. b:await_trip(...)) end
  co(watch)
  b:await_trip(callback)
  b:await_trip(1000, callback)
  co(watch, 1000)
  b:await_trip(10, callback):close()
  for _ = 1, 2 do co(wait, b, {}) end
  run()
  equal(joined(log), "trip 1, trip 1, trip 1, trip 1")
  log = {}
  b:await_trip(5, callback)
  patient(b, log, 5, "await_trip")
  check(b:arrive())
  run()
  local text = "TimeoutError: wait timed out after 5 ms, 1 of 2 had arrived"
  equal(joined(log), text .. ", " .. text)
  log = {}
  patient(b, log, nil, "await_trip")
  check(b:arrive())
  b:await_trip(callback)
  b:reset()
  run()
  equal(joined(log), "BrokenBarrierError: barrier reset, BrokenBarrierError: barrier reset")
end

function sections.phases()
  local b, log = new(3, { timeout = 50 }), {}
  local function callback(e) add(log, tostring(e)) end
  b:wait(callback)
  patient(b, log)
  run()
  local text = "BrokenBarrierError: barrier aborted: timed out after 50 ms, 2 of 3 had arrived"
  equal(joined(log), text .. ", " .. text)
  b:reset()
  check(b:arrive())
  run()
  equal(b.broken, true)
  b:reset()
  b:wait(callback):close()
  run()
  equal(b.broken, false)
  for _ = 1, 4 do b:wait(callback) end
  run()
  equal(log[6], "BrokenBarrierError: barrier aborted: timed out after 50 ms, 1 of 3 had arrived")
  b:reset()
  for _ = 1, 3 do check(b:arrive()) end
  run()
  equal(b.broken, false)
end

function sections.cancel()
  local b, log = new(3), {}
  local c = patient(b, log, 100)
  if type(c) == "thread" then
    equal(b:cancel(c), true)
    equal(b:cancel(c), false)
    run()
    equal(log[1], "CancelledError: wait cancelled")
  else
    c:close()
  end
  equal(b:cancel(co(wait, b, log)), true)
  run()
  c = co(function() b:await_trip() end)
  equal(b:cancel(c), true)
  run()
  if coroutine.close then
    for _, method in ipairs { b.wait, b.await_trip } do
      check(coroutine.close(co(method, b, 100)))
    end
  end
  equal(b.n_waiting, 0)
  run()
end

function sections.disturbed()
  local b, log = new(3), {}
  for _, method in ipairs { b.wait, b.await_trip } do
    local c = co(method, b, 100)
    for _ = 1, 2 do
      local ok, value = coroutine.resume(c, 1, 2)
      check(ok, value)
      equal(value, nil)
      equal(coroutine.status(c), "suspended")
    end
    run "wait cancelled: resumed by somebody else"
  end
  local c = co(wait, b, log)
  equal(b:cancel(c), true)
  check(coroutine.resume(c))
  run()
  c = patient(b, log)
  if type(c) == "thread" then
    check(coroutine.resume(c))
    equal(#b:waiters(), 1)
    equal(b:cancel(c), false)
    run()
    equal(joined(log), "CancelledError: wait cancelled: resumed by somebody else")
  end
end

function sections.broken_from_the_loop()
  local b, log = new(2), {}
  b:abort "one"
  local c = patient(b, log)
  patient(b, log, 0, "await_trip")
  if type(c) == "thread" then
    equal(b:cancel(c), false)
    check(coroutine.resume(c))
  end
  equal(#b:waiters(), 0)
  b:reset()
  b:abort "two"
  run()
  local text = "BrokenBarrierError: barrier aborted: one"
  equal(joined(log), text .. ", " .. text)
  co(wait, b, log)
  run "barrier aborted: two"
  if coroutine.close then check(coroutine.close(co(wait, b, log))) end
  run()
  equal(#log, 2)
end

function sections.abort_and_reset()
  local b, log = new(3), {}
  patient(b, log)
  b:wait(function(e) log[#log + 1] = tostring(e) end)
  b:abort({})
  equal(tostring(b):match "%[.*", "[broken]>")
  patient(b, log)
  run()
  b:reset()
  patient(b, log)
  b:reset()
  equal(b.state, "resetting")
  co(wait, b, log)
  run()
  equal(#log, 4)
  equal(b.n_waiting, 1)
end

function sections.with()
  local b, log = new(2), {}
  for _ = 1, 2 do
    co(function() add(log, (b:with(function(position) return position end))) end)
  end
  run()
  equal(table.concat(log, " "), "1 0")
end
