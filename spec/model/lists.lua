---What the model needs of lists.
local M = {}

---@return integer? at
function M.find(list, value)
  for i, other in ipairs(list) do
    if other == value then
      return i
    end
  end
end

---As table.remove, with which LuaJIT 2.1.0-beta3 crashes here.
function M.remove_at(list, at)
  local value = list[at]
  for i = at, #list do
    list[i] = list[i + 1]
  end
  return value
end

---@return boolean removed
function M.remove(list, value)
  local i = M.find(list, value)
  if i then
    M.remove_at(list, i)
  end
  return i ~= nil
end

---Removes the first entry whose `field` is `value`.
---@return table? entry
function M.remove_by(list, field, value)
  for i, entry in ipairs(list) do
    if entry[field] == value then
      return M.remove_at(list, i)
    end
  end
end

return M
