---How the parties of a script wait: methods of lockstep.Run.

---@class lockstep.Run
local Run = {}

function Run:boom()
  self.booms = self.booms + 1
  return "boom " .. self.booms
end

---A wait has ended. Then the party does what its script says. `thread` is where it may wait again.
function Run:ended(party, outcome, thread, err)
  if party.ended then
    self:fail("the wait of party %d ends twice", party.id)
  end
  party.ended = true
  self:note("party %d: %s", party.id, outcome)
  self:compare()
  self:steps(party.inner, thread)
  if self.over then
    return
  elseif party.dies then
    error(self:boom(), 0)
  elseif party.rethrows and err ~= nil then
    error(err, 0)
  end
end

local function real_wait(party, callback)
  local b, timeout = party.slot.real, party.timeout
  local method = party.watches and b.await_trip or b.wait
  if not callback then
    if timeout then
      return method(b, timeout)
    end
    return method(b)
  elseif timeout then
    return method(b, timeout, callback)
  end
  return method(b, callback)
end

local function finish(run, party, ok, result)
  local err = nil
  if not ok then
    err = result == nil and "nil" or result
  end
  return run:ended(party, run:outcome_of(party, err, result), party.thread, err)
end

---In the coroutine of `thread`, which is the running one.
function Run:wait_here(party, thread)
  party.thread, party.waiter, thread.party = thread, thread.co, party
  self.ids[thread.co] = party.id
  if party.kind == "bare" then
    return finish(self, party, true, real_wait(party))
  end
  return finish(self, party, pcall(real_wait, party))
end

---Resumes a coroutine, as a stranger does, or one that is new. What that gives is what the
---coroutine dies of.
function Run:resume(thread, ...)
  local results = { coroutine.resume(thread.co, ...) }
  self:note("resumed: %d values, %s %s", #results, tostring(results[1]), tostring(results[2]))
end

function Run:wait_in_coroutine(party, thread)
  if thread then
    thread.co = coroutine.running()
    return self:wait_here(party, thread)
  end
  thread = {}
  thread.co = coroutine.create(function()
    self:wait_here(party, thread)
  end)
  self:resume(thread, "ignored")
end

function Run:wait_with_callback(party)
  local slot = party.slot
  local outer = slot.entering
  local function callback(...)
    local err, result = ...
    if select("#", ...) ~= (err == nil and 2 or 1) then
      self:fail("a callback got %d arguments", select("#", ...))
    elseif party.waiter and not party.waiter:is_closing() then
      self:fail("the Waiter is not closing in its callback")
    end
    self:ended(party, self:outcome_of(party, err, result), nil, err)
  end
  slot.entering = party
  local waiter = real_wait(party, callback)
  slot.entering = outer
  if party.waiter and party.waiter ~= waiter then
    self:fail("waiters() had another Waiter than wait returned")
  end
  if slot.real then
    party.waiter, self.ids[waiter] = waiter, party.id
  end
end

return Run
