-- What barrier.stuck() says.

---@param lines string[]
---@param what string
---@param waiter thread|barrier.Waiter
local function add_waiter(lines, what, waiter)
  local text = tostring(waiter)
  if type(waiter) == "thread" then
    text = debug.traceback(waiter, text)
  end
  lines[#lines + 1] = "  " .. what .. ": " .. text:gsub("\n", "\n  ")
end

---The line of a group or an await, which has made the barrier for itself; nil if the barrier is for
---something else than its parties.
---@return string?
local function line_of_owner(owner, b)
  if getmetatable(owner) ~= "barrier.Group" then
    return "await"
  elseif b == owner._wait or b == owner._join then
    local keys = owner:pending()
    for i, key in ipairs(keys) do
      local ok, text = pcall(tostring, key)
      keys[i] = ok and text or type(key)
    end
    return tostring(owner) .. ", pending: " .. table.concat(keys, ", ")
  end
end

---@param core table
---@param b barrier.Barrier
local function add_barrier(lines, core, b)
  local redis = package.loaded["barrier.redis"]
  local in_redis = redis and redis.describe(b)
  local line = in_redis or tostring(b)
  local owner = core.owners and core.owners[b]
  if owner then
    line = line_of_owner(owner, b)
    if not line then
      return
    end
  elseif b.state == "filling" and not in_redis then
    line = line .. ", " .. math.max(b.parties - b.n_arrived, 0) .. " missing"
  end
  lines[#lines + 1] = line
  for _, waiter in ipairs(b:waiters()) do
    add_waiter(lines, "waits", waiter)
  end
  for _, watcher in ipairs(core.watchers(b)) do
    add_waiter(lines, "watches", watcher)
  end
end

---@return string?
return function(core)
  local lines = {}
  for _, b in ipairs(core.barriers()) do
    add_barrier(lines, core, b)
  end
  return lines[1] and table.concat(lines, "\n")
end
