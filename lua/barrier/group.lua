---Groups: when all jobs are done. A group counts with a barrier: each job is a party that
---deregisters when it is done, and so is the first wait. Whoever waits awaits the trip.
local core = require("barrier.environment").core()

local isyieldable = core.isyieldable or coroutine.isyieldable -- luacheck: ignore 143

-- PUC Lua 5.1 cannot wait inside pcall: there errors are raised as the barrier makes them.
local try = (jit or _VERSION ~= "Lua 5.1") and pcall or function(f, ...)
  return true, f(...)
end

---@class barrier.Group
---@field n_jobs integer how many jobs were added
---@field n_pending integer how many of them are not done
local Group = { __name = "barrier.Group" }
Group.__index = Group

---Raises an error at the line that called the method, unless `holds`.
local function check(holds, err)
  if not holds then
    error(err, 3)
  end
end

---What may fail comes first: should memory run out, the job is still pending.
local function finish(self, key, err, ...)
  local n, stops = select("#", ...), err and self._stop_on_error
  local pending, n_done = stops and {} or self._pending, stops and self.n_pending or 1
  if err then
    self._errors[key], self._results[key] = err, nil
  else
    local value = n > 1 and { n = n, ... } or (...)
    self._errors[key], self._results[key] = nil, value == nil or value
  end
  self._barrier:deregister(n_done)
  pending[key] = nil
  self._pending, self._stopped, self.n_pending = pending, stops, self.n_pending - n_done
end

---Adds a job. It is done when `done` is called, as luv calls its callbacks: with an error, or
---with nil and the results. A second call is ignored.
---@param key? any without one, the job's number: 1, 2, ...
---@return fun(err?: any, ...: any) done
function Group:add(key)
  check(getmetatable(self) == Group, "calling 'add' on bad self (group expected)")
  check(self.n_pending > 0 or not self._waited, "bad argument #1 to 'add' (the group is complete)")
  local number = self.n_jobs + 1
  key = key == nil and number or key
  check(key == key, "bad argument #1 to 'add' (key must not be NaN)")
  check(not self._pending[key], "bad argument #1 to 'add' (a job with this key is pending)")
  if not self._stopped then
    self._pending[key] = number
    self._barrier:register()
    self.n_pending = self.n_pending + 1
  end
  self.n_jobs = number
  return function(...)
    if self._pending[key] == number then
      finish(self, key, ...)
    end
  end
end

---@return any[] keys of the jobs that are not done, in order of adding
function Group:pending()
  local keys, numbers = {}, self._pending
  for key in pairs(numbers) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return numbers[a] < numbers[b]
  end)
  return keys
end

---Returns what a wait gives, `err` being what the barrier gave it: errors and results, or an
---error alone.
local function outcome(self, err)
  local timed_out = getmetatable(err) == core.TimeoutError
  if not err or timed_out and self.n_pending == 0 then
    return next(self._errors) ~= nil and self._errors or nil, self._results
  elseif timed_out then
    err.pending = self:pending()
    err.message = ("%s, %d of %d jobs were done, pending: %s%s"):format(err.message:match "^.- ms",
      self.n_jobs - self.n_pending, self.n_jobs, tostring(err.pending[1]),
      self.n_pending > 1 and ", ..." or "")
  end
  return err
end

---The callback for the barrier, which complains itself about what is not callable.
local function wrap(self, callback)
  if type(callback) ~= "function" and not (debug.getmetatable(callback) or {}).__call then
    return callback
  end
  return function(err)
    callback(outcome(self, err))
  end
end

---`wait` was called: from now on the group is complete when nothing is pending.
local function begin(self)
  local b = self._barrier
  if self.n_pending == 0 and self._asked ~= b.generation then
    self._asked = b.generation -- a trip for all who come before it
    b:arrive()
  elseif not self._waited then
    b:deregister()
  end
  self._waited = true
end

---Waits until all jobs are done: suspends the coroutine, or calls back and returns a Waiter.
---@param timeout? integer milliseconds
---@param callback? fun(errors?: table, results?: table) errors may be the error of the wait
---@return table? errors by key, nil if there was none
---@return table results by key
function Group:wait(timeout, callback)
  check(getmetatable(self) == Group, "calling 'wait' on bad self (group expected)")
  local b, number = self._barrier, type(timeout) == "number"
  local integer = number and timeout >= 0 and timeout % 1 == 0 and timeout < 2 ^ 63
  if callback ~= nil or not (timeout == nil or integer) or not isyieldable() then
    local ok, waiter = pcall(b.await_trip, b, wrap(self, timeout), wrap(self, callback))
    check(ok, tostring(waiter):gsub("'await_trip'", "'wait'"))
    begin(self)
    return waiter
  end
  begin(self)
  local ok, err = try(b.await_trip, b, self.n_pending > 0 and timeout or nil)
  local errors, results = outcome(self, not ok and err)
  check(results, errors)
  return errors, results
end

---Whoever waits, or will, gets a BrokenBarrierError with the reason.
function Group:abort(reason)
  self._barrier:abort(reason)
end

---@param b barrier.Barrier of one party, that trips in a turn of the loop, never at once
---@param stop_on_error? boolean
---@return barrier.Group
return function(b, stop_on_error)
  return setmetatable({
    n_jobs = 0, n_pending = 0, _pending = {}, _errors = {}, _results = {},
    _barrier = b, _stop_on_error = stop_on_error,
  }, Group)
end
