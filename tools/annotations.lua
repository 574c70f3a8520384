-- Reads the LuaCATS annotations of what is public; see tools/docs.lua.

---@class docs.Entry a function, or a field of a class
---@field class string
---@field separator "."|":"
---@field name string
---@field is_field boolean
---@field text string[] the lines that describe it
---@field params { name: string, optional: string, kind: string, text: string }[]
---@field returns { name: string, kind: string, text: string }[]
---@field overload? string[] the names of the parameters, with a question mark if optional

---Splits a type, which may have spaces in brackets, from the text that follows it.
---@return string type
---@return string text
local function split_type(rest)
  local depth = 0
  for i = 1, #rest do
    local c = rest:sub(i, i)
    if c:find "[%(%[{<]" then
      depth = depth + 1
    elseif c:find "[%)%]}>]" then
      depth = depth - 1
    elseif c == " " and depth == 0 and not rest:sub(i - 1, i - 1):find "[:,|]" then
      return rest:sub(1, i - 1), rest:sub(i + 1)
    end
  end
  return rest, ""
end

---The names of an overload's parameters.
local function names_of(overload)
  local names = {}
  local list = overload:match("^fun(%b())"):sub(2, -2):gsub("%b()", "")
  for name, mark, kind in list:gmatch "([%w_.]+)(%??): ([^,]+)" do
    if name ~= "self" then
      names[#names + 1] = (mark == "?" or kind:find "%?$") and name .. "?" or name
    end
  end
  return names
end

---Adds a line of an annotation to an entry.
local function read_line(entry, line)
  local tag, rest = line:match "^@(%w+)%s*(.*)$"
  if not tag then
    entry.text[#entry.text + 1] = line
  elseif tag == "param" then
    local name, optional, other = rest:match "^([%w_.]+)(%??)%s+(.*)$"
    local kind, text = split_type(other)
    if kind ~= "nil" then
      entry.params[#entry.params + 1] = {
        name = name, optional = optional, kind = kind, text = text,
      }
    end
  elseif tag == "return" then
    local kind, other = split_type(rest)
    local name, text = other:match "^(%S*)%s*(.*)$"
    entry.returns[#entry.returns + 1] = { name = name, kind = kind, text = text }
  elseif tag == "overload" then
    entry.overload = names_of(rest)
  end
end

---Reads a file: its functions, and the fields of its classes, in their order.
---@param path string
---@param classes table<string, any> only of these
---@param entries docs.Entry[] also by class, separator and name
return function(path, classes, entries)
  local owners, class, entry = {}, nil, nil

  local function restart()
    entry = { text = {}, params = {}, returns = {} }
  end

  ---Adds the entry, if it has a description.
  local function add(owner, separator, name)
    if not entry.text[1] then
      return
    end
    entry.class, entry.separator, entry.name = owner, separator, name
    entries[#entries + 1], entries[owner .. separator .. name] = entry, entry
  end

  local function end_block(line)
    local variable = line:match "^local (%w+) ="
    local owner, separator, name = line:match "^function (%w+)([.:])([%w_]+)%("
    if variable and class then
      owners[variable] = class
    elseif owners[owner] then
      add(owners[owner], separator, name)
    end
    class = nil
    restart()
  end

  restart()
  for line in io.lines(path) do
    local said = line:match "^%-%-%-(.*)$"
    local declared = said and said:gsub("%(exact%) ", ""):match "^@class ([%w.]+)"
    local field, rest = (said or ""):match "^@field ([%w_]+)%?? (.*)$"
    if declared then
      class = classes[declared] and declared
      restart()
    elseif field and class then
      local text = select(2, split_type(rest))
      entry.is_field, entry.text[#entry.text + 1] = true, text ~= "" and text or nil
      add(class, ".", field)
      restart()
    elseif said then
      read_line(entry, said)
    else
      end_block(line)
    end
  end
end
