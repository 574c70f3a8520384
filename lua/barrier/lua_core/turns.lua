---The core in Lua, 2 of 6: which barrier is served in which turn of the loop, and what times out
---next. A turn is a number that counts up. It serves what became ready before it began.
local loop = require((...):gsub("turns$", "loop"))

local floor = math.floor
local NOW = loop.NOW
local FURTHEST = 9007199254740992 -- a timeout beyond this never passes
local M = {
  turn = 0, -- the number of the last turn that has begun
}

---{=== lists: of parties, and of barriers

---A ring, of which the list itself is a part.
---@class barrier.List
---@field next table the first element, or the list
---@field prev table the last element, or the list
---@field count integer

---@return barrier.List
function M.list()
  local list = { next = false, prev = false, count = 0 }
  list.next, list.prev = list, list
  return list
end

---@param behind table an element of the list, or the list: then `node` becomes the last
local function insert(list, node, behind)
  local before = behind.prev
  node.place, node.prev, node.next = list, before, behind
  before.next, behind.prev = node, node
  list.count = list.count + 1
end

local function unlink(node)
  local list, before, behind = node.place, node.prev, node.next
  before.next, behind.prev = behind, before
  list.count = list.count - 1
  node.place, node.prev, node.next = false, false, false -- nothing is kept alive
end

M.insert, M.unlink = insert, unlink

---}=== {=== deadlines

local deadlines, n_deadlines, n_made = {}, 0, 0 -- a binary heap

local function before(a, b)
  return a.at < b.at or a.at == b.at and a.order < b.order
end

local function put(i, deadline)
  deadlines[i], deadline.index = deadline, i
end

---Finds the place of a deadline, from the gap at `i` on.
local function sift(i, deadline)
  local parent = floor(i / 2)
  while parent > 0 and before(deadline, deadlines[parent]) do
    put(i, deadlines[parent])
    i, parent = parent, floor(parent / 2)
  end
  local child = 2 * i
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

---A deadline, to be added when the wait has begun. It counts from now: the loop's clock is behind
---when the program has computed for a while. It never passes early.
---@param owner barrier.Node|barrier.Machine its field `deadline` is the one that was added
---@param expire fun(owner, deadline) the time has passed
function M.deadline(owner, timeout, expire)
  local at, lag = loop.fresh_now()
  if timeout > 0 then
    at = at + lag + math.min(timeout, FURTHEST)
  end
  n_made = n_made + 1
  return { owner = owner, timeout = timeout, expire = expire, index = false, at = at,
    order = n_made }
end

function M.add(deadline)
  n_deadlines = n_deadlines + 1
  sift(n_deadlines, deadline)
  deadline.owner.deadline = deadline
  loop.wake(deadline.at)
end

local function take_out(deadline)
  local i, last = deadline.index, deadlines[n_deadlines]
  deadlines[n_deadlines], n_deadlines = nil, n_deadlines - 1
  deadline.index, deadline.owner.deadline = false, false
  if last ~= deadline then
    sift(i, last)
  elseif n_deadlines == 0 then
    deadlines = {} -- gives the memory back that a crowd has needed
  end
end

---Many timeouts that pass together leave the loop its turns.
local function expire()
  local now, n = n_deadlines > 0 and loop.now(), 0
  while n_deadlines > 0 and deadlines[1].at <= now do
    local deadline = deadlines[1]
    if n == loop.CREDIT then
      loop.let_poll()
      return
    end
    n = n + 1
    deadline.expire(deadline.owner, deadline)
    if deadline.index then
      take_out(deadline)
    end
  end
end

---@return integer # of timeouts that are yet to come
function M.n_deadlines()
  return n_deadlines
end

---}=== {=== the queues

-- The barriers that have something to do: those that the timer serves, and those that are served
-- in calls that `schedule` schedules, without the timer.
local timed, direct = M.list(), M.list()
local schedule ---@type fun(f: fun())?
local is_scheduled = false -- whether such a call is to come

---@param f fun(f: fun()) the option `schedule` of the barriers that are served in its calls
function M.schedule_by(f)
  schedule = f
end

---@param by function|false|nil the barrier's option `schedule`
---@return barrier.List queue in which the barrier stands when it has something to do
---@return function|false|nil schedule what is called then
function M.queue_of(by)
  if by and by == schedule then
    return direct, nil
  end
  return timed, by
end

---Makes sure that a turn comes.
local function prepare(queue)
  if queue == timed or loop.credit <= 0 then
    loop.wake(NOW)
  elseif not is_scheduled and not loop.left then
    schedule(M.on_schedule)
    is_scheduled = true
  end
end

---The barrier is served in a later turn, if it has anything to do.
function M.enqueue(m)
  if not m.place and M.busy(m) then
    m.since = M.turn
    insert(m.queue, m, m.queue)
  end
end

---The same where the timer may not be running.
function M.request(m)
  M.enqueue(m)
  if m.place then
    prepare(m.queue)
  end
end

---The barrier is not served.
function M.dismiss(m)
  if m.place then
    unlink(m)
  end
end

---Starts the timer for what comes next, or stops it.
local function settle()
  if timed.count > 0 or direct.count > 0 and not is_scheduled then
    loop.wake(NOW)
  elseif n_deadlines > 0 then
    loop.wake(deadlines[1].at)
  else
    loop.rest()
  end
end

---Removes the deadline of a node or a barrier, if it has one.
function M.clear(owner)
  if owner.deadline then
    take_out(owner.deadline)
    if n_deadlines == 0 then
      settle()
    end
  end
end

---}=== {=== turns

---Serves what became ready before this turn.
local function run_turn(queue, reports)
  local turn = M.turn + 1
  M.turn = turn
  local m = queue.next
  while m ~= queue and m.since < turn do
    loop.credit = loop.credit - 1
    unlink(m) -- behind the others, where a nested loop finds it
    m.since = turn
    insert(queue, m, queue)
    M.serve(m, turn, reports)
    if not M.busy(m) then
      M.dismiss(m)
    end
    m = queue.next
  end
end

---Turns, one after the other as long as there is credit, since starting the timer costs more than
---a small trip.
local function run_turns(queue, reports)
  while queue.count > 0 and not reports[1] do
    -- A loop that is run inside serves the others, and no error loses a turn.
    if queue == timed then
      loop.stay_awake()
    else
      prepare(queue)
    end
    run_turn(queue, reports)
    if loop.credit <= 0 then
      return
    end
  end
end

---The end of a call. What was not caught is reported: luv or Neovim shows what its callback raises.
local function finish(reports)
  settle()
  if reports[1] then
    error(table.concat(reports, "\n"), 0)
  end
end

function loop.on_timer()
  local reports = {}
  expire()
  if direct.count > 0 then
    prepare(direct)
  end
  run_turns(timed, reports)
  finish(reports)
end

---What `schedule` calls.
function M.on_schedule()
  local reports = {}
  is_scheduled = false
  if loop.credit > 0 and not loop.left then -- otherwise the loop polls before
    run_turns(direct, reports)
  end
  finish(reports)
end

---Runs a turn for one barrier alone, which was requested.
function M.run_alone(m)
  local reports = {}
  if M.busy(m) and not loop.left then
    M.turn = M.turn + 1
    M.drain(m, M.turn, reports)
    if not M.busy(m) then
      M.dismiss(m)
    end
    finish(reports)
  end
end

---}===

return M
