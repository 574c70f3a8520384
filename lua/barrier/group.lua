---Groups: jobs that run at the same time, and the parties that wait until all of them are done.
---group_jobs.lua knows the jobs; what is public is here.
local prefix = (...):gsub("[^.]+$", "")
local jobs = require(prefix .. "group_jobs")
local adding = require(prefix .. "group_add")
local turns = require(prefix .. "group_turns")
local choices = require(prefix .. "group_options")
local outcome = require(prefix .. "group_outcome")
local cancels = require(prefix .. "await")
local core = require(prefix .. "environment").core()

local is_callable, check_cancel = cancels.is_callable, cancels.check
local isyieldable = core.isyieldable or coroutine.isyieldable -- luacheck: ignore 143
local is_5_1 = _VERSION == "Lua 5.1" and not jit

---Jobs that run at the same time. Its fields are read-only.
---@class (exact) barrier.Group
---@field n_jobs integer how many jobs it has had
---@field n_pending integer how many of them are not done
---@field n_running integer how many have begun and are not done
---@field n_errors integer how many have failed
---@field results table<any, any> by key
---@field errors table<any, any> by key
---@field late table<any, any> by key: errors of jobs that ended after the group was stopped
local Group = {}

---Adds a job that runs already. It is done when `done` is called, as luv calls its callbacks: with
---an error, or with nil and the result. A second call is ignored.
---@param key? any without one, the job's number: 1, 2, ...
---@param stop? function|table|userdata called when the group is stopped while the job runs
---@return fun(err?: any, ...: any) done
function Group:add(key, stop) -- luacheck: ignore 212
end

jobs.methods = Group -- for debug mode

local properties = {
  n_jobs = function(group) return group._n end,
  n_pending = jobs.n_pending,
  n_running = jobs.n_running,
  n_errors = function(group) return turns.total(group, "_failed") end,
  results = function(group) return group._results end,
  errors = function(group) return group._errors end,
  late = function(group)
    group._late = group._late or {}
    return group._late
  end,
}

local metatable = { __name = "barrier.Group", __metatable = "barrier.Group" }

---Raises an error if a method was called on anything else.
local function check_self(self, name, level)
  if type(self) ~= "table" or rawget(self, "_keys") == nil then
    error(("calling '%s' on bad self (group expected, got %s)"):format(name, type(self)),
      level or 3)
  end
end

---Raises an argument error at the line that called the method.
local function check(problem, name, position)
  if problem then
    error(("bad argument #%d to '%s' (%s)"):format(position, name, problem), 3)
  end
end

-- {=== adding jobs ===

local new_done, enlist = jobs.new_done, adding.enlist

local function ignored() end

---Begins a job that the group starts. Its file is loaded when it is needed.
local function launch(...)
  launch = require(prefix .. "group_start").launch
  launch(...)
end

---A job of the option `expect`, if it is one.
local function find_expected(self, key)
  local expected = rawget(self, "_expected")
  return expected and key ~= nil and expected[key] or nil
end

---`add`, unless that is all simple.
local function add(self, key, stop)
  check_self(self, "add", 4)
  if stop ~= nil and not jobs.stop_of(stop) then
    error(("bad argument #2 to '%s' (%s, got %s)"):format("add",
      "stop must be a function, or have a method kill, cancel or close", type(stop)), 3)
  end
  local expected, number = find_expected(self, key), nil
  if expected then
    number, expected.has_begun = expected.number, true
    self._idle[number] = nil
  elseif not self._cause then
    number = enlist(self, key, "add")
  end
  if stop ~= nil then
    if self._cause then
      jobs.call_stop(self, stop)
    else
      jobs.give_stop(self, number, stop)
    end
  end
  return expected and expected.done or number and new_done(self, number) or ignored
end

---The number and the `done` of a job that the group will start; nil if it was stopped.
---@return integer? number
---@return function? done
local function new_job(self, key, name)
  local expected = find_expected(self, key)
  if self._cause then
    return nil
  elseif not expected then
    local number = enlist(self, key, name)
    return number, new_done(self, number)
  elseif expected.has_begun then
    error(("bad argument #1 to '%s' (the job %s has begun)"):format(name, jobs.text_of(key)), 3)
  end
  expected.has_begun = true
  return expected.number, expected.done
end

---Adds a job, and calls `start(done)` when there is room for it.
---
---```lua
---group:start("ls", function(done)
---  return uv.spawn("ls", {}, function(status)
---    done(status ~= 0 and "exit status " .. status)
---  end)
---end)
---```
---@param key? any
---@param start fun(done: fun(err?: any, ...: any)): any, any returns what stops the job
---@overload fun(self: barrier.Group, start: fun(done: fun(err?: any, ...: any)): any, any)
function Group:start(key, start)
  check_self(self, "start")
  if start == nil then
    key, start = nil, key
  end
  if type(start) ~= "function" then
    check(not is_callable(start) and "start must be callable, got " .. type(start), "start",
      key == nil and 1 or 2)
  end
  local number, done = new_job(self, key, "start")
  if number then
    launch(self, number, start, done)
  end
end

---Adds a job that is a coroutine. What `body` returns is its result, what it raises its error.
---@param key? any
---@param body fun(): ...
---@overload fun(self: barrier.Group, body: fun(): ...)
function Group:run(key, body)
  check_self(self, "run")
  if is_5_1 then
    error("a group has no 'run' in Lua 5.1, whose pcall cannot yield; use start or add", 2)
  elseif body == nil then
    key, body = nil, key
  end
  check(not is_callable(body) and "body must be callable, got " .. type(body), "run",
    key == nil and 1 or 2)
  local number, done = new_job(self, key, "run")
  if number then
    local start = require(prefix .. "group_start")
    launch(self, number, start.coroutine_job(self, number, body), done)
  end
end

---@return any[] keys of the jobs that are not done, in order of adding
function Group:pending()
  check_self(self, "pending")
  return jobs.pending(self)
end

-- }===

-- {=== waiting ===

---Is there nothing to wait for?
local function is_over(self, name)
  return self._complete and (name == "wait" or jobs.n_pending(self) == 0)
end

---A party has come to the group's barrier, or is about to.
local function begin(self, name, b)
  self._waited = true
  if self._n == 0 and not self._complete and not self._cause then
    turns.turn(self, function()
      self._complete = self._complete or self._n == 0
      self._is_open = self._is_open and not self._complete
      jobs.settle(self)
    end)
  else
    jobs.settle(self)
  end
  if is_over(self, name) then
    turns.ask(b)
  end
end

local function has_timed_out(err)
  return getmetatable(err) == core.TimeoutError
end

local function with_callback(self, name, timeout, callback)
  local b = turns.barrier(self, "_" .. name)
  local f, limit = callback, timeout
  if f == nil and type(timeout) ~= "number" then
    f = timeout
  end
  local wrapped = is_callable(f) and function(err)
    if not err then
      turns.release(self, "_" .. name, b)
    end
    f(outcome(self, has_timed_out(err) and limit))
  end or f
  if f == callback then
    callback = wrapped
  else
    timeout = wrapped
  end
  local ok, waiter = pcall(b.await_trip, b, timeout, callback)
  if not ok then
    error(tostring(waiter):gsub("'await_trip'", "'" .. name .. "'"), 4)
  end
  begin(self, name, b)
  return waiter
end

local function wait_for(self, name, timeout, callback, extra)
  local is_timeout = type(timeout) == "number" and timeout >= 0 and timeout % 1 == 0
    and timeout < 2 ^ 63
  if extra ~= nil then
    error(("bad argument #%d to '%s' (%s)"):format(3, name, "nothing comes after the callback"), 3)
  elseif callback ~= nil or not (timeout == nil or is_timeout) or not isyieldable() then
    local waiter = with_callback(self, name, timeout, callback)
    return waiter
  end
  check_cancel()
  local b = turns.barrier(self, "_" .. name)
  begin(self, name, b)
  local err = turns.suspend(self, b, not is_over(self, name) and timeout or nil)
  local timed_out = has_timed_out(err)
  if not err then
    turns.release(self, "_" .. name, b)
  elseif not timed_out then
    err.barrier, err.group = nil, self
    error(err, 0)
  end
  return outcome(self, timed_out and timeout)
end

---Waits until all jobs are done, or the group is stopped: suspends the coroutine, or calls back
---and returns a Waiter. It raises nothing but the CancelledError of a coroutine that is cancelled.
---@param timeout? integer milliseconds, >= 0, from this call on
---@param callback? nil
---@return barrier.GroupError? err
---@return table<any, any> results by key
---@return table<any, any> errors by key
---@overload fun(self: barrier.Group, callback: barrier.on_group): barrier.Waiter
---@overload fun(self: barrier.Group, timeout: integer?, cb: barrier.on_group): barrier.Waiter
function Group:wait(timeout, callback, ...)
  check_self(self, "wait")
  local err, results, errors = wait_for(self, "wait", timeout, callback, (...))
  return err, results, errors
end

---As `wait`. If the group was stopped, it waits until the jobs that ran then are done.
---@param timeout? integer milliseconds, >= 0, from this call on
---@param callback? nil
---@return barrier.GroupError? err
---@return table<any, any> results by key
---@return table<any, any> errors by key
---@overload fun(self: barrier.Group, callback: barrier.on_group): barrier.Waiter
---@overload fun(self: barrier.Group, timeout: integer?, cb: barrier.on_group): barrier.Waiter
function Group:join(timeout, callback, ...)
  check_self(self, "join")
  local err, results, errors = wait_for(self, "join", timeout, callback, (...))
  return err, results, errors
end

-- }===

-- {=== stopping ===

---Stops the group, unless it is complete: calls the stop of each job that runs. Each wait gets a
---BrokenBarrierError with the reason.
---@param reason? any
function Group:abort(reason)
  check_self(self, "abort")
  jobs.stop(self, { kind = "abort", reason = reason })
end

---Stops the group, unless it is complete, with the reason "closed".
---@param on_close? fun() called from the loop
function Group:close(on_close)
  check_self(self, "close")
  check(on_close ~= nil and not is_callable(on_close)
    and "on_close must be callable, got " .. type(on_close), "close", 1)
  jobs.stop(self, { kind = "abort", reason = "closed" })
  if on_close ~= nil then
    turns.turn(self, on_close)
  end
end

---@return boolean closing is it stopped or complete?
function Group:is_closing()
  check_self(self, "is_closing")
  return self._complete or self._cause ~= false
end

-- }===

-- What a group has not yet of its own.
local defaults = {
  _first = 1, _may_stop = true, _dropped = 0, _active = 0, _deadline = false,
  _follows = false, _expected = false, _idle = false, _queue = false, _started = false,
  _pumps = false, _late = false, _join = false, _turn = false, _clock = false,
}

function metatable.__index(self, key)
  local method = Group[key]
  if method ~= nil then
    return method
  elseif properties[key] then
    return properties[key](self)
  end
  return defaults[key]
end

function metatable.__newindex(self, key, value)
  if defaults[key] == nil then
    error(("cannot assign to '%s': the members of a group are read-only"):format(
      jobs.text_of(key)), 2)
  end
  rawset(self, key, value)
end

function metatable.__tostring(self)
  local n_failed, n_dropped = turns.total(self, "_failed"), turns.total(self, "_dropped")
  local name = self._options.name
  return ("<barrier.Group %s%s [%d/%d done%s]>"):format(name and ('"%s" '):format(name) or "",
    tostring(self._keys):match "0x%x+" or "?", self._done - n_dropped, self._n,
    n_failed > 0 and (", %d failed"):format(n_failed) or "")
end

function metatable.__close(self)
  Group.close(self)
end

local NO_OPTIONS = {}

---@return barrier.Group
local function new(options)
  -- The keys of the jobs are by number, and what stops them by the negative number; the numbers are
  -- by key. All below `_first` are done.
  local self = setmetatable({
    _keys = {}, _numbers = {}, _n = 0, _done = 0, _results = {}, _errors = {},
    _is_open = true, _is_plain = true, _waited = false, _complete = false, _cause = false,
    _failed = 0, _wait = false, _alarm = false, _options = options or NO_OPTIONS, add = false,
  }, metatable)
  self.add = adding.new_add(self, add)
  if options then
    choices.apply(self, options)
  end
  return self
end

---Makes a group, or finds the one of that name.
---@param options? barrier.GroupOptions
---@return barrier.Group
return function(options)
  if options == nil then
    return new()
  end
  local problem, group = choices.refuse(options), nil
  if not problem and options.name then
    group, problem = choices.find(options)
  end
  if problem then
    error("bad argument #1 to 'group' (" .. problem .. ")", 2)
  elseif not group then
    group = new(options)
    if options.expect then
      adding.expect(group, options.expect)
    end
    if options.name then
      choices.remember(group, options)
    end
  end
  return group
end
