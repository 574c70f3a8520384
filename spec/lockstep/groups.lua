---Random steps over groups, compared with a plain model of what a group promises.
local uv = require "luv"
local barrier = require "barrier"

local M = {}

local DONE = { nothing = true }

-- {=== the model ===

---What a group is expected to be. The jobs are in order of adding.
local Model = {}
Model.__index = Model

local function new_model(options)
  return setmetatable({
    options = options, jobs = {}, results = {}, errors = {}, late = {}, n_errors = 0, waits = {},
    queue = {}, n_started = 0, stops = {},
  }, Model)
end

function Model:pending()
  local keys = {}
  for _, job in ipairs(self.jobs) do
    if job.state ~= DONE then
      keys[#keys + 1] = job.key
    end
  end
  return keys
end

function Model:settle()
  if self.waited and not self.stopped and #self.jobs > 0 and #self:pending() == 0 then
    self.complete = true
  end
end

---The group stops: `kind` is what its waits give.
function Model:stop(kind)
  if self.complete or self.stopped then
    return
  end
  self.stopped = kind
  for _, job in ipairs(self.jobs) do
    if job.state == "queued" then
      job.state = DONE
    elseif job.state == "running" and job.has_stop then
      self.stops[job.key] = true
    end
  end
  self.queue = {}
end

function Model:add(key, state, has_stop)
  local job = { key = key, state = state, has_stop = has_stop }
  self.jobs[#self.jobs + 1] = job
  return job
end

function Model:finish(job, err, value)
  if job.state == DONE then
    return
  end
  job.state = DONE
  if job.is_started then
    self.n_started = self.n_started - 1
  end
  if self.stopped then
    self.late[job.key] = err
  elseif err then
    self.errors[job.key], self.n_errors = err, self.n_errors + 1
  else
    self.results[job.key] = value
  end
  if err and self.options.stop_on_error then
    self:stop "GroupError"
  elseif not err and self.options.stop_on_result then
    self:stop "result"
  end
  self:settle()
end

---The name of the error that a wait gives now.
function Model:outcome()
  if self.stopped and self.stopped ~= "result" then
    return self.stopped
  elseif not self.stopped and self.n_errors > 0 or not self.stopped and self.options.stop_on_result
  then
    return "GroupError"
  end
end

-- }===

-- {=== a group beside its model ===

local Pair = {}
Pair.__index = Pair

local function new_pair(random)
  local options = {
    limit = random(3) == 1 and random(3) or nil,
    stop_on_error = random(4) == 1 or nil,
    stop_on_result = random(6) == 1 or nil,
    schedule = random(4) == 1 and function(drain) drain() end or nil,
    timeout = random(5) == 1 and 2000000000 or nil,
  }
  return setmetatable({
    group = barrier.group(options), model = new_model(options), random = random, dones = {},
    calls = {}, n_keys = 0,
  }, Pair)
end

---Notes what is not as expected: in a callback an error would end the program.
function Pair:expect(holds, ...) -- luacheck: ignore 212
  if not holds and not M.failure then
    M.failure = "the group is not as expected: " .. table.concat({ ... }, " ")
  end
end

local function same(a, b)
  for key, value in pairs(a) do
    if b[key] ~= value then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

---Compares everything.
function Pair:compare()
  local group, model = self.group, self.model
  local keys = model:pending()
  self:expect(same(keys, group:pending()), "pending", table.concat(keys, ","),
    table.concat(group:pending(), ","))
  self:expect(group.n_pending == #keys, "n_pending", group.n_pending, #keys)
  self:expect(group.n_jobs == #model.jobs, "n_jobs", group.n_jobs, #model.jobs)
  self:expect(group.n_errors == model.n_errors, "n_errors", group.n_errors, model.n_errors)
  self:expect(group.n_running == #keys - #model.queue, "n_running", group.n_running)
  for _, name in ipairs { "results", "errors", "late" } do
    self:expect(same(model[name], group[name]), name)
  end
  for key in pairs(model.stops) do
    self:expect(self.calls[key] == 1, "stop of", key)
  end
  for key in pairs(self.calls) do
    self:expect(model.stops[key], "no stop of", key)
  end
end

---What ends a job: both in the group and in the model.
function Pair:ender(job, done)
  local random = self.random
  return function()
    local err = random(3) == 1 and "error " .. random(9) or nil
    local value = random(9)
    if not self.calls[job.key] then
      self.model.stops[job.key] = nil -- another job's stop ends it
    end
    self.model:finish(job, err, value)
    done(err, value)
    if random(2) == 1 then
      done "once more"
    end
  end
end

function Pair:key()
  self.n_keys = self.n_keys + 1
  return "key " .. self.n_keys
end

---A stop, which may end its own job or another one.
function Pair:stop_of(key)
  return function()
    self.calls[key] = (self.calls[key] or 0) + 1
    local other = self.dones[self.random(#self.dones + 1)]
    if other and self.random(3) == 1 then
      other()
    end
  end
end

function Pair:add()
  local group, model = self.group, self.model
  local key, with_stop = self:key(), self.random(2) == 1
  if model.complete then
    self:expect(not pcall(group.add, group, key), "add to a complete group")
    return
  elseif model.stopped then
    local called = 0
    group:add(key, function() called = called + 1 end) "ignored"
    self:expect(called == 1, "the stop of a late job")
    return
  end
  local job = model:add(key, "running", with_stop)
  local done = group:add(key, with_stop and self:stop_of(key) or nil)
  self.dones[#self.dones + 1] = self:ender(job, done)
end

function Pair:start()
  local group, model, random = self.group, self.model, self.random
  local key, kind = self:key(), random(6)
  if model.complete then
    self:expect(not pcall(group.start, group, key, print), "start in a complete group")
    return
  elseif model.stopped then
    group:start(key, error)
    return
  end
  local job = model:add(key, "queued")
  model.queue[#model.queue + 1] = job
  group:start(key, function(done)
    local limit = model.options.limit
    self:expect(model.queue[1] == job, "out of order", key)
    self:expect(not limit or model.n_started < limit, "no room for", key)
    table.remove(model.queue, 1)
    job.state = "running"
    job.is_started, model.n_started = true, model.n_started + 1
    if kind == 1 then
      model:finish(job, "raised")
      error("raised", 0)
    elseif kind == 2 then
      model:finish(job, "failed")
      return nil, "failed"
    elseif kind == 3 then
      self:ender(job, done)()
      return
    end
    self.dones[#self.dones + 1] = self:ender(job, done)
  end)
end

function Pair:done()
  if #self.dones > 0 then
    table.remove(self.dones, self.random(#self.dones))()
  end
end

---A job that a finalizer ends.
function Pair:collect()
  if #self.dones == 0 or _VERSION == "Lua 5.1" then
    return
  end
  local finish = table.remove(self.dones, self.random(#self.dones))
  setmetatable({}, { __gc = function() finish() end })
  collectgarbage()
end

function Pair:wait(name)
  local model, random = self.model, self.random
  local wait = { name = name, n = 0, closes = random(6) == 1 }
  model.waited = true
  model:settle()
  if #model.jobs == 0 and not model.stopped then
    model.asks = true -- complete in the next turn, if there is no job then
  end
  local timeout = random(8) == 1 and 2000000000 or nil
  local waiter = self.group[name](self.group, timeout or function(err)
    wait.n, wait.err = wait.n + 1, err
    self:expect(self:is_over(wait), "too early", name)
    self:expect((err and err.name) == model:outcome(), "outcome", err and err.name)
    if random(4) == 1 then
      self:step()
    end
  end, timeout and function(err)
    wait.n, wait.err = wait.n + 1, err
    self:expect(self:is_over(wait), "too early, timed", name)
  end or nil)
  if wait.closes then
    waiter:close()
  else
    model.waits[#model.waits + 1] = wait
  end
end

---May the wait be over?
function Pair:is_over(wait)
  local model = self.model
  if model.asks and #model.jobs == 0 and not model.stopped then
    model.complete = true
  end
  return (model.complete or model.stopped) and true
    and (wait.name == "wait" or not model.stopped or #model:pending() == 0)
end

---Runs the loop until nothing is due.
function Pair:loop() -- luacheck: ignore 212
  for _ = 1, 3 do
    uv.run "nowait"
  end
end

---Runs the loop, and compares what has to have happened by then.
function Pair:turn()
  for _ = 1, 50 do
    uv.run "nowait"
  end
  local model = self.model
  if model.asks and #model.jobs == 0 and not model.stopped then
    model.complete = true
  end
  for i = #model.waits, 1, -1 do
    local wait = model.waits[i]
    self:expect(wait.n == (self:is_over(wait) and 1 or 0), wait.name, "called", wait.n)
    if wait.n == 1 then
      table.remove(model.waits, i)
    end
  end
  local limit = model.options.limit
  self:expect(#model.queue == 0 or limit and model.n_started >= limit, "a job could begin")
end

function Pair:step()
  local random, model = self.random, self.model
  if model.asks and #model.jobs == 0 and not model.stopped and self.group:is_closing() then
    model.complete = true -- a turn has come
  end
  local n = random(40)
  if n <= 8 then
    self:add()
  elseif n <= 18 then
    self:start()
  elseif n <= 31 then
    self:done()
  elseif n <= 34 then
    self:wait "wait"
  elseif n == 35 then
    self:wait "join"
  elseif n == 36 then
    self:collect()
  elseif n == 37 and random(3) == 1 then
    self.model:stop "BrokenBarrierError"
    self.group:abort "step"
  elseif M.nests then
    uv.run "nowait"
  end
end

-- }===

---A group that is over, or has many jobs: ends it, and makes another one.
local function replace(pair, random)
  while #pair.dones > 0 do
    pair:done()
  end
  pair:turn()
  pair:compare()
  pair.model:stop "BrokenBarrierError"
  pair.group:abort()
  pair:turn()
  return new_pair(random)
end

---Takes `n` steps with a few groups.
---@return string? failure names the seed, and where a group and its model differ
function M.check(seed, n)
  local state = seed
  local function random(most)
    state = (state * 16807) % 2147483647
    return state % most + 1
  end
  for _ = 1, 10 do
    random(1)
  end
  M.failure = nil
  local groups = { new_pair(random), new_pair(random), new_pair(random) }
  for i = 1, n do
    local position = random(#groups)
    local pair = groups[position]
    pair:step()
    pair:compare()
    if i % 7 == 0 then
      pair:turn()
      pair:compare()
    end
    local model = pair.model
    if model.complete or model.stopped and random(20) == 1 or #model.jobs > 60 then
      groups[position] = replace(pair, random)
    end
    if M.failure then
      break
    end
  end
  local failure = M.failure
  for _, pair in ipairs(groups) do -- nothing stays in the loop
    while #pair.dones > 0 do
      pair:done()
    end
    pair.group:abort()
    pair:loop()
  end
  return failure and ("seed %d: %s"):format(seed, failure)
end

return M
