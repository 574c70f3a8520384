---What a group knows of its jobs: how they end and are stopped; and its barriers, at which parties
---wait and which give turns of the loop.
---
---A finalizer or a debug hook may call any function of a group while another one runs, between
---any two instructions, and has returned before that goes on. So every change is one of these:
---
--- - One store that no other call makes.
--- - A claim: read, erase, then look whether a call in between has done it all. A call after
---   the erasure finds nothing to claim.
--- - A number that is taken, and then looked at: if a call in between has taken it, the next one.
--- - A count, which is made anew if a call in between has counted too.
local prefix = (...):gsub("[^.]+$", "")
local waits = require(prefix .. "await")
local given = require(prefix .. "group_options")

local M = {}

---Tells when the Lua state closes. The functions that refer to it keep it alive.
local life = { closes = false }
local function note_end()
  life.closes = true
end
---@diagnostic disable: deprecated
if newproxy then -- luacheck: ignore 113
  life.proxy = newproxy(true) -- luacheck: ignore 113
  getmetatable(life.proxy).__gc = note_end
else
  setmetatable(life, { __gc = note_end })
end
---@diagnostic enable: deprecated

-- {=== barriers ===

local is_making = false -- is a call about to store a barrier?
local has_more = false -- whether another call has ever come meanwhile

---The group's barrier for one purpose. A party that comes before it trips passes.
---@param purpose "_wait"|"_join"
---@return barrier.Barrier
function M.barrier(group, purpose)
  local b = group[purpose]
  if b then
    return b
  end
  b = waits.take(group, group._options.schedule)
  if is_making then
    has_more = true
    rawset(group, b, purpose)
  else
    is_making = true
    b = rawget(group, purpose) or b
    rawset(group, purpose, b)
    is_making = false
  end
  return b
end

---A party is let go by a trip of this barrier of a complete group: another group may have it,
---unless a further trip was asked for.
function M.release(group, purpose, b)
  if group[purpose] == b and not waits.is_asked(b) then
    group[purpose] = false
    if group._options.schedule == nil then
      waits.give(b)
    end
  end
end

---Has the barriers for one purpose trip in the next turn.
local function trip(group, purpose)
  local b = rawget(group, purpose)
  if b then
    waits.ask(b)
  end
  if has_more then
    for key, value in next, group do
      if value == purpose then
        waits.ask(key)
      end
    end
  end
end

---Calls `f` in a turn of the loop, where waiting parties go on.
local function turn(group, f)
  waits.turn(group, group._options.schedule, f)
end
M.turn = turn

---Reports the error as uncaught, in a turn.
function M.report(group, err)
  turn(group, function()
    error(err, 0)
  end)
end

-- }===

-- {=== counting ===

-- In the place of the key of a job that has ended: how.
local DONE, FAILED, DROPPED = {}, {}, {}
local ENDED = { [DONE] = true, [FAILED] = true, [DROPPED] = true }

local n_calls = 0 -- of the functions that count

---Counts the jobs of each kind, when a call in between may have counted too.
local function recount(group)
  local keys, started = group._keys, group._started or {}
  local call
  repeat
    local done, failed, active = 0, 0, 0
    call = n_calls
    for number = 1, group._n do
      local key = keys[number]
      done = done + (key ~= nil and ENDED[key] and 1 or 0)
      failed = failed + (key == FAILED and 1 or 0)
      active = active + (started[number] and 1 or 0)
    end
    group._done, group._failed, group._active = done, failed, active
  until n_calls == call
end

---A job has ended.
---@param how table DONE, FAILED or DROPPED
local function end_job(group, number, how)
  local call = n_calls + 1
  n_calls = call
  group._keys[number] = how
  group._done = group._done + 1
  if how == FAILED then
    group._failed = group._failed + 1
  end
  if n_calls ~= call then
    recount(group)
  end
end

---A job takes room within the limit, or gives it back.
---@param value true?
function M.set_started(group, number, value)
  local call = n_calls + 1
  n_calls = call
  group._started[number] = value
  group._active = group._active + (value and 1 or -1)
  if n_calls ~= call then
    recount(group)
  end
end

---@return integer n_pending how many jobs are not done
local function n_pending(group)
  return group._n - group._done
end
M.n_pending = n_pending

local function is_pending(group, number)
  local key = group._keys[number]
  return key ~= nil and not ENDED[key]
end
M.is_pending = is_pending

---@return integer[] numbers of the jobs that are not done, in order of adding
local function pending_numbers(group)
  local keys, numbers = group._keys, {}
  while ENDED[keys[group._first]] do
    group._first = group._first + 1
  end
  for number = group._first, group._n do
    if is_pending(group, number) then
      numbers[#numbers + 1] = number
    end
  end
  return numbers
end

---@return any[] keys of the jobs that are not done, in order of adding
function M.pending(group)
  local list = pending_numbers(group)
  for i, number in ipairs(list) do
    list[i] = group._keys[number]
  end
  return list
end

---@return integer n how many jobs were done, without those that never began
function M.n_done(group)
  local n = group._done
  for number = 1, group._cause and group._n or 0 do
    n = n - (group._keys[number] == DROPPED and 1 or 0)
  end
  return n
end

---@return integer n_running how many jobs have begun and are not done
function M.n_running(group)
  local n = n_pending(group)
  for _ in pairs(group._idle or {}) do
    n = n - 1
  end
  return n
end

-- }===

-- {=== the end of a group ===

---A job has ended, or a party has come: lets the waiting parties go, if nothing is pending.
local function settle(group)
  if n_pending(group) > 0 then
    return
  end
  M.disarm(group)
  if group._complete or group._waited and not group._cause and group._n > 0 then
    group._complete, group._is_open = true, false
    trip(group, "_wait")
    trip(group, "_join")
  end
end
M.settle = settle

---The time of the group no longer counts, for now.
function M.disarm(group)
  local alarm = group._alarm
  if alarm then
    group._alarm = false
    alarm:close()
  end
end

---A job never begins.
local function drop(group, number)
  if is_pending(group, number) then
    end_job(group, number, DROPPED)
  end
end
M.drop = drop

---Calls a stop. If it raises an error, that is reported as uncaught.
function M.call_stop(group, stop)
  local ok, err = pcall(given.call_stop, stop)
  if not ok then
    M.report(group, err)
  end
end

---Calls what stops the job, once.
local function call_stops(group, number)
  local entry = group._keys[-number]
  while entry do
    local stop = entry.stop
    entry.stop = nil
    if stop ~= nil and not entry.called and is_pending(group, number) then
      entry.called = stop
      M.call_stop(group, stop)
    end
    entry = entry.next
  end
end

---Gives the job its stop; calls it at once if the group was stopped.
function M.give_stop(group, number, stop)
  if is_pending(group, number) then
    group._is_plain = false
    group._keys[-number] = { stop = stop, next = group._keys[-number] }
    if group._cause then
      call_stops(group, number)
    elseif not is_pending(group, number) then
      group._keys[-number] = nil
    end
  end
end

---Stops the group, unless it was stopped or is complete.
---@param group barrier.GroupInternals
---@param cause barrier.GroupCause
local function stop_group(group, cause)
  local may = group._may_stop
  if group._complete then
    return
  end
  group._may_stop = false
  if not may or group._cause then
    return
  end
  group._cause, group._is_open, group._is_plain = cause, false, false
  cause.n_done, cause.n_jobs, cause.pending = group._done, group._n, M.pending(group)
  for number in pairs(group._idle or {}) do
    drop(group, number)
  end
  if group._idle then
    group._idle, group._queue = {}, { n = 0, first = 1 }
  end
  for _, number in ipairs(pending_numbers(group)) do
    call_stops(group, number)
  end
  group._complete = true
  M.disarm(group)
  trip(group, "_wait")
  settle(group)
end
M.stop = stop_group

-- }===

-- {=== the end of a job ===

---Errors of jobs that were cancelled.
---@type table<any, boolean>
M.excuses = setmetatable({}, { __mode = "k" })

---True for the error of a job that was cancelled, or of a group that was closed to stop it.
local function is_excused(err, stops)
  if type(err) ~= "table" then
    return false
  end
  local other = rawget(err, "group")
  while stops and not (other ~= nil and stops.called == other) do
    stops = stops.next
  end
  return M.excuses[err] or stops ~= nil
end

---What follows from the end of a job, in a group with options.
local function follow(group, number, err, stops)
  local options, started = group._options, group._started
  if started and started[number] then
    M.set_started(group, number, nil)
    local queue = group._queue
    if queue.first <= queue.n and not group._pumps then
      turn(group, function()
        group._pumps = false
        M.pump(group)
      end)
      group._pumps = true
    end
  end
  if err and options.stop_on_error and not is_excused(err, stops) then
    stop_group(group, { kind = "error" })
  elseif not err and options.stop_on_result then
    stop_group(group, { kind = "result" })
  end
end

---The same for a job that has failed, and in a group that was stopped or has options.
local function finish_with_options(group, number, key, err, value)
  local stops = group._keys[-number]
  group._keys[-number] = nil
  if group._cause then
    if err and not is_excused(err, stops) then
      group.late[key] = err
    end
  elseif err then
    group._errors[key] = err
  else
    group._results[key] = value
  end
  end_job(group, number, err and not group._cause and FAILED or DONE)
  if group._follows then
    follow(group, number, err, stops)
  end
  settle(group)
end

---A job has ended: what luv's callback got is the error and the value.
function M.finish(group, number, err, value)
  local key = group._keys[number]
  if ENDED[key] or life.closes then
    return
  elseif err or not group._is_plain then
    finish_with_options(group, number, key, err, value)
    return
  end
  group._results[key] = value
  end_job(group, number, DONE)
  if group._waited and group._n == group._done then
    settle(group)
  end
end

-- }===

return M
