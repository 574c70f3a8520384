---The core in Lua: what is wrong with arguments. A check returns a text, or nil or false.
local machine = require((...):gsub("arguments$", "machine"))

local MOST = 2147483647 -- parties
local LARGEST = math.maxinteger or 9007199254740992 -- luacheck: ignore 143
local AND_MOST = math.maxinteger and "" or " and <= 2^53" -- luacheck: ignore 143
local M = {}

---@param checks (fun(value: any, m: barrier.Machine, ...: any): string|false|nil)[] of the
---  arguments; there are no others
---@return string? problem
function M.problem_of(name, checks, m, ...)
  for i = 1, math.max(#checks, select("#", ...)) do
    local value, check = select(i, ...), checks[i]
    local problem = check and check(value, m, ...)
    if not check and value ~= nil then
      problem = "no such argument is taken, got " .. type(value)
    end
    if problem then
      return ("bad argument #%d to '%s' (%s)"):format(i, name, problem)
    end
  end
end

local function is_callable(value)
  local t = type(value)
  if t == "function" then
    return true
  elseif t ~= "table" and t ~= "userdata" then
    return false
  end
  local metatable = debug.getmetatable(value)
  return metatable ~= nil and rawget(metatable, "__call") ~= nil
end

local function is_integer(value, least)
  return type(value) == "number" and value >= least and value <= LARGEST and value % 1 == 0
end

local function shown(value)
  return type(value) == "number" and tostring(value) or type(value)
end

function M.anything() end

---@return fun(value: any): string?
function M.callable(what)
  return function(value)
    return not is_callable(value) and what .. " must be callable, got " .. type(value)
  end
end

local is_bad_callback, is_bad_on_close = M.callable "callback", M.callable "on_close"

local function is_bad_timeout(value)
  return not is_integer(value, 0) and ("must be an integer >= 0%s, in milliseconds, got %s")
    :format(AND_MOST, tostring(value))
end

function M.timeout_or_callback(value)
  if type(value) == "number" then
    local problem = is_bad_timeout(value)
    return problem and "timeout " .. problem
  end
  return value ~= nil and not is_callable(value) and "timeout or callback expected, got "
    .. type(value)
end

function M.callback_behind(value, _, timeout)
  if value ~= nil and timeout ~= nil and type(timeout) ~= "number" then
    return "nothing comes after the callback"
  end
  return value ~= nil and is_bad_callback(value)
end

function M.on_close(value)
  return value ~= nil and is_bad_on_close(value)
end

---How many parties.
local function count(value)
  return value ~= nil and not is_integer(value, 1) and "n must be an integer >= 1, got "
    .. shown(value)
end

function M.n_absent(value, m)
  local absent = machine.absent(m)
  return count(value) or (value or 1) > absent
    and ("only %d of %d parties have yet to arrive"):format(absent, m.parties)
end

function M.n_to_arrive(value, m)
  if m.parties == 0 then
    return count(value) or value ~= nil and value > 1
      and "with no party left, one arrives at a time"
  end
  return M.n_absent(value, m)
end

function M.n_to_register(value, m)
  return count(value) or (value or 1) > MOST - m.parties
    and ("a barrier has at most %d parties"):format(MOST)
end

local options = {
  action = M.callable "option 'action'",
  schedule = function(value)
    return value ~= false and not is_callable(value)
      and "option 'schedule' must be callable or false, got " .. type(value)
  end,
  timeout = function(value)
    local problem = is_bad_timeout(value)
    return problem and "option 'timeout' " .. problem
  end,
}

M.new = { function(parties, _, ...)
  local is_good = is_integer(parties, 1)
  return not (is_good and parties <= MOST) and ("parties must be an integer >= 1%s, got %s"):format(
    is_good and " and <= " .. MOST or "", select("#", ...) > 0 and shown(parties) or "no value")
end, function(given)
  if given ~= nil and type(given) ~= "table" then
    return "options must be a table, got " .. type(given)
  end
  for name, value in pairs(given or {}) do
    local problem = not options[name] and ("unknown option '%s'"):format(tostring(name))
      or options[name] and options[name](value)
    if problem then
      return problem
    end
  end
end }

return M
