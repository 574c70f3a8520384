---What a group knows of its jobs: how they end and are stopped. group_turns.lua says what each
---change has to be, so that a finalizer or a debug hook may call a group's functions at any moment.
local prefix = (...):gsub("[^.]+$", "")
local turns = require(prefix .. "group_turns")

local count = turns.count

local M = {}

---Tells when the Lua state closes. The functions that refer to it keep it alive.
local life = { closes = false }
if newproxy then -- luacheck: ignore 113
  life.proxy = newproxy(true) -- luacheck: ignore 113
  getmetatable(life.proxy).__gc = function()
    life.closes = true
  end
else
  setmetatable(life, { __gc = function()
    life.closes = true
  end })
end

---In the place of the key of a job that is done.
local DONE = {}

-- {=== what is pending ===

local n_calls = 0 -- of `set_done`

---Counts the jobs that are done, when a call in between may have counted too.
local function recount(group)
  local keys = group._keys
  local call
  repeat
    local done = 0
    call = n_calls
    for i = 1, group._n do
      done = done + (keys[i] == DONE and 1 or 0)
    end
    group._done = done
  until n_calls == call
end

---A job is done.
local function set_done(group, number)
  local keys = group._keys
  keys[number] = DONE
  local call = n_calls + 1
  n_calls = call
  group._done = group._done + 1
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
  return key ~= nil and key ~= DONE
end
M.is_pending = is_pending

---@return integer[] numbers of the jobs that are not done, in order of adding
local function pending_numbers(group)
  local keys, numbers = group._keys, {}
  while keys[group._first] == DONE do
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

---The time of the group no longer counts, for now.
local function disarm(group)
  local alarm = group._alarm
  if alarm then
    group._alarm = false
    alarm:close()
  end
end

---A job has ended, or a party has come: lets the waiting parties go, if nothing is pending.
local function settle(group)
  if n_pending(group) > 0 then
    return
  end
  disarm(group)
  if group._complete or group._waited and not group._cause and group._n > 0 then
    group._complete, group._is_open = true, false
    turns.trip(group, "_wait")
    turns.trip(group, "_join")
  end
end
M.settle = settle

---A job never begins.
local function drop(group, number)
  if is_pending(group, number) then
    count(group, "_dropped", 1)
    set_done(group, number)
  end
end
M.drop = drop

-- }===

-- {=== stops ===

local function method_of(value, name)
  return value[name]
end

---@return function? call what stops the job
---@return string? method its name, if it is one
local function stop_of(value)
  local kind = type(value)
  if kind == "function" then
    return value
  elseif kind == "string" then
    return nil
  end
  for _, name in ipairs { "kill", "cancel", "close" } do
    local ok, method = pcall(method_of, value, name)
    if ok and method ~= nil then
      return method, name
    end
  end
end
M.stop_of = stop_of

local function try_stop(stop)
  local f, name = stop_of(stop)
  if not name then
    f()
  elseif name == "kill" then
    f(stop, "sigterm")
  elseif not (name == "close" and stop.is_closing and stop:is_closing()) then -- an error in luv
    f(stop)
  end
end

---Calls a stop. If it raises an error, that is reported.
function M.call_stop(group, stop)
  local ok, err = pcall(try_stop, stop)
  if not ok then
    turns.report(group, err)
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

---The job has this stop, which is called at once if the group was stopped.
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
---@param cause { kind: "error"|"result"|"timeout"|"abort", reason: any }
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
  disarm(group)
  turns.trip(group, "_wait")
  settle(group)
end
M.stop = stop_group

-- }===

-- {=== the end of a job ===

---Errors of jobs that were cancelled.
---@type table<any, boolean>
M.excuses = setmetatable({}, { __mode = "k" })

---Is it the error of a job that was cancelled, or of a group that was closed to stop it?
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
    started[number] = nil
    count(group, "_active", -1)
    local queue = group._queue
    if queue.first <= queue.n and not group._pumps then
      turns.turn(group, function()
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

---The same for a group that was stopped, or has options.
local function finish_with_options(group, number, key, err, value)
  local stops = group._keys[-number]
  group._keys[-number] = nil
  if group._cause then
    if err and not is_excused(err, stops) then
      group.late[key] = err
    end
  elseif err then
    group._errors[key] = err
    count(group, "_failed", 1)
  else
    group._results[key] = value
  end
  set_done(group, number)
  if group._follows then
    follow(group, number, err, stops)
  end
  settle(group)
end

---A job has ended: what luv's callback got is the error and the value.
local function finish(group, number, err, value)
  local keys = group._keys
  local key = keys[number]
  if key == DONE or life.closes then
    return
  elseif err or not group._is_plain then
    finish_with_options(group, number, key, err, value)
    return
  end
  group._results[key] = value
  keys[number] = DONE
  local call = n_calls + 1
  n_calls = call
  group._done = group._done + 1
  if n_calls ~= call then
    recount(group)
  end
  if group._waited and group._n == group._done then
    settle(group)
  end
end

local function pack(_, ...)
  return { n = select("#", ...), ... }
end

---@return fun(err?: any, ...: any) done
local function new_done(group, number)
  return function(...)
    local claimed, n, err, value = number, select("#", ...), ...
    number = nil -- from here on another call is ignored
    if claimed then
      if n ~= 2 then
        value = n < 2 or pack(...)
      end
      finish(group, claimed, err, value)
    end
  end
end
M.new_done, M.finish, M.pack, M.set_done = new_done, finish, pack, set_done

-- }===

---@return string text of a key or an error, in messages
function M.text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and type(text) == "string" and text or type(value)
end

return M
