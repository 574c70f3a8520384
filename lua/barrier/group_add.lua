---Adding jobs to a group.
local prefix = (...):gsub("[^.]+$", "")
local environment = require(prefix .. "environment")
local turns = require(prefix .. "group_turns")
local jobs = require(prefix .. "group_jobs")

local n_pending, finish, pack, set_done = jobs.n_pending, jobs.finish, jobs.pack, jobs.set_done

local M = {}

---The group is stopped when its time has passed, if a job is pending then.
local function set_alarm(group)
  local now = environment.luv().hrtime() / 1e6
  local left = math.max(math.ceil(group._deadline - now), 0)
  group._alarm = turns.barrier(group, "_clock"):await_trip(left, function()
    group._alarm = false
    if n_pending(group) > 0 then
      jobs.stop(group, { kind = "timeout" })
    end
  end)
end

---Gives back the number of a job that cannot have this key, and raises an error.
local function refuse(group, number, key, name, level)
  if group._n == number then
    group._n = number - 1
  else -- a call in between has added jobs
    set_done(group, number)
  end
  error(("bad argument #1 to '%s' (%s)"):format(name, key ~= key and "key must not be NaN"
    or ("the group has had a job with the key %s"):format(jobs.text_of(key))), level)
end

---Adds a job.
---@param name string of the method
---@return integer number
local function enlist(group, key, name)
  local keys, numbers = group._keys, group._numbers
  local number
  if group._complete then
    error(("bad argument #1 to '%s' (the group is complete)"):format(name), 4)
  end
  repeat
    number = group._n + 1
    group._n = number
  until keys[number] == nil
  if key == nil then
    key = number
  end
  if numbers[key] ~= nil or key ~= key then
    refuse(group, number, key, name, 5)
  end
  numbers[key], keys[number] = number, key
  if not group._is_open and group._deadline and not group._alarm then
    set_alarm(group)
  end
  return number
end
M.enlist = enlist

---Makes the group's method `add`. It is of this group alone, so that each `done` needs less.
---@param add_otherwise fun(self: any, key: any, stop: any): function if it is not all simple
function M.new_add(group, add_otherwise)
  local keys, numbers = group._keys, group._numbers
  return function(self, key, stop)
    if self ~= group or stop ~= nil or not group._is_open then
      local done = add_otherwise(self, key, stop)
      return done
    end
    local number
    repeat
      number = group._n + 1
      group._n = number
    until keys[number] == nil
    if key == nil then
      key = number
    end
    if numbers[key] ~= nil or key ~= key then
      refuse(group, number, key, "add", 3)
    end
    numbers[key], keys[number] = number, key
    return function(...)
      local claimed, n, err, value = number, select("#", ...), ...
      number = nil -- from here on another call is ignored
      if claimed then
        if n ~= 2 then
          value = n < 2 or pack(...)
        end
        finish(group, claimed, err, value)
      end
    end
  end
end

---The jobs of the option `expect` exist from the start.
function M.expect(group, keys)
  group._expected = {}
  for _, key in ipairs(keys) do
    local number = enlist(group, key, "group")
    group._idle[number] = true
    group._expected[key] = { number = number, done = jobs.new_done(group, number) }
  end
end

return M
