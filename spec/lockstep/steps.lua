---What a step of a script does: `steps[kind](run, step, thread)` does it to the barriers, and notes
---what that gives. `thread` is the coroutine it is done in, if that may wait.
local support = require "spec.support"

local steps = {}

local DEEPEST = 5 -- how many loops may run inside each other
local MANY = 1000 -- parties of a barrier: more, and the ended ones are forgotten

---{=== coming

local function waiting(parties)
  local list = {}
  for _, party in ipairs(parties) do
    if not party.ended then
      list[#list + 1] = party
    end
  end
  return list
end

local function new_party(run, step, slot, watches)
  run.parties = run.parties + 1
  local party = { id = run.parties, kind = step.style, slot = slot, watches = watches,
    inner = step.inner, dies = step.dies, rethrows = step.rethrows, timeout = step.timeout }
  table.insert(slot.parties, party)
  if #slot.parties > MANY then
    slot.parties = waiting(slot.parties)
  end
  return party
end

local function come(run, step, thread, watches)
  for _ = 1, step.count do
    local party = new_party(run, step, run.slots[step.barrier], watches)
    if step.style == "callback" then
      run:wait_with_callback(party)
    else
      if step.style == "coroutine" and not support.pcall_yields then
        party.kind = "bare"
      end
      run:wait_in_coroutine(party, step.again and thread or nil)
    end
    if run.over then
      return
    end
  end
end

function steps.wait(run, step, thread)
  come(run, step, thread)
end

function steps.await_trip(run, step, thread)
  come(run, step, thread, true)
end

---Without the place in this file.
local function words(err)
  return (tostring(err):gsub("^[^%s:]*:%d+: ", ""))
end

---Notes what a method gives. A bad argument is an error in words, and changes nothing.
local function call(run, slot, name, ...)
  local method = slot.real[name]
  local results = { pcall(method, slot.real, ...) }
  if not results[1] and type(results[2]) ~= "string" then
    run:fail("%s raised a %s", name, type(results[2]))
  end
  local err = results[3] ~= nil and run:error_of(slot, results[3])
    or not results[1] and words(results[2])
  run:note("%s at barrier %d: %s %s", name, slot.number, tostring(results[2] == true),
    tostring(err))
end

---How many parties have yet to arrive, or 1 if all have: then the number is too high.
local function missing(slot)
  local b = slot.real
  return math.max(b.parties - (slot.acting > 0 and 0 or b.n_arrived), 1)
end

local MOST_BLOCKED = 10000 -- arrivals at once, each of which may need a turn

---The number of the step says by chance that all arrive that are missing.
function steps.arrive(run, step)
  for _ = 1, step.count do
    local slot = run.slots[step.barrier]
    local n = step.number % 8 == 0 and missing(slot) or step.n
    if n and n > MOST_BLOCKED and (slot.acting > 0 or slot.real.state ~= "filling") then
      n = MOST_BLOCKED
    end
    call(run, slot, "arrive", n)
    if run.over then
      return
    end
  end
end

---}=== {=== how many parties

function steps.register(run, step)
  call(run, run.slots[step.barrier], "register", step.n)
end

---By chance, the step's number says that all parties leave that have yet to arrive.
function steps.deregister(run, step)
  local slot = run.slots[step.barrier]
  call(run, slot, "deregister", step.number % 4 == 0 and missing(slot) or step.n)
end

---}=== {=== leaving early

---True for a coroutine that is suspended in its wait.
local function is_suspended(party)
  return not party.ended and coroutine.status(party.waiter) == "suspended"
end

---The parties to choose from: while the action runs, by chance, only the last that has come.
local function candidates(slot, number)
  return slot.acting > 0 and number % 3 == 0 and { slot.parties[#slot.parties] } or slot.parties
end

---A party of this barrier, or nil: one that waits in a callback, or a coroutine. It may have
---left long ago, unless it has to be a suspended coroutine.
local function pick(run, step, callback, suspended)
  local list = candidates(run.slots[step.barrier], step.number)
  for i = 0, math.min(#list, 30) - 1 do
    local party = list[(step.number + i) % #list + 1]
    local thread = party.thread
    if party.waiter and (thread == nil) == callback and (not thread or thread.party == party)
      and (not suspended or is_suspended(party)) then
      return party
    end
  end
end

local function close_coroutine(run, step)
  local party = pick(run, step, false, true)
  if party then
    party.ended = true
    if not coroutine.close(party.waiter) then
      run:fail("coroutine.close failed")
    end
  end
end

local function close_waiter(run, step)
  local party = pick(run, step, true)
  if not party then
    return
  end
  local on_close
  if step.number % 2 == 0 then
    run.parties = run.parties + 1
    on_close = { id = run.parties, kind = "callback", inner = step.inner, dies = step.dies }
  end
  party.ended = true
  party.waiter:close(on_close and function(...)
    if select("#", ...) > 0 then
      run:fail("on_close got arguments")
    end
    run:ended(on_close, "closed")
  end)
  if not party.waiter:is_closing() then
    run:fail("a closed Waiter is not closing")
  end
end

---waiter:close(), or coroutine.close where there is one.
function steps.close(run, step)
  if coroutine.close and step.style ~= "callback" then
    close_coroutine(run, step)
  else
    close_waiter(run, step)
  end
end

---A stranger resumes a coroutine, which stays suspended.
function steps.disturb(run, step)
  local party = pick(run, step, false, true)
  if party then
    run:resume(party.thread, "values", 1)
    if not is_suspended(party) then
      run:fail("a stranger has resumed party %d", party.id)
    end
  end
end

function steps.cancel(run, step)
  local party = pick(run, step, false)
  if party then
    local slot = run.slots[step.barrier]
    run:note("cancel of party %d: %s", party.id, tostring(slot.real:cancel(party.waiter)))
  end
end

local REASONS = { "why", false, 7 }

function steps.abort(run, step)
  run.slots[step.barrier].real:abort(REASONS[step.number % 4])
end

function steps.reset(run, step)
  run.slots[step.barrier].real:reset()
end

---}=== {=== the loop, and drain()

---Runs the loop, also inside a coroutine or callback that it has called itself.
function steps.turn(run, step)
  if run.depth < DEEPEST then
    run:run_loop(step.number % 4 == 0)
  end
end

---User code takes long, and may tell the loop. Not in a turn: whether a turn notices the timeouts
---that pass while it runs is left open.
function steps.sleep(run, step)
  if run.depth == 0 then
    run.uv.sleep(step.number % 12)
  end
  if step.number % 2 == 0 then
    run.uv.update_time()
  end
end

---Calls a drain() that was kept for later.
function steps.drain(run, step)
  local list = run.slots[step.barrier].drains
  local entry = list[step.number % math.max(#list, 1) + 1]
  if entry then
    run:drain(entry)
  end
end

local HARM = { "close", "stop", "unref", "barrier.close" }

---Closes, stops or unrefs all handles of the loop, or has the module close its own. A trip of any
---barrier starts the timer again.
function steps.vandal(run, step)
  local harm = HARM[step.number % #HARM + 1]
  if harm == "barrier.close" then
    run.barrier.close()
  else
    run.uv.walk(harm)
  end
  local slot = run:new_slot { parties = 1 }
  run.parties = run.parties + 1
  run:wait_with_callback { id = run.parties, kind = "callback", slot = slot, inner = {} }
end

---}=== {=== garbage, and what changes nothing

---The last reference to a barrier is gone; another takes its place.
function steps.drop(run, step)
  local slot = run.slots[step.barrier]
  run.slots[step.barrier] = run:new_slot(slot.spec)
  run:forget(slot)
  if step.number % 2 == 0 then
    slot.drains = {}
  end
end

---Not each time: it takes long.
function steps.collect(run, step, thread)
  if step.number % 3 == 0 then
    run:collect(not thread and run.acting + run.depth == 0)
  end
end

function steps.stuck(run)
  run:look_at_stuck()
end

---Calls f where it cannot yield.
local function unyieldable(f, ...)
  local n, args, results = select("#", ...), { ... }, nil
  coroutine.wrap(function()
    string.gsub("x", "x", function()
      results = { pcall(f, (unpack or table.unpack)(args, 1, n)) }
    end)
  end)()
  if not results[1] then
    error(results[2], 0)
  end
end

local function assign(b)
  b.parties = 3
end

---Each is an error, and changes nothing.
local REFUSED = {
  function(b) unyieldable(b.wait, b) end,
  function(b) unyieldable(b.wait, b, 3) end,
  function(b) unyieldable(b.await_trip, b) end,
  function(b) b:wait(-1, print) end,
  function(b) b:wait(1.5, print) end,
  function(b) b:wait(3, "callback") end,
  function(b) b:await_trip(-1, print) end,
  function(b) b:await_trip(3, "callback") end,
  function(b) b:with(nil) end,
  function(b) b:cancel("coroutine") end,
  function(b) b:register("many") end,
  function(b) b:deregister("many") end,
  assign,
  function(b) b:wait(3, print, 3) end,
  function(b) b:await_trip(nil, print, false) end,
  function(b) b:arrive(1, 1) end,
  function(b) b:register(1, 1) end,
  function(b) b:reset(1) end,
  function(b) b:abort("why", "why") end,
  function(b) b:waiters(1) end,
  function(_, barrier) barrier.new(2, {}, 1) end,
  function(_, barrier) barrier.new(0) end,
  function(_, barrier) barrier.new(2, { acton = print }) end,
  function(_, barrier) barrier.new(2, { timeout = -1 }) end,
}

function steps.refused(run, step)
  local which = step.number % #REFUSED + 1
  local slot = run.slots[step.barrier]
  local ok, err = pcall(REFUSED[which], slot.real, run.barrier)
  run:note("wrong use %d: %s %s", which, tostring(ok), words(err))
end

---}===

return steps
