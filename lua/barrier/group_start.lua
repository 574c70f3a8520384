---Adding jobs to a group, and beginning those that it starts, when there is room: as calls or as
---coroutines.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local waits = require(prefix .. "await")
local given = require(prefix .. "group_options")
local jobs = require(prefix .. "group_jobs")

local finish, give_stop, is_pending = jobs.finish, jobs.give_stop, jobs.is_pending
local set_started, stop_of, text_of = jobs.set_started, given.stop_of, given.text_of
local CancelledError = environment.core().CancelledError

local M = {}

-- {=== adding jobs ===

---The group is stopped when its time has passed, if a job is pending then.
local function set_alarm(group)
  local left = math.max(math.ceil(group._deadline - environment.luv().hrtime() / 1e6), 0)
  local b = waits.take(group, group._options.schedule)
  group._alarm = b:await_trip(left, function()
    group._alarm = false
    if jobs.n_pending(group) > 0 then
      jobs.stop(group, { kind = "timeout" })
    end
  end)
end

---Raises an argument error at the line that called the method.
local function refuse(problem, name, level)
  error(("bad argument #1 to '%s' (%s)"):format(name, problem), level)
end

---Gives back the number of a job that cannot have this key, and raises an error.
local function refuse_key(group, number, key, name, level)
  if group._n == number then
    group._n = number - 1
  else -- a call in between has added jobs
    group._keys[number] = key
    jobs.drop(group, number)
  end
  refuse(key ~= key and "key must not be NaN"
    or ("the group has had a job with the key %s"):format(text_of(key)), name, level + 1)
end

---Gives the job a number.
---@param name string of the method
---@param level integer of the line that called it
---@return integer number
local function take_number(group, key, name, level)
  local keys, numbers = group._keys, group._numbers
  local number
  repeat
    number = group._n + 1
    group._n = number
  until keys[number] == nil
  if key == nil then
    key = number
  end
  if numbers[key] ~= nil or key ~= key then
    refuse_key(group, number, key, name, level + 1)
  end
  numbers[key], keys[number] = number, key
  return number
end

---Adds a job, unless the group was stopped.
---@return integer? number
local function enlist(group, key, name, level)
  if group._is_open then
    return (take_number(group, key, name, level + 1))
  elseif group._cause then
    return nil
  elseif group._complete and not group._cause then -- which a call in between may have set
    refuse("the group is complete", name, level + 1)
  end
  local number = take_number(group, key, name, level + 1)
  if group._deadline and not group._alarm then
    set_alarm(group)
  end
  return number
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

---A job of the option `expect`, if it is one.
local function find_expected(group, key)
  local expected = not group._is_open and group._expected
  return expected and key ~= nil and expected[key] or nil
end

local function ignored() end

---Makes what a group has in the place of its method, so that the usual call needs less.
---@param add fun(self: barrier.Group, key: any, stop: any): function the method
function M.new_add(group, add)
  return function(self, key, stop)
    local done
    if self == group and stop == nil and group._is_open then
      done = new_done(group, take_number(group, key, "add", 3))
    else
      done = add(self, key, stop)
    end
    return done
  end
end

---@return function done
function M.add(group, key, stop, level)
  local expected = find_expected(group, key)
  local number
  if expected then
    number, expected.has_begun = expected.number, true
    group._idle[number] = nil
  else
    number = enlist(group, key, "add", level + 1)
  end
  if stop ~= nil then
    if group._cause then
      jobs.call_stop(group, stop)
    else
      give_stop(group, number, stop)
    end
  end
  return expected and expected.done or number and new_done(group, number) or ignored
end

---The number and the `done` of a job that the group will start; nil if it was stopped.
---@return integer? number
---@return function? done
local function new_job(group, key, name, level)
  local expected = find_expected(group, key)
  if not expected then
    local number = enlist(group, key, name, level + 1)
    return number, number and new_done(group, number)
  elseif group._cause then
    return nil
  elseif expected.has_begun then
    refuse(("the job %s has begun"):format(text_of(key)), name, level + 1)
  end
  expected.has_begun = true
  return expected.number, expected.done
end

---The jobs of the option `expect` exist from the start.
function M.expect(group, keys)
  group._expected = {}
  for _, key in ipairs(keys) do
    local number = enlist(group, key, "group", 1) --[[@as integer]]
    group._idle[number] = true
    group._expected[key] = { number = number, done = new_done(group, number) }
  end
end

-- }===

-- {=== beginning them ===

---What a job failed of: never nil nor false.
local function failure(err)
  return err or ("the job failed with the error %s"):format(tostring(err))
end

---Calls `start(done)`.
local function begin(group, number, start, done)
  local ok, first, second = pcall(start, done)
  if not ok then
    if is_pending(group, number) then
      done(failure(first))
    else
      jobs.report(group, first)
    end
  elseif first then
    if stop_of(first) then
      give_stop(group, number, first)
    end
  elseif second then
    done(second)
  end
end

---Takes the room for one more of the jobs that the group starts. False if there is none.
local function take_room(group, number)
  set_started(group, number, true)
  if group._active > group._options.limit then
    set_started(group, number, nil)
    return false
  end
  return true
end

---Begins the jobs that had to queue, while there is room.
function jobs.pump(group)
  local queue = group._queue
  while queue.first <= queue.n and group._active < group._options.limit and not group._cause do
    local place = queue.first
    queue.first = place + 1
    local job = queue[place]
    local start = job and job.start
    if start then
      job.start = nil
      queue[place] = false
      if group._idle[job.number] and take_room(group, job.number) then
        group._idle[job.number] = nil
        begin(group, job.number, start, job.done)
      elseif group._idle[job.number] then -- a call in between has taken the room
        job.start, queue[place], queue.first = start, job, place
      end
    end
  end
end

---Appends to a list, whose length is its field `n`.
local function push(list, value)
  local n
  repeat
    n = list.n + 1
    list.n = n
  until list[n] == nil
  list[n] = value
end

---Begins the job at once if there is room, otherwise when another one has ended.
local function launch(group, number, start, done)
  local limit, idle = group._options.limit, rawget(group, "_idle")
  local queue = limit and group._queue
  if limit and (queue.first <= queue.n or not take_room(group, number)) then
    idle[number] = true
    push(queue, { number = number, start = start, done = done })
    if group._cause and not group._started[number] then
      jobs.drop(group, number) -- a call in between has stopped the group
    end
    return
  end
  if idle then
    idle[number] = nil
  end
  if group._cause then
    jobs.drop(group, number)
  else
    begin(group, number, start, done)
  end
end

function M.start(group, key, start, level)
  local number, done = new_job(group, key, "start", level + 1)
  if group._is_open and not group._options.limit then
    begin(group, number, start, done)
  elseif number then
    launch(group, number, start, done)
  end
end

local function end_of(co, done, ok, ...)
  local first, second = ...
  local cancelled = waits.ended(co)
  if not ok then
    local err = failure(first)
    if cancelled and getmetatable(err) == CancelledError then
      jobs.excuses[err] = true
    end
    done(err)
  elseif not first and second then
    done(second)
  else
    done(nil, ...)
  end
end

---What the coroutine of a job calls: in debug mode another function.
function M.body_of(_, _, body)
  return body
end

function M.run(group, key, body, level)
  local number, done = new_job(group, key, "run", level + 1)
  if not number then
    return
  end
  launch(group, number, function()
    local co
    co = coroutine.create(function()
      end_of(co, done, pcall(M.body_of(group, number, body)))
    end)
    give_stop(group, number, function()
      waits.stop(co)
    end)
    local ok, err = coroutine.resume(co)
    if not ok then
      error(err, 0)
    end
  end, done)
end

-- }===

return M
