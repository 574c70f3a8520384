---What one writes without the module. Nothing here raises errors, times out, or can be cancelled.
local uv = vim and vim.loop or require "luv"
local M = {}

---Returns a function that has `f` called in a turn of the loop.
local function turn_of(f)
  if vim then
    return function()
      vim.schedule(f)
    end
  end
  local timer
  return function()
    timer = timer or uv.new_timer()
    timer:start(0, 0, f)
  end
end

---A barrier. No party may arrive before all have left.
function M.barrier(parties)
  local waiting = {}
  local wake = turn_of(function()
    local released = waiting
    waiting = {}
    for i = 1, #released do
      coroutine.resume(released[i], i - 1)
    end
  end)
  return {
    wait = function()
      waiting[#waiting + 1] = coroutine.running()
      if #waiting == parties then
        wake()
      end
      return coroutine.yield()
    end,
  }
end

---A barrier at which no party waits, but some watch.
function M.counter(parties)
  local arrived, generation, watching = 0, 0, {}
  local wake = turn_of(function()
    local released = watching
    watching = {}
    for i = 1, #released do
      coroutine.resume(released[i], generation)
    end
  end)
  local function check()
    if arrived >= parties then
      arrived, generation = 0, generation + 1
      if #watching > 0 then
        wake()
      end
    end
    return true
  end
  return {
    arrive = function()
      arrived = arrived + 1
      return check()
    end,
    register = function()
      parties = parties + 1
    end,
    deregister = function()
      parties = parties - 1
      return check()
    end,
    await_trip = function()
      watching[#watching + 1] = coroutine.running()
      return coroutine.yield()
    end,
  }
end

---Jobs that run at the same time. `done` may be called twice, but not before `wait`.
function M.group()
  local pending, results, errors, waiting = 0, {}, {}, nil
  return {
    add = function(_, key)
      local is_done = false
      pending = pending + 1
      return function(err, result)
        if is_done then
          return
        end
        is_done = true
        if err then
          errors[key] = err
        else
          results[key] = result
        end
        pending = pending - 1
        if pending == 0 then
          coroutine.resume(waiting, next(errors) and errors, results)
        end
      end
    end,
    wait = function()
      waiting = coroutine.running()
      return coroutine.yield()
    end,
  }
end

return M
