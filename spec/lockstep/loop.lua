---A loop like luv's, with a clock that only the scripts move. It has what the core needs of luv,
---and what the random scripts do with it.
---
---Its handles are luv's own, never started, so that luv knows them to be closed when
---the core goes back to it.
local uv = type(vim) == "table" and (vim.uv or vim.loop) or require "luv"

local M = {}

local STARVED = 1000 -- timers called in one pass: nothing else gets its turn

---@class lockstep.LoopOptions
---@field refires boolean does a timer started with 0 in a callback fire in the same pass, as
---before libuv 1.48?
---@field timers_last boolean do timers come after polling, as from libuv 1.45 on?

---@class lockstep.Handle
---@field callback function? of an active one
---@field due integer? a timer's next time
---@field order integer? of being started
---@field period integer? 0: it does not repeat
---@field unref boolean? it does not keep the loop alive

local function start_timer(loop, handle, timeout, period, callback)
  loop.orders = loop.orders + 1
  local state = loop.handles[handle]
  state.due, state.order = loop.time + timeout, loop.orders
  state.period, state.callback = period, callback
end

---Stopping a handle that is closing is harmless, as in luv.
local function stop(loop, handle)
  local state = loop.handles[handle]
  if state then
    state.due, state.callback = nil, nil
  end
end

---The timer that comes next, or nil.
---@param alive boolean? only handles that keep the loop alive
local function first_timer(loop, alive)
  local first, state
  for handle, other in pairs(loop.handles) do
    if other.due and not (alive and other.unref) and (not first or other.due < state.due
        or (other.due == state.due and other.order < state.order)) then
      first, state = handle, other
    end
  end
  return first, state
end

---As uv__run_timers.
local function run_timers(loop)
  local last = loop.orders -- started later: not in this pass, unless `refires`
  for calls = 1, math.huge do
    local handle, state = first_timer(loop)
    if not handle or state.due > loop.time or (state.order > last and not loop.refires) then
      return
    elseif calls > STARVED then
      loop.starved = true
      return
    end
    local callback = state.callback
    if state.period > 0 then
      start_timer(loop, handle, state.period, state.period, callback)
    else
      stop(loop, handle)
    end
    callback()
  end
end

---@param alive boolean? only handles that keep the loop alive
local function idles(loop, alive)
  local list = {}
  for _, state in pairs(loop.handles) do
    if state.callback and not state.due and not (alive and state.unref) then
      list[#list + 1] = state.callback
    end
  end
  return list
end

---As uv_loop_alive: an unref'd handle does not count.
local function is_alive(loop)
  return first_timer(loop, true) ~= nil or #idles(loop, true) > 0
end

---One pass. `sleeps`: waits for the next timer if there is nothing else to do.
local function pass(loop, sleeps)
  if not is_alive(loop) then
    loop.time = loop.clock
    return
  end
  if not loop.timers_last then
    loop.time = loop.clock
    run_timers(loop)
  end
  local list = idles(loop)
  for _, callback in ipairs(list) do
    callback()
  end
  local _, next_timer = first_timer(loop)
  if sleeps and #list == 0 and next_timer then
    loop.clock = math.max(loop.clock, next_timer.due)
  end
  loop.time = loop.clock
  if loop.timers_last or sleeps then
    run_timers(loop)
  end
end

local function add_handle(loop, handle)
  loop.handles[handle] = {}
  return handle
end

---What the core takes to start and stop handles.
local function add_starts(fake, loop)
  function fake.timer_start(handle, timeout, period, callback)
    if not loop.handles[handle] then
      return nil, "EINVAL: invalid argument", "EINVAL"
    end
    start_timer(loop, handle, timeout, period, callback)
    return 0
  end
  function fake.timer_stop(handle)
    stop(loop, handle)
    return 0
  end
  function fake.idle_start(handle, callback)
    if not loop.handles[handle] then
      return nil, "EINVAL: invalid argument", "EINVAL"
    end
    loop.handles[handle].callback = callback
    return 0
  end
  function fake.idle_stop(handle)
    stop(loop, handle)
    return 0
  end
end

---What the core takes to make handles, and to ask about them.
local function add_handles(fake, loop)
  function fake.new_timer()
    return add_handle(loop, uv.new_timer())
  end
  function fake.new_idle()
    return add_handle(loop, uv.new_idle())
  end
  function fake.close(handle, callback)
    loop.handles[handle] = nil
    uv.close(handle, callback)
  end
  function fake.is_closing(handle)
    return loop.handles[handle] == nil
  end
  function fake.is_active(handle)
    local state = loop.handles[handle]
    return state ~= nil and state.callback ~= nil
  end
  function fake.has_ref(handle)
    local state = loop.handles[handle]
    return state ~= nil and not state.unref
  end
  function fake.ref(handle)
    if loop.handles[handle] then
      loop.handles[handle].unref = nil
    end
  end
  function fake.unref(handle)
    if loop.handles[handle] then
      loop.handles[handle].unref = true
    end
  end
end

---@param options lockstep.LoopOptions
function M.new(options)
  local loop = { handles = {}, time = 1000, clock = 1000, orders = 0,
    refires = options.refires, timers_last = options.timers_last }
  local fake = {}
  add_starts(fake, loop)
  add_handles(fake, loop)

  ---As libuv 1.48 if it behaves so.
  function fake.version()
    return not loop.refires and loop.timers_last and 0x013000 or 0x012c02
  end

  function fake.now()
    return loop.time
  end

  function fake.update_time()
    loop.time = loop.clock
  end

  ---@param mode "nowait"|"once"
  function fake.run(mode)
    pass(loop, mode == "once")
  end

  ---True if a pass never came to its end.
  function fake.is_starved()
    return loop.starved
  end

  function fake.loop_alive()
    return is_alive(loop)
  end

  ---Would the loop wait for a time to come, with nothing to do until then?
  function fake.sleeps()
    local _, state = first_timer(loop, true)
    return state ~= nil and state.due > loop.clock and #idles(loop) == 0
  end

  ---Time goes by; the loop notices when it runs, or is updated.
  function fake.sleep(ms)
    loop.clock = loop.clock + ms
  end

  ---As uv.walk with close, stop or unref.
  ---@param what "close"|"stop"|"unref"
  function fake.walk(what)
    for handle in pairs(loop.handles) do
      if what == "close" then
        loop.handles[handle] = nil
      else
        (what == "stop" and fake.timer_stop or fake.unref)(handle)
      end
    end
  end
  return fake
end

return M
