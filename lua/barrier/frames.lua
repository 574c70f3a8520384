---Where the user's code is on a stack. Frames of this module's own files, and of C functions above
---the first frame of the user's code, are left out.
local M = {}

local getinfo = debug.getinfo

---What the names of this module's sources begin and end with, whatever its folder is called.
local head, tail = getinfo(1, "S").source:match "^([@=].*)frames(.*)$"

---@param source string as debug.getinfo has it
---@return boolean own is it one of this module's files?
function M.is_own(source)
  if not head or source:sub(1, #head) ~= head then
    return false
  end
  local name = source:sub(#head + 1):gsub("^lua_core[/\\]", "")
  return name:sub(#name - #tail + 1) == tail and not name:find "[/\\]"
end
local is_own = M.is_own

---True for a frame of the module, of a C function or, in Lua 5.1, of a tail call.
local function is_passed_over(info)
  return info.what == "C" or info.what == "tail" or is_own(info.source)
end

---@return string place the file and line at which the user's code called the module
function M.caller()
  local level = 2
  local info = getinfo(level, "Sl")
  while info and is_passed_over(info) do
    level = level + 1
    info = getinfo(level, "Sl")
  end
  return info and ("%s:%d"):format(info.short_src, info.currentline) or "?"
end

---How many of the outermost frames are the module's: those that called the user's code.
---@param infos table by level
local function count_outer(infos, first, last)
  local level = last
  while level > first do
    local info = infos[level]
    if not is_own(info.source) and not (level < last and info.what == "C") then
      break
    end
    level = level - 1
  end
  return last - level
end

---@param co thread
---@return string[] lines of its traceback, without the frames of the module
function M.traceback(co)
  local infos, first, last = {}, nil, -1
  repeat
    last = last + 1
    infos[last] = getinfo(co, last, "S")
    if not first and infos[last] and not is_passed_over(infos[last]) then
      first = last
    end
  until not infos[last]
  local text = debug.traceback(co, "", first or 0)
  local lines, outer = {}, first and count_outer(infos, first, last - 1) or 0
  for line in text:gmatch "\n\t([^\n]*)" do
    lines[#lines + 1] = line
  end
  while outer > 0 do
    outer = outer - (lines[#lines]:find "^%(%.%.%." and 0 or 1) -- Lua's "(...tail calls...)"
    lines[#lines] = nil
  end
  return lines
end

---@param f any a function, or what has a metamethod __call
---@return string place the file and line of its definition
function M.definition(f)
  while type(f) ~= "function" do
    local metatable = debug.getmetatable(f)
    f = type(metatable) == "table" and rawget(metatable, "__call")
    if f == nil then
      return "?"
    end
  end
  local info = getinfo(f, "S")
  return info.what == "C" and "a C function"
    or ("%s:%d"):format(info.short_src, info.linedefined)
end

return M
