---The core in Lua, 1 of 6: luv's loop. All barriers share one timer: luv keeps a handle and its
---callback until the handle is closed, so a barrier with a timer of its own would never be
---collected.
local NOW, NEVER = 0, math.huge -- when the timer fires, unless it is a time of the clock
local LONGEST = 2147483647 -- milliseconds that luv is given; then the timer is started again

local M = {
  on_timer = false, ---@type fun() calls for a turn
  on_end = false, ---@type fun() the Lua state closes
  NOW = NOW,
  CREDIT = 512,
  credit = 0, -- so many parties and barriers are served before the loop polls; then it is spent
  left = false, -- the Lua state or Neovim ends: no handle is started or made any more
}

local uv ---@type table luv
local timer, idle, guard
local armed = NEVER -- when the timer fires
local polls = false -- the loop polls before each call of a timer: libuv 1.48 or newer
local is_exiting ---@type (fun(): boolean)? whether the loop has been closed meanwhile

---When a Lua state closes, Lua calls finalizers in the reverse order in which they were set. The
---guard comes after luv's loop and its handles, so it goes before them.
local function on_guard(self)
  if self == guard then
    M.left = true
    M.on_end()
  end
end

local function renew_guard()
  ---@diagnostic disable-next-line: deprecated
  if newproxy then -- luacheck: ignore 113
    ---@diagnostic disable-next-line: deprecated
    guard = newproxy(true) -- luacheck: ignore 113
    getmetatable(guard).__gc = on_guard
  else
    guard = setmetatable({}, { __gc = on_guard })
  end
end

---@return boolean # has the end come?
function M.has_left()
  M.left = M.left or is_exiting ~= nil and is_exiting()
  return M.left
end

---Not closed by other code: luv must not be asked to start a closed handle.
local function is_alive(handle)
  return handle and not uv.is_closing(handle)
end

---@return boolean made false if the end has come
local function make_handles()
  if not (is_alive(timer) and is_alive(idle)) and not M.has_left() then
    timer = is_alive(timer) and timer or uv.new_timer()
    idle = is_alive(idle) and idle or uv.new_idle()
    renew_guard()
  end
  return not M.left
end

local clock, seen = 1, 0

---The clock of luv's loop. uv.now() may have 32 bits and wrap around, so only differences count.
---@return integer ms
function M.now()
  if not M.left then
    local ms = uv.now()
    clock, seen = clock + (ms - seen) % 4294967296, ms
  end
  return clock
end

---The same, brought up to date.
---@return integer ms
---@return integer lag so far behind is it at most: luv leaves out parts of a millisecond, and Linux
---  may have moved its clock up to one ago
function M.fresh_now()
  if M.left then
    return clock, 0
  end
  uv.update_time()
  local ms, ns = M.now(), (uv.hrtime() - seen * 1000000) % 4294967296
  return ms, ns > 1000000 and 2 or ns > 0 and 1 or 0
end

local function on_timer()
  if not M.left then
    armed = NEVER
    M.credit = polls and M.CREDIT or M.credit
    M.on_timer()
  end
end

---The loop has polled.
local function on_idle()
  uv.idle_stop(idle)
  M.credit, armed = M.CREDIT, NEVER
  M.wake(NOW)
end

---libuv before 1.48 calls a timer that is started with timeout 0 in a timer's callback in the same
---pass of the loop. When the credit is spent, an idle handle therefore starts the next turn: it
---lets the loop poll first, without sleeping.
local function start(at)
  local asked
  repeat
    asked, armed = at, at
    local delay = at == NOW and 0 or math.max(at - M.now(), 0)
    if delay == 0 and M.credit <= 0 and not polls then
      uv.idle_start(idle, on_idle)
      delay = 1 -- should other code close the idle handle
    end
    uv.timer_start(timer, math.min(delay, LONGEST), 0, on_timer)
    at = armed -- a finalizer may have asked for an earlier time meanwhile
  until at >= asked
end

---Makes sure that a turn comes at the time `at`, or earlier. Other code may have stopped, closed or
---unreferenced the timer.
function M.wake(at)
  if M.left then
    return
  elseif armed > at or not uv.is_active(timer) then
    if not make_handles() then
      return
    end
    start(at)
  end
  if not uv.has_ref(timer) then
    uv.ref(timer)
  end
end

---The same for the next turn, when other code had no time to meddle.
function M.stay_awake()
  if armed ~= NOW then
    M.wake(NOW)
  end
end

---The next turn comes when the loop has polled.
function M.let_poll()
  M.credit, armed = 0, NEVER
  M.wake(NOW)
end

---No turn has to come, for now.
function M.rest()
  if armed == NEVER or M.left then
    return
  end
  armed = NEVER
  if is_alive(idle) then
    uv.idle_stop(idle)
  end
  if is_alive(timer) then
    uv.timer_stop(timer)
  end
  if armed ~= NEVER then -- a finalizer has asked for a turn meanwhile
    armed = NEVER
    M.wake(NOW)
  end
end

local NEEDED = { "new_timer", "new_idle", "timer_start", "timer_stop", "idle_start", "idle_stop",
  "is_closing", "is_active", "has_ref", "ref", "now", "update_time", "hrtime", "close" }

---Takes luv's functions.
---@return string? missing the name of one that luv does not have
function M.bind(luv)
  for _, name in ipairs(NEEDED) do
    if type(luv[name]) ~= "function" then
      return name
    end
  end
  uv, M.credit = luv, M.CREDIT
  polls = type(luv.version) == "function" and luv.version() >= 0x013000
  renew_guard()
end

---Closes the handles. New ones are made when they are needed.
function M.close()
  for _, handle in ipairs { timer or nil, idle } do
    if not M.left and is_alive(handle) then
      uv.close(handle)
    end
  end
  armed = NEVER
end

---The end has come: from now on no handle is started or made, and no turn comes.
function M.leave()
  M.close()
  M.left = true
end

---@param f fun(): boolean returns true once the loop has been closed without a call of leave
function M.watch_exit(f)
  is_exiting = f
end

return M
