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

---@param core table
---@param b barrier.Barrier
local function add_barrier(lines, core, b)
  local line = tostring(b)
  if (b.state or not b.broken and "filling") == "filling" then -- a shared one has no state
    line = line .. ", " .. math.max(b.parties - b.n_arrived, 0) .. " missing"
  end
  lines[#lines + 1] = line
  for _, waiter in ipairs(core.waiters(b)) do
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
