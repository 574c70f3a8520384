---`:checkhealth barrier`. Where Neovim does not find that, because the module is not on
---its 'runtimepath', `:lua require("barrier.health").report()` says the same.
local M = {}

local here = (...):gsub("health$", "")
local name = here:sub(1, -2) -- a copy of these files may have another one than "barrier"

-- Neovim 0.10 has vim.health.start; older versions have other names.
local health = vim.health or require "health"
local start = health.start or health.report_start
local ok = health.ok or health.report_ok
local inform = health.info or health.report_info
local warn = health.warn or health.report_warn
local fail = health.error or health.report_error

---Two coroutines and a callback trip a barrier in the loop that Neovim runs.
---@return string? problem nil if all went well
local function trip(barrier)
  local b, positions, problem = barrier.new(3), {}, nil

  local function passed(err, position)
    if err then
      problem = tostring(err)
    elseif vim.in_fast_event() then
      problem = "a waiter resumed where vim.api may not be called"
    else
      positions[position] = true
    end
  end

  for _ = 1, 2 do
    coroutine.wrap(function()
      local waited, result = pcall(b.wait, b, 5000)
      passed(not waited and result or nil, result)
    end)()
  end
  b:wait(5000, passed)
  vim.wait(10000, function()
    return problem or (positions[0] and positions[1] and positions[2])
  end, 1)
  if problem then
    return problem
  end
  if not (positions[0] and positions[1] and positions[2]) then
    return "not all parties were let through within 10 seconds: " .. tostring(b)
  end
end

---@param on_ok fun(message: string)
---@param on_information fun(message: string)
---@param on_warning fun(message: string)
---@param on_error fun(message: string)
local function examine(on_ok, on_information, on_warning, on_error)
  -- After a failure at startup `require` would only say that there was one.
  if type(package.loaded[name]) ~= "table" then
    package.loaded[name] = nil
  end
  local loaded, barrier = pcall(require, name)
  if not loaded then
    on_error(tostring(barrier))
    return
  end
  on_ok(barrier._VERSION .. " is loaded")
  local chosen = (os.getenv "BARRIER_CORE" or "") ~= "" and ", as BARRIER_CORE says" or ""
  if barrier.implementation == "C" then
    on_ok(require(here .. "environment").core()._VERSION .. ", this is "
      .. (jit and jit.version or _VERSION) .. "; the core in C is used" .. chosen
      .. ". Without it, the core in Lua would be: all but barrier.shared works the same, slower")
  else
    on_ok("the core in Lua is used" .. chosen .. ", this is " .. (jit and jit.version or _VERSION)
      .. ". It is complete but for barrier.shared; the core in C would be faster")
  end
  local problem = barrier.core_problem
  if problem then -- a core that is not there is no fault
    (problem:find("its C core is not installed", 1, true) and on_information or on_warning)(problem)
  end
  local uv = vim.uv or vim.loop
  on_ok("luv is Neovim's own (" .. (vim.uv and "vim.uv" or "vim.loop") .. "), libuv "
    .. uv.version_string())
  problem = trip(barrier)
  if problem then
    on_error("a barrier does not trip in Neovim's loop: " .. problem)
  else
    on_ok "a barrier trips in Neovim's loop"
  end
  local report = barrier.stuck()
  on_information(report and "parties that wait:\n" .. report or "no party waits")
end

function M.check()
  start(name)
  examine(ok, inform, warn, fail)
end

---Prints what `:checkhealth barrier` shows.
function M.report()
  examine(function(message)
    print("OK " .. message)
  end, function(message)
    print("INFO " .. message)
  end, function(message)
    print("WARNING " .. message)
  end, function(message)
    print("ERROR " .. message)
  end)
end

return M
