---Debug mode: each wait, arrival and job is noted, with when and where it was made. Switching it on
---exchanges the methods for others that note; so when it is off, it costs nothing.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local frames = require(prefix .. "frames")
local adding = require(prefix .. "group_start")
local jobs = require(prefix .. "group_jobs")
require(prefix .. "group")
local is_callable = require(prefix .. "await").is_callable
local core = environment.core()

local running = coroutine.running
local isyieldable = core.isyieldable or coroutine.isyieldable -- luacheck: ignore 143
local hrtime = environment.luv().hrtime

---@class barrier.debug.Wait
---@field since number milliseconds of uv.hrtime
---@field where string file and line
---@field key? thread|string of its party

local RECORD = { __mode = "v" } -- keeps no coroutine alive

---@param key? thread|string
---@return barrier.debug.Wait
local function new_record(key)
  return setmetatable({ since = hrtime() / 1e6, where = frames.caller(), key = key }, RECORD)
end

local function weak()
  return setmetatable({}, { __mode = "k" })
end

---What each barrier remembers of the waits at it and of its phases; it keeps no party alive. All
---copies of this module that use one core share it.
---@class barrier.debug
---@field waits table<barrier.Barrier, table<thread|barrier.Waiter, barrier.debug.Wait>>
---@field phases table<barrier.Barrier, table<integer, table<thread|string, integer>>> how often a
---  party has passed in each trip or, without waiting, has arrived for it
local book = core.debugging

local function inner(of, b)
  local list = of[b]
  if not list then
    list = weak()
    of[b] = list
  end
  return list
end

-- {=== phases ===

---A party has passed in this trip, or has arrived for it.
local function count(b, generation, key, n)
  local phases = inner(book.phases, b)
  for old in pairs(phases) do
    if old < b.generation then
      phases[old] = nil
    end
  end
  phases[generation] = phases[generation] or weak()
  phases[generation][key] = (phases[generation][key] or 0) + n
end

---The trip for which a party arrives now. While an action runs, it is the next but one.
local function next_trip(b)
  local held = b.state == "filling" and b.parties > 0 and b.n_arrived >= b.parties
  return b.generation + (held and 2 or 1)
end

---The running coroutine, or the text.
local function key_of(text)
  local co, is_main = running()
  return co and not is_main and co or text
end

---The parties of the previous phase that are not in this one.
---@return { key: thread|string, n: integer }[]
local function absent(b)
  local phases, left, list = book.phases[b] or {}, {}, {}
  if b.broken or (b.state or "filling") ~= "filling" then
    return list
  end
  for key, n in pairs(phases[b.generation] or {}) do
    left[key] = n - ((phases[b.generation + 1] or {})[key] or 0)
  end
  for _, party in ipairs((core.waiters or b.waiters)(b)) do
    local record = inner(book.waits, b)[party]
    local key = record and record.key or party
    left[key] = left[key] and left[key] - 1
  end
  for key, n in pairs(left) do
    if n > 0 then
      list[#list + 1] = { key = key, n = n }
    end
  end
  return list
end

-- }===

-- {=== the methods of barriers ===

---The results of a method that pcall has called, which never suspends. Its error is one of the line
---that called the method that stands for it, as many levels above as that says.
local function results_of(level, ok, ...)
  if not ok then
    error((...), level + 1)
  end
  return ...
end

local function is_barrier(value)
  local name = getmetatable(value)
  return (name == "barrier.Barrier" or name == "barrier.Shared") and value.generation ~= nil
end

---True if the call will suspend the coroutine or pass, and raise no argument error.
local function can_suspend(self, timeout, ...)
  for i = 1, select("#", ...) do
    if select(i, ...) ~= nil then
      return false
    end
  end
  return is_barrier(self) and isyieldable()
    and (timeout == nil or type(timeout) == "number" and timeout >= 0 and timeout % 1 == 0
      and timeout <= 2 ^ 53)
end

---A wait in callback style, or one that fails.
local function call_back(original, passes, self, first, second, ...)
  local f, record = is_callable(first) and first or second, nil
  if is_callable(f) then
    record = new_record(key_of("callback, defined at " .. frames.definition(f)))
    local called = function(...)
      if passes and (...) == nil and record.key then
        count(self, self.generation, record.key, 1)
      end
      return f(...)
    end
    if f == first then
      first = called
    else
      second = called
    end
  end
  local waiter = results_of(3, pcall(original, self, first, second, ...))
  inner(book.waits, self)[waiter] = record
  return waiter
end

---@param passes boolean is a party that waits one of the barrier's?
local function new_wait(original, passes)
  return function(self, first, ...)
    if not can_suspend(self, first, ...) then
      local waiter = call_back(original, passes, self, first, ...)
      return waiter
    end
    local co = running()
    inner(book.waits, self)[co] = new_record()
    local result = original(self, first)
    if passes then
      count(self, self.generation, co, 1)
    end
    return result
  end
end

local make = {}

function make.wait(original) return new_wait(original, true) end

function make.await_trip(original) return new_wait(original, false) end

function make.with()
  return function(self, ...)
    local _, ok, problem = pcall(pcall, core.check_with, self, isyieldable(), ...)
    results_of(2, ok, problem)
    local body = ...
    return body(core.members.wait(self))
  end
end

function make.arrive(original)
  return function(self, n, ...)
    local trip = is_barrier(self) and next_trip(self)
    local key = key_of("call of arrive at " .. frames.caller())
    local arrived, problem = results_of(2, pcall(original, self, n, ...))
    if arrived then
      count(self, trip, key, n or 1)
      return arrived
    end
    return arrived, problem
  end
end

function make.reset(original)
  return function(self, ...)
    results_of(2, pcall(original, self, ...))
    local phases = inner(book.phases, self)
    for generation in pairs(phases) do
      if generation > self.generation then
        phases[generation] = nil
      end
    end
  end
end

-- }===

-- {=== groups ===

---Notes where a job is added.
---@return table places
---@return any key of the job
---@return table? before what was noted of the key
local function note_job(group, key)
  local places = rawget(group, "_places") or {}
  rawset(group, "_places", places)
  if key == nil then
    key = group._n + 1
  end
  local before = places[key]
  if key == key then
    places[key] = new_record()
  end
  return places, key, before
end

---Notes a job, and adds it.
local function note_and_call(group, key, f, ...)
  if not (type(group) == "table" and getmetatable(group) == "barrier.Group") then
    return pcall(f, group, ...)
  end
  local places, number, before = note_job(group, key)
  local ok, result = pcall(f, group, ...)
  if not ok and number == number then
    places[number] = before
  end
  return ok, result
end

local function noting_add(original)
  return function(self, key, ...)
    return (results_of(2, note_and_call(self, key, original, key, ...)))
  end
end

local function noting(original)
  return function(self, key, f, ...)
    local name = key
    if f == nil then
      name = nil
    end
    results_of(2, note_and_call(self, name, original, key, f, ...))
  end
end

function make.new_add(original)
  return function(...)
    return noting_add(original(...))
  end
end

function make.expect(original)
  return function(group, keys)
    original(group, keys)
    for _, key in ipairs(keys) do
      note_job(group, key)
    end
  end
end

local function add_traceback(err)
  return type(err) == "string" and debug.traceback(err, 2) or err
end

local function raise(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

function make.body_of()
  return function(group, number, body)
    return function()
      local place = (rawget(group, "_places") or {})[group._keys[number]]
      if place then
        place.co = running()
      end
      return raise(xpcall(body, add_traceback))
    end
  end
end

make.start, make.run = noting, noting

---@return { key: any, since: number, where: string, co?: thread }[]
local function jobs_of(group)
  local places, list = rawget(group, "_places") or {}, {}
  for _, key in ipairs(group:pending()) do
    local place = places[key]
    if place then
      table.insert(list, { key = key, since = place.since, where = place.where, co = place.co })
    end
  end
  return list
end

-- }===

-- {=== switching ===

---@return table[] exchanged what puts the original functions back: { table, name, function }
local function exchange(members, ...)
  local exchanged = {}
  for i, name in ipairs { ... } do
    exchanged[i] = { members, name, members[name] }
    members[name] = make[name](members[name])
  end
  return exchanged
end

---Puts the original functions back.
local function restore(exchanged)
  for _, one in ipairs(exchanged) do
    one[1][one[2]] = one[3]
  end
end

---A barrier of the C core that is much used has a metatable of its own, which keeps `wait`.
local function refresh()
  for _, b in ipairs(core.barriers(true)) do
    local index = debug.getmetatable(b).__index
    if type(index) == "table" then
      index.wait = core.members.wait
    end
  end
end

local function exchange_methods()
  book = {
    waits = weak(), phases = weak(), absent = absent, jobs_of = jobs_of,
    members = exchange(core.members, "wait", "await_trip", "with", "arrive", "reset"),
    shared = core.shared_members and exchange(core.shared_members, "wait", "arrive", "reset") or {},
  }
  function book.wait_of(b, party)
    return (book.waits[b] or {})[party]
  end
  function book.age_of(record)
    return hrtime() / 1e6 - record.since
  end
  core.debugging = book
  refresh()
end

---What was exchanged in the files of this copy; nil if the mode is off.
local adds, methods

local function exchange_groups()
  adds = exchange(adding, "new_add", "expect", "body_of")
  methods = exchange(jobs.methods, "start", "run")
  for _, group in pairs(core.owners) do
    if getmetatable(group) == "barrier.Group" then
      rawset(group, "add", noting_add(group.add))
    end
  end
end

---Switches debug mode on or off.
---@param on? boolean without it, nothing changes
---@return boolean was_on
return function(on)
  local was_on = core.debugging ~= nil
  if on ~= nil and type(on) ~= "boolean" then
    error(("bad argument #1 to '%s' (%s, got %s)"):format("debug", "boolean expected", type(on)), 3)
  elseif on and not was_on then
    exchange_methods()
  elseif on == false and was_on then
    restore(book.members)
    restore(book.shared)
    core.debugging = nil
    refresh()
  end
  if on and not adds then
    book = core.debugging
    exchange_groups()
  elseif on == false and adds then
    restore(adds)
    restore(methods)
    adds = nil
  end
  return was_on
end

-- }===
