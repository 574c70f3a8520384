---The jobs that a group starts: beginning them when there is room, as calls or as coroutines.
local prefix = (...):gsub("[^.]+$", "")
local core = require(prefix .. "environment").core()
local cancels = require(prefix .. "await")
local turns = require(prefix .. "group_turns")
local jobs = require(prefix .. "group_jobs")

local push, count, total = turns.push, turns.count, turns.total
local is_pending, stop_of, give_stop = jobs.is_pending, jobs.stop_of, jobs.give_stop

local M = {}

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
      turns.report(group, first)
    end
  elseif first then
    if stop_of(first) then
      give_stop(group, number, first)
    end
  elseif second then
    done(second)
  end
end

---Is there room for one more of the jobs that the group starts? If so, it is taken.
local function take_room(group, number)
  count(group, "_active", 1)
  if total(group, "_active") > group._options.limit then
    count(group, "_active", -1)
    return false
  end
  group._started[number] = true
  return true
end

---Begins the jobs that had to queue, while there is room.
function jobs.pump(group)
  local queue = group._queue
  local limit = group._options.limit
  while queue.first <= queue.n and total(group, "_active") < limit and not group._cause do
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

---Begins the job at once if there is room, otherwise when another one has ended.
function M.launch(group, number, start, done)
  local limit, idle = group._options.limit, rawget(group, "_idle")
  local queue = limit and group._queue
  if limit and (queue.first <= queue.n or not take_room(group, number)) then
    group._idle[number] = true
    push(queue, { number = number, start = start, done = done })
    if group._cause and not group._started[number] then
      jobs.drop(group, number) -- a call in between has stopped the group
    end
    return
  end
  if idle then
    group._idle[number] = nil
  end
  if group._cause then
    jobs.drop(group, number)
  else
    begin(group, number, start, done)
  end
end

-- {=== coroutines ===

local function end_of(co, done, ok, ...)
  local first, second = ...
  local cancelled = cancels.ended(co)
  if not ok then
    local err = failure(first)
    if cancelled and getmetatable(err) == core.CancelledError then
      jobs.excuses[err] = true
    end
    done(err)
  elseif not first and second then
    done(second)
  else
    done(nil, ...)
  end
end

---Makes `start` of a job that is a coroutine.
function M.coroutine_job(group, number, body)
  return function(done)
    local co
    co = coroutine.create(function()
      end_of(co, done, pcall(body))
    end)
    give_stop(group, number, function()
      cancels.stop(co)
    end)
    local ok, err = coroutine.resume(co)
    if not ok then
      error(err, 0)
    end
  end
end

-- }===

return M
