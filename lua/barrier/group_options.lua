---What barrier.group is called with, and the groups that have a name.
local prefix = (...):gsub("[^.]+$", "")
local is_callable = require(prefix .. "await").is_callable
local environment = require(prefix .. "environment")

---Each option may be left out.
---@class (exact) barrier.GroupOptions
---How many of the jobs that the group starts run at a time, >= 1.
---@field limit? integer
---The first error stops the group.
---@field stop_on_error? boolean
---The first job that is done without an error stops the group.
---@field stop_on_result? boolean
---Milliseconds, >= 0, from the making of the group: if not all jobs are done by then, the group is
---stopped.
---@field timeout? integer
---As for barrier.new: where waiting parties go on, and where jobs that had to queue start.
---@field schedule? fun(drain: fun())|false
---Keys of jobs that exist from the start; `add`, `start` and `run` begin them.
---@field expect? any[]
---All who ask for a group of this name get the same.
---@field name? string
---@field [string] "no such option"

local M = {}

---The named groups of this Lua state, for all copies of this module: `groups` by name, and `key`,
---the key in a group of the options that it was made with. This stays as it is for ever; whatever
---is not like it gets another name.
local NAMED = "luv-barrier.groups.1"
local named = package.loaded[NAMED]
if type(named) ~= "table" then
  named = { groups = setmetatable({}, { __mode = "v" }), key = {} }
  package.loaded[NAMED] = named
end

local function is_integer(value, least)
  return type(value) == "number" and value >= least and value % 1 == 0 and value < 2 ^ 53
end

local function refuse_boolean(value)
  return type(value) ~= "boolean" and "a boolean, got " .. type(value)
end

---@return string? problem
local function refuse_expect(value)
  if type(value) ~= "table" then
    return "an array of keys, got " .. type(value)
  end
  local seen, n = {}, 0
  for _ in pairs(value) do
    n = n + 1
  end
  for i = 1, n do
    local key = value[i]
    if key == nil or key ~= key then
      return "an array of keys, none of them nil or NaN"
    elseif seen[key] then
      return ("an array of keys, each of them once; it has '%s' twice"):format(tostring(key))
    end
    seen[key] = true
  end
end

---What an option has to be, if it is not.
local problems = {
  limit = function(value)
    return not is_integer(value, 1) and "an integer >= 1, got " .. tostring(value)
  end,
  stop_on_error = refuse_boolean,
  stop_on_result = refuse_boolean,
  timeout = function(value)
    return not is_integer(value, 0) and "an integer >= 0, in milliseconds, got " .. tostring(value)
  end,
  schedule = function(value)
    return value ~= false and not is_callable(value) and "callable or false, got " .. type(value)
  end,
  expect = refuse_expect,
  name = function(value)
    return type(value) ~= "string" and "a string, got " .. type(value)
  end,
}

---@return string? problem
function M.refuse(options)
  if options ~= nil and type(options) ~= "table" then
    return "options must be a table, got " .. type(options)
  end
  for name, value in pairs(options or {}) do
    if not problems[name] then
      return ("unknown option '%s'; there are limit, stop_on_error, stop_on_result, timeout, "
        .. "schedule, expect and name. The timeout of one wait belongs to wait"):format(
        tostring(name))
    end
    local problem = problems[name](value)
    if problem then
      return ("option '%s' must be %s"):format(name, problem)
    end
  end
end

---@return boolean same have they the same elements?
local function same_elements(a, b)
  local seen, n = {}, 0
  for _, key in ipairs(a or {}) do
    seen[key], n = true, n + 1
  end
  for _, key in ipairs(b) do
    if not seen[key] then
      return false
    end
  end
  return n == #b
end

---The group of that name, if there is one.
---@return barrier.Group?
---@return string? problem an option that differs from those that it was made with
function M.find(options)
  local group = named.groups[options.name]
  local made_with = group and rawget(group, named.key)
  for name, value in pairs(made_with and options or {}) do
    local before = made_with[name]
    if value ~= before and not (name == "expect" and same_elements(before, value)) then
      return nil, ("the group '%s' was made with another option '%s'"):format(options.name, name)
    end
  end
  return group
end

local function copy(table)
  local all = {}
  for name, value in pairs(table) do
    all[name] = value
  end
  return all
end

---The group gets a name.
function M.remember(group, options)
  local made_with = copy(options)
  made_with.expect = options.expect and copy(options.expect)
  rawset(group, named.key, made_with)
  named.groups[options.name] = group
end

---Prepares the fields of a new group for its options.
function M.apply(group, options)
  group._options = copy(options)
  group._follows = options.limit or options.stop_on_error or options.stop_on_result or false
  group._is_open = not (options.expect or options.timeout)
  group._is_plain = not (group._follows or options.timeout)
  if options.limit then
    group._started = {}
  end
  if options.limit or options.expect then
    group._idle, group._queue = {}, { n = 0, first = 1 }
  end
  if options.timeout then
    group._deadline = environment.luv().hrtime() / 1e6 + options.timeout
  end
end

return M
