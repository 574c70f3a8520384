---Groups: jobs that run at the same time, and the parties that wait until all of them are done.
---group_jobs.lua knows the jobs; what is public is here.
local prefix = (...):gsub("[^.]+$", "")
local core = require(prefix .. "environment").core()
local waits = require(prefix .. "await")
local given = require(prefix .. "group_options")
local jobs = require(prefix .. "group_jobs")
local adding = require(prefix .. "group_start")

local is_callable, text_of = waits.is_callable, given.text_of
local isyieldable = core.isyieldable or coroutine.isyieldable -- luacheck: ignore 143
local MOST = math.maxinteger or (2 ^ 53) -- luacheck: ignore 143
local is_5_1 = _VERSION == "Lua 5.1" and not jit

---Jobs that run at the same time. Its fields can be read, not assigned.
---@class (exact) barrier.Group
---The number of jobs the group has had.
---@field n_jobs integer
---The number of jobs that are not done.
---@field n_pending integer
---The number of jobs that have begun and are not done.
---@field n_running integer
---The number of jobs that have failed.
---@field n_errors integer
---The results, by key. A job with several results has a table of them, packed as by `table.pack`; a
---job without any has true.
---@field results table<any, any>
---The errors of the jobs that have failed, by key.
---@field errors table<any, any>
---The errors, by key, of jobs that ended after the group was stopped, but for a CancelledError that
---the stop caused.
---@field late table<any, any>
local Group = {}

jobs.methods = Group -- for debug mode

local properties = {
  n_jobs = function(group) return group._n end,
  n_pending = jobs.n_pending,
  n_running = jobs.n_running,
  n_errors = function(group) return group._failed end,
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
  if getmetatable(self) ~= "barrier.Group" then
    error(("calling '%s' on bad self (group expected, got %s)"):format(name, type(self)),
      level or 3)
  end
end

---Raises an argument error at the line that called the method.
local function check(problem, name, position, level)
  if problem then
    error(("bad argument #%d to '%s' (%s)"):format(position, name, problem), level or 3)
  end
end

-- {=== adding jobs ===

---Adds a job that runs already; returns `done(err, ...)`, a callback that ends it.
---
---`done` is called once, from anywhere, as luv calls its callbacks: with an error, or with nil or
---false and the result. A second call is ignored. A key that the group has had already is an error
---(but see the option `expect`).
---
---A job may add others before it is done; once the group is complete, adding is an error. On a
---stopped group, `add` calls the `stop` it is given, and returns a `done` that does nothing.
---@param key? any anything but nil and NaN; default: the job's number, from 1 on
---@param stop? function|table|userdata what stops the job, see |barrier-group-stop|
---@return fun(err?: any, ...: any) done
function Group:add(key, stop)
  check_self(self, "add", 4)
  check(stop ~= nil and not given.stop_of(stop) and "stop must be a function, or have a method "
    .. "kill, cancel or close, got " .. type(stop), "add", 2, 4)
  local done = adding.add(self, key, stop, 4)
  return done
end

---Adds a job, and calls `start(done)` when there is room for it.
---
---That is at once, or in a turn of the loop after another job has ended. If `start` raises an
---error, or returns nil or false and an error as luv's functions do, the job has failed. Anything
---else that it returns stops the job, if it can, see |barrier-group-stop|. On a stopped group it
---does nothing.
---
---```lua
---group:start("ls", function(done)
---  return uv.spawn("ls", {}, function(status)
---    done(status ~= 0 and "exit status " .. status)
---  end)
---end)
---```
---@param key? any as for `group:add()`
---@param start fun(done: fun(err?: any, ...: any)): any, any
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
  adding.start(self, key, start, 3)
end

---Adds a job that is a coroutine; it begins as with `group:start()`.
---
---The values that `body` returns are its result. The value that it raises is its error, and so is a
---value that it returns after nil or false. So don't return what an await returns, nil and the
---result: that result would be the error. The job is stopped with `barrier.cancel()`; if it waits
---nowhere at that moment, its next wait fails. PUC Lua 5.1 has no `run`.
---@param key? any as for `group:add()`
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
  adding.run(self, key, body, 3)
end

---Lists the keys of the jobs that are not done, begun or not, in order of adding.
---@return any[] keys a new array
function Group:pending()
  check_self(self, "pending")
  return jobs.pending(self)
end

-- }===

-- {=== what a wait gives ===

---True if there is nothing to wait for.
local function is_over(group, name)
  return group._complete and (name == "wait" or jobs.n_pending(group) == 0)
end

---What a wait gives: the error, the results and the errors. `timeout` is its own that has passed.
---@param name "wait"|"join"
local function outcome(group, name, timeout)
  local cause, options, err = group._cause, group._options, nil
  local kind = cause and cause.kind
  if timeout and not is_over(group, name) then
    err = given.timeout(group, "wait", timeout, jobs.n_done(group), group._n, jobs.pending(group))
  elseif kind == "timeout" then
    err = given.timeout(group, "group", options.timeout, cause.n_done, cause.n_jobs, cause.pending)
  elseif kind == "abort" then
    err = given.error(group, "BrokenBarrierError", "group aborted", cause.pending)
    err.reason = cause.reason
  elseif kind ~= "result" and group._failed > 0 then
    err = given.failure(group, cause and cause.pending or {})
  elseif not cause and options.stop_on_result then
    err = given.error(group, "GroupError", "no job had a result", {})
  end
  return err, group._results, group._errors
end

-- }===

-- {=== waiting ===

---A party has come to the group's barrier, or is about to.
local function begin(group, name, b)
  group._waited = true
  if group._n == 0 and not group._complete and not group._cause then
    jobs.turn(group, function()
      group._complete = group._complete or group._n == 0
      jobs.settle(group)
    end)
  else
    jobs.settle(group)
  end
  if is_over(group, name) then
    waits.ask(b)
  end
end

local function has_timed_out(err)
  return getmetatable(err) == core.TimeoutError
end

local function with_callback(group, name, timeout, callback)
  local b = jobs.barrier(group, "_" .. name)
  local f, limit = callback, timeout
  if f == nil and type(timeout) ~= "number" then
    f = timeout
  end
  local wrapped = is_callable(f) and function(err)
    if not err then
      jobs.release(group, "_" .. name, b)
    end
    f(outcome(group, name, has_timed_out(err) and limit))
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
  begin(group, name, b)
  return waiter
end

---@return any ... what `wait` returns
local function wait_for(group, name, timeout, callback, extra)
  local is_timeout = type(timeout) == "number" and timeout >= 0 and timeout % 1 == 0
    and timeout <= MOST
  if extra ~= nil then
    error(("bad argument #%d to '%s' (%s)"):format(3, name, "nothing comes after the callback"), 3)
  elseif callback ~= nil or not (timeout == nil or is_timeout) or not isyieldable() then
    local waiter = with_callback(group, name, timeout, callback)
    return waiter
  end
  waits.check()
  local b = jobs.barrier(group, "_" .. name)
  begin(group, name, b)
  local err = waits.suspend(b, not is_over(group, name) and timeout or nil)
  if not err then
    jobs.release(group, "_" .. name, b)
  elseif not has_timed_out(err) then
    if type(err) == "table" then -- and not that the stack is full, or the like
      err.barrier, err.group = nil, group
    end
    error(err, 0)
  end
  return outcome(group, name, has_timed_out(err) and timeout)
end

---Waits until all jobs are done or the group is stopped, then gives an error, the results and the
---errors.
---
---In a coroutine it suspends the coroutine, and returns them. With a callback it works anywhere: it
---returns a Waiter at once, and calls `callback(err, results, errors)` exactly once, later, from
---the loop. A group without a job is complete in the turn after the call.
---
---The error is nil if every job was done without an error, or if a result stopped the group.
---Otherwise it is a `barrier.GroupError` if jobs failed, a `barrier.TimeoutError`, or, after
---`group:abort()`, a `barrier.BrokenBarrierError`. After the timeout of a wait the group goes on.
---
---The outcome of the jobs is never raised. The only error raised is the `barrier.CancelledError` of
---a coroutine that is cancelled; the jobs go on then.
---
---@param timeout? integer milliseconds from the call, >= 0
---@param callback? nil
---@return barrier.GroupError? err
---@return table<any, any> results the group's own table, by key
---@return table<any, any> errors the group's own table, by key
---@overload fun(self: barrier.Group, callback: barrier.on_group): barrier.Waiter
---@overload fun(self: barrier.Group, timeout: integer?, callback: barrier.on_group): barrier.Waiter
function Group:wait(timeout, callback, ...)
  check_self(self, "wait")
  local err, results, errors = wait_for(self, "wait", timeout, callback, (...))
  return err, results, errors
end

---As `group:wait()`, but after a stop it waits until the jobs that were running are done, too.
---
---@param timeout? integer milliseconds from the call, >= 0
---@param callback? nil
---@return barrier.GroupError? err
---@return table<any, any> results the group's own table, by key
---@return table<any, any> errors the group's own table, by key
---@overload fun(self: barrier.Group, callback: barrier.on_group): barrier.Waiter
---@overload fun(self: barrier.Group, timeout: integer?, callback: barrier.on_group): barrier.Waiter
function Group:join(timeout, callback, ...)
  check_self(self, "join")
  local err, results, errors = wait_for(self, "join", timeout, callback, (...))
  return err, results, errors
end

-- }===

-- {=== stopping ===

---Stops the group, unless it is complete: each wait gives a `barrier.BrokenBarrierError`.
---@param reason? any becomes `err.reason` of these errors
function Group:abort(reason)
  check_self(self, "abort")
  jobs.stop(self, { kind = "abort", reason = reason })
end

---Stops the group with the reason "closed", unless it is complete.
---
---So a group can be the stop of a job of another group, and Lua 5.4 can close it at the end of a
---block: `local group <close> = barrier.group()`.
---
---```lua
---inner:join(outer:add("inner", inner))
---```
---@param on_close? fun() called from the loop
function Group:close(on_close)
  check_self(self, "close")
  check(on_close ~= nil and not is_callable(on_close)
    and "on_close must be callable, got " .. type(on_close), "close", 1)
  jobs.stop(self, { kind = "abort", reason = "closed" })
  if on_close ~= nil then
    jobs.turn(self, on_close)
  end
end

---True once the group is stopped or complete.
---@return boolean is_closing
function Group:is_closing()
  check_self(self, "is_closing")
  ---@cast self barrier.GroupInternals
  return self._complete or self._cause ~= false
end

-- }===

-- What a group has not yet of its own.
local defaults = {
  _first = 1, _may_stop = true, _active = 0, _deadline = false, _alarm = false,
  _follows = false, _expected = false, _idle = false, _queue = false, _started = false,
  _pumps = false, _late = false, _join = false,
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
      text_of(key)), 2)
  end
  rawset(self, key, value)
end

function metatable.__tostring(self)
  local name, n_failed = self._options.name, self._failed
  return ("<barrier.Group %s%s [%d/%d done%s]>"):format(name and ('"%s" '):format(name) or "",
    tostring(self._keys):match "0x%x+" or "?", jobs.n_done(self), self._n,
    n_failed > 0 and (", %d failed"):format(n_failed) or "")
end

function metatable.__close(self)
  Group.close(self)
end

local NO_OPTIONS = {}

---@return barrier.Group
local function new(options)
  local self = setmetatable({
    _keys = {}, _numbers = {}, _n = 0, _done = 0, _results = {}, _errors = {},
    _is_open = true, _is_plain = true, _waited = false, _complete = false, _cause = false,
    _failed = 0, _wait = false, _options = options or NO_OPTIONS, add = false,
  }, metatable)
  self.add = adding.new_add(self, Group.add)
  if options then
    given.apply(self, options)
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
  local problem, group = given.refuse(options), nil
  if not problem and options.name then
    group, problem = given.find(options)
  end
  if problem then
    error("bad argument #1 to 'group' (" .. problem .. ")", 2)
  elseif not group then
    group = new(options)
    if options.expect then
      adding.expect(group, options.expect)
    end
    if options.name then
      given.remember(group, options)
    end
  end
  return group
end
