---The core in Lua, 2 of 3: which barrier is served in which turn of luv's loop, and what times
---out next. All barriers share one timer: luv keeps a handle and its callback until the handle is
---closed, so a barrier with a timer of its own would never be collected.
local machine = require((...):gsub("turns$", "machine"))

local floor = math.floor
local append, unlink = machine.append, machine.unlink
local M = {
  turn = 0, -- the number of the last turn that has begun
  ended = false, -- the Lua state closes
  credit = 0, -- so many parties and barriers are served before the loop polls; then it is spent
}

local CREDIT = 512
local LONGEST = 2147483647 -- milliseconds that luv is given; then the timer is started again
local FURTHEST = 9007199254740992 -- a timeout beyond this never passes

-- When the timer fires: a time of the clock, or one of these.
local NOW = 0
local AGAIN = FURTHEST * 2 -- it repeats, started for nothing
local OFF = AGAIN * 2

local uv ---@type table luv
local timer, idle
local armed, starts = OFF, 0
local polls = false -- the loop polls before each call of a timer: libuv 1.48 or newer
local left = false -- the Lua state or Neovim ends: no handle is started or made any more
local is_exiting ---@type (fun(): boolean)? whether the loop has been closed meanwhile
local guard -- its finalizer leaves
local queue = machine.list() -- of the barriers that have something to do
local deadlines = {} -- a binary heap
local n_deadlines, peak, orders = 0, 0, 0

---{=== the timer

---Not closed by other code: luv must not be asked to start a closed handle.
local function is_alive(handle)
  return handle and not uv.is_closing(handle)
end

local on_timer, on_idle

---A finalizer that runs meanwhile may start or stop the timer as well: then a turn comes.
local function start(delay, at)
  local count
  repeat
    count = starts + 1
    starts, armed = count, at
    uv.timer_start(timer, delay < LONGEST and delay or LONGEST, 1, on_timer)
    delay, at = 0, NOW
  until starts == count
end

---libuv before 1.48 calls a timer that is started with timeout 0 in a timer's callback in the same
---pass of the loop. When the credit is spent, an idle handle therefore starts the next turn: it
---lets the loop poll first, without sleeping.
local function start_now()
  if M.credit > 0 or polls then
    start(0, NOW)
  else
    uv.idle_start(idle, on_idle)
    start(1, NOW) -- should other code close the idle handle
  end
end

---When a Lua state closes, Lua calls finalizers in the reverse order in which they were set. The
---guard comes after luv's loop and its handles, so it goes before them.
local function renew_guard()
  local function on_end(self)
    if self == guard then
      left, M.ended = true, true
      M.on_end()
    end
  end
  ---@diagnostic disable-next-line: deprecated
  if newproxy then -- luacheck: ignore 113
    ---@diagnostic disable-next-line: deprecated
    guard = newproxy(true) -- luacheck: ignore 113
    getmetatable(guard).__gc = on_end
  else
    guard = setmetatable({}, { __gc = on_end })
  end
end

---@return boolean # has the end come?
function M.has_left()
  left = left or is_exiting ~= nil and is_exiting()
  return left
end

---@return boolean made false if the end has come
local function make_handles()
  if is_alive(timer) and is_alive(idle) then
    return true
  elseif M.has_left() then
    return false
  end
  armed = OFF
  timer = is_alive(timer) and timer or uv.new_timer()
  idle = is_alive(idle) and idle or uv.new_idle()
  renew_guard()
  return true
end

---Makes sure that the timer fires at the time `at`, or earlier. Other code may have stopped,
---closed or unreferenced it.
local function wake(at, delay)
  if left then
    return
  elseif not timer or armed > at or not uv.is_active(timer) then
    if not make_handles() then
      return
    elseif at == NOW then
      start_now()
    else
      start(delay, at)
    end
  end
  if not uv.has_ref(timer) then
    uv.ref(timer)
  end
end

local function stop()
  local count = starts + 1
  starts, armed = count, OFF
  if M.credit <= 0 and is_alive(idle) then
    uv.idle_stop(idle)
  end
  if is_alive(timer) then
    uv.timer_stop(timer)
  end
  if starts ~= count then
    wake(NOW)
  end
end

local clock, seen = 1, 0

---uv.now() may have 32 bits and wrap around, so only the differences count.
---@return integer ms
local function now()
  if left then
    return clock
  end
  local ms = uv.now()
  local passed = ms - seen
  clock, seen = clock + (passed >= 0 and passed or passed + 4294967296), ms
  return clock
end

---Starts the timer for what comes next, or stops it.
local function settle()
  local first = deadlines[1]
  if left then
    return
  elseif queue.first then
    if armed ~= NOW then
      wake(NOW)
    end
  elseif not first then
    if armed ~= OFF then
      stop()
    end
  elseif armed ~= first.at then
    local delay = first.at - now()
    armed = AGAIN
    if delay > 0 then
      wake(first.at, delay)
    else
      wake(NOW)
    end
  end
end

---}=== {=== the queue of barriers

---The barrier is served in a later turn, if it has anything to do.
function M.enqueue(m)
  if not m.place and machine.busy(m) then
    m.since = M.turn
    append(queue, m)
  end
end

---The same where the timer may not be running.
function M.request(m)
  M.enqueue(m)
  if m.place then
    wake(NOW)
  end
end

---The barrier is not served.
function M.dismiss(m)
  if m.place then
    unlink(m)
  end
end

---}=== {=== deadlines

local function before(a, b)
  return a.at < b.at or a.at == b.at and a.order < b.order
end

local function put(i, deadline)
  deadlines[i], deadline.index = deadline, i
end

---Finds the place of a deadline, from the gap at `i` on.
local function sift(i, deadline)
  local parent, child = floor(i / 2), 2 * i
  while parent > 0 and before(deadline, deadlines[parent]) do
    put(i, deadlines[parent])
    i, parent = parent, floor(parent / 2)
    child = n_deadlines + 1 -- it does not go down
  end
  while child <= n_deadlines do
    if child < n_deadlines and before(deadlines[child + 1], deadlines[child]) then
      child = child + 1
    end
    if not before(deadlines[child], deadline) then
      break
    end
    put(i, deadlines[child])
    i, child = child, 2 * child
  end
  put(i, deadline)
end

---So many milliseconds at most is luv's clock behind, which was just updated: it leaves out parts
---of one, and Linux may have moved it up to one ago.
local function lag()
  local ns = (uv.hrtime() - seen * 1000000) % 4294967296
  return ns > 1000000 and 2 or ns > 0 and 1 or 0
end

---A deadline of a barrier, to be added when the wait has begun. It counts from now; the loop's
---clock is behind when the program has computed for a while. It never passes early.
---@param owner barrier.Node|barrier.Machine
---@param expire fun(owner, deadline) the time has passed
function M.deadline(owner, timeout, expire)
  local at = clock
  if not left then
    uv.update_time()
    at = now()
    if timeout > 0 then
      at = at + lag() + (timeout < FURTHEST and timeout or FURTHEST)
    end
  end
  orders = orders + 1
  return { owner = owner, timeout = timeout, expire = expire, index = false, at = at,
    order = orders }
end

function M.add(deadline)
  n_deadlines = n_deadlines + 1
  peak = n_deadlines > peak and n_deadlines or peak
  sift(n_deadlines, deadline)
  deadline.owner.deadline = deadline
  wake(deadline.at, deadline.at - clock)
end

local function take_out(deadline)
  local i, last = deadline.index, deadlines[n_deadlines]
  deadlines[n_deadlines], n_deadlines = nil, n_deadlines - 1
  deadline.index, deadline.owner.deadline = false, false
  if last ~= deadline then
    sift(i, last)
  elseif n_deadlines == 0 and peak > CREDIT then
    deadlines, peak = {}, 0 -- gives the memory back that a crowd has needed
  end
end

---Removes the deadline of a node or a barrier, if it has one.
function M.clear(owner)
  if owner.deadline then
    take_out(owner.deadline)
    if n_deadlines == 0 and not queue.first and armed ~= NOW and armed < AGAIN then
      stop()
    end
  end
end

---Many timeouts that pass together leave the loop its turns.
local function expire()
  local ms, n = n_deadlines > 0 and now(), 0
  local deadline = deadlines[1]
  while deadline and deadline.at <= ms do
    if n == CREDIT then
      M.credit = 0 -- the others after the loop has polled
      return
    end
    n = n + 1
    deadline.expire(deadline.owner, deadline)
    if deadline.index then
      take_out(deadline)
    end
    deadline = deadlines[1]
  end
end

---}=== {=== turns

---Serves what became ready before this turn.
local function run_turn(reports)
  local turn = M.turn + 1
  M.turn = turn
  local m = queue.first
  while m and m.since < turn do
    M.credit = M.credit - 1
    unlink(m) -- behind the others, where a nested loop finds it
    m.since = turn
    append(queue, m)
    M.serve(m, turn, reports)
    if m.place and not machine.busy(m) then
      unlink(m)
    end
    m = queue.first
  end
end

---Reports what was not caught: luv or Neovim shows what its callback raises.
local function raise(reports)
  if reports[1] then
    error(table.concat(reports, "\n"), 0)
  end
end

---Turns, one after the other as long as there is credit, since starting the timer costs more than
---a small trip. It is started before they run: a loop that is run inside serves the others, and no
---error loses a turn.
function on_timer()
  local reports = {}
  if left then
    return
  end
  armed = AGAIN
  M.credit = polls and CREDIT or M.credit
  expire()
  while queue.first and not reports[1] do
    if armed ~= NOW then
      wake(NOW)
    end
    run_turn(reports)
    if M.credit <= 0 then
      break
    end
  end
  settle()
  raise(reports)
end

---The loop has polled.
function on_idle()
  uv.idle_stop(idle)
  M.credit, armed = CREDIT, AGAIN
  wake(NOW)
end

---Runs a turn for one barrier alone, after drain() has requested it.
function M.run_alone(m)
  local reports = {}
  if left or not machine.busy(m) then
    return
  end
  M.turn = M.turn + 1
  M.drain(m, M.turn, reports)
  if not machine.busy(m) then
    M.dismiss(m)
  end
  settle()
  raise(reports)
end

---}=== {=== luv

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
  uv, M.credit = luv, CREDIT
  polls = type(luv.version) == "function" and luv.version() >= 0x013000
  renew_guard()
end

---Closes the handles. New ones are made when they are needed.
function M.close()
  for _, handle in ipairs { timer or nil, idle } do
    if not left and is_alive(handle) then
      uv.close(handle)
    end
  end
  armed = OFF
end

---The end has come: from now on no handle is started or made, and no turn comes.
function M.leave()
  M.close()
  left = true
end

---@param f fun(): boolean whether the loop has been closed, though nothing has called leave
function M.watch_exit(f)
  is_exiting = f
end

---@return integer # of timeouts that are yet to come
function M.n_deadlines()
  return n_deadlines
end

---}===

return M
