---The core in Lua, for Lua 5.1 and 5.2, which can't tell whether the running coroutine can yield:
---looks for what called Lua from C. That leaves out metamethods and finalizers; there the yield
---itself fails, and the wait has never begun.
local machine = require((...):gsub("yieldable$", "machine"))

local M = {}

-- What lets a yield through.
local OPEN = _VERSION == "Lua 5.2" and { [pcall] = true, [xpcall] = true, [dofile] = true } or {}

---@return boolean
function M.isyieldable()
  local co, is_main = coroutine.running()
  if not co or is_main then
    return false
  end
  local level, info = 2, debug.getinfo(2, "nSf")
  while info do
    if info.what == "C" and not OPEN[info.func]
      or info.name == "(for generator)" and _VERSION == "Lua 5.1" then
      return false
    end
    level = level + 1
    info = debug.getinfo(level, "nSf")
  end
  return true
end

local last = setmetatable({}, { __mode = "v" }) -- the node that was suspended last

---The node is about to be suspended, or none.
---@param node? barrier.Node
function M.suspended(node)
  last[1] = node
end

---Takes back a wait whose yield has failed.
function M.take_back()
  local node = last[1]
  last[1] = nil
  if node and node.place and coroutine.status(node.co) ~= "suspended" then
    machine.leave(node.machine, node)
  end
end

return M
