---What users give to groups, and get: options, names, stops and errors.
local prefix = (...):gsub("[^.]+$", "")
local is_callable = require(prefix .. "await").is_callable
local environment = require(prefix .. "environment")
local core = environment.core()

---Each option may be left out.
---@class (exact) barrier.GroupOptions
---An integer >= 1: this many of the jobs that the group starts (`start`, `run`) run at a time.
---@field limit? integer
---True: the first error stops the group.
---@field stop_on_error? boolean
---True: the first job that is done without an error stops the group.
---@field stop_on_result? boolean
---Milliseconds, an integer >= 0, counted from the making of the group: if not all jobs are done by
---then, the group is stopped. While a job is pending, the timeout keeps the loop alive.
---@field timeout? integer
---As for `barrier.new()`: where waiting parties go on, and where queued jobs start. With false,
---`vim.wait()` with {fast_only} notices that a group is complete.
---@field schedule? fun(drain: fun())|false
---An array of keys: these jobs exist from the start, and each is pending until it is done. `add`,
---`start` and `run` with such a key begin that job. `add` may be called again at any time.
---@field expect? any[]
---A string: every caller that asks for a group of this name gets the same group, through whichever
---copy of the module, as long as anything holds it. Every caller must give the same options.
---@field name? string
---Any other key is an argument error, so no value has this type.
---@field [string] "no such option"

---A group, with its private fields. Fields that it does not have yet
---are in `defaults` of group.lua.
---@class barrier.GroupInternals: barrier.Group
---@field _keys table by number: the job's key, or how it has ended; by -number: its stops
---@field _numbers table<any, integer> by key
---@field _n integer the number of the last job
---@field _first integer all jobs below it have ended
---@field _done integer how many have ended
---@field _failed integer how many of them with an error
---@field _active integer how many of those that count for the limit run
---@field _started table<integer, true>|false their numbers
---@field _idle table<integer, true>|false numbers of the jobs that have not begun
---@field _queue table|false the jobs that wait for room
---@field _pumps boolean is a turn under way that begins jobs?
---@field _expected table<any, table>|false
---@field _results table
---@field _errors table
---@field _late table|false
---@field _options barrier.GroupOptions
---@field _deadline number|false by uv.hrtime, in milliseconds
---@field _alarm barrier.Waiter|false for that time
---@field _is_open boolean can jobs be added without looking further?
---@field _is_plain boolean can jobs end without an error and without looking further?
---@field _follows boolean does anything follow from the end of a job?
---@field _waited boolean was wait called?
---@field _complete boolean was it stopped, or are all jobs done and was wait called?
---@field _may_stop boolean
---@field _cause barrier.GroupCause|false why it was stopped
---@field _wait barrier.Barrier|false trips when the group is complete
---@field _join barrier.Barrier|false trips when the jobs that were stopped have ended too

---@class barrier.GroupCause
---@field kind "error"|"result"|"timeout"|"abort"
---@field reason? any
---@field n_done? integer
---@field n_jobs? integer
---@field pending? any[] the keys

local M = {}

---@return string text of a key or an error, in messages
function M.text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and type(text) == "string" and text or type(value)
end
local text_of = M.text_of

-- {=== options ===

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
      return ("an array of keys, each of them once; it has '%s' twice"):format(text_of(key))
    end
    seen[key] = true
  end
end

---What an option has to be, if it is not.
local problems = {
  limit = function(value)
    return not is_integer(value, 1) and "an integer >= 1, got " .. text_of(value)
  end,
  stop_on_error = refuse_boolean,
  stop_on_result = refuse_boolean,
  timeout = function(value)
    return not is_integer(value, 0) and "an integer >= 0, in milliseconds, got " .. text_of(value)
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
        text_of(name))
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

---@return boolean same does the option mean the same?
local function is_same(name, a, b)
  return a == b or a == false and b == nil and name ~= "schedule"
    or name == "expect" and same_elements(b, a)
end

---The group of that name, if there is one.
---@return barrier.Group?
---@return string? problem an option that differs from those that it was made with
function M.find(options)
  local group = named.groups[options.name]
  local made_with = group and rawget(group, named.key)
  for name, value in pairs(made_with and options or {}) do
    if not is_same(name, value, made_with[name]) then
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

-- }===

-- {=== stops ===

local function method_of(value, name)
  return value[name]
end

---@return function? call what stops the job: anything callable
---@return string? method its name, if it is one
function M.stop_of(value)
  if type(value) == "string" then
    return nil
  elseif is_callable(value) then
    return value
  end
  for _, name in ipairs { "kill", "cancel", "close" } do
    local ok, method = pcall(method_of, value, name)
    if ok and is_callable(method) then
      return method, name
    end
  end
end

function M.call_stop(stop)
  local f, name = M.stop_of(stop)
  ---@cast f function
  if not name then
    stop()
  elseif name == "kill" then
    f(stop, "sigterm")
  elseif not (name == "close" and stop.is_closing and stop:is_closing()) then -- an error in luv
    f(stop)
  end
end

-- }===

-- {=== errors ===

---What a wait gives.
---@return barrier.GroupError
function M.error(group, class, message, pending)
  return setmetatable({
    name = class, message = message, group = group, pending = pending,
    errors = group._errors, results = group._results, late = group.late,
  }, core[class])
end

---The texts of the first five, and how many more there are.
local function enumerate(list, separator, text)
  local texts = {}
  for i = 1, math.min(#list, 5) do
    texts[i] = text(list[i])
  end
  local more = #list > 5 and (" and %d more"):format(#list - 5) or ""
  return table.concat(texts, separator) .. more
end

---@return string text of what a job has failed of
local function text_of_error(err)
  local text, kind = text_of(err), type(err)
  if (kind == "table" or kind == "userdata") and text:find("^[%w_.*]+: 0?x?%x+$") then
    return text .. " (what comes after nil or false is an error)"
  end
  return text
end

---The error of a group whose jobs have failed.
function M.failure(group, pending)
  local keys = {}
  for key in pairs(group._errors) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return (group._numbers[a] or 0) < (group._numbers[b] or 0)
  end)
  return M.error(group, "GroupError", ("%d of %d jobs failed: %s"):format(#keys, group._n,
    enumerate(keys, "; ", function(key)
      return text_of(key) .. ": " .. text_of_error(group._errors[key])
    end)), pending)
end

---The error of a wait, or of a group, whose time has passed.
---@param what "wait"|"group"
function M.timeout(group, what, timeout, n_done, n_jobs, pending)
  local message = ("%s timed out after %.0f ms, %d of %d jobs were done, pending: %s"):format(what,
    timeout, n_done, n_jobs, enumerate(pending, ", ", text_of))
  local err = M.error(group, "TimeoutError", message, pending)
  err.timeout = timeout
  return err
end

-- }===

return M
