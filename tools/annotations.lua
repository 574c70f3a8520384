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

local function new_entry()
  return { text = {}, params = {}, returns = {} }
end

---Adds what was read to the entries, if it has a description.
local function add(reader, class, separator, name)
  local entry = reader.entry
  if entry.text[1] then
    entry.class, entry.separator, entry.name = class, separator, name
    reader.entries[#reader.entries + 1] = entry
    reader.entries[class .. separator .. name] = entry
  end
  reader.entry = new_entry()
end

---Reads a line of a block of annotations.
local function read_annotation(reader, line)
  local class = line:gsub("%(exact%) ", ""):match "^@class ([%w.]+)"
  local field, rest = line:match "^@field ([%w_]+)%?? (.*)$"
  if class then
    reader.class, reader.entry = reader.classes[class] and class, new_entry()
  elseif field and reader.class then
    local text = select(2, split_type(rest))
    reader.entry.is_field = true
    reader.entry.text[#reader.entry.text + 1] = text ~= "" and text or nil
    add(reader, reader.class, ".", field)
  else
    read_line(reader.entry, line)
  end
end

---Reads the line after a block: what the block is about.
local function read_code(reader, line)
  local variable = line:match "^local (%w+) ="
  local owner, separator, name = line:match "^function (%w+)([.:])([%w_]+)%("
  if variable and reader.class then
    reader.owners[variable] = reader.class
  elseif owner and reader.owners[owner] then
    add(reader, reader.owners[owner], separator, name)
  end
  reader.class, reader.entry = nil, new_entry()
end

---Reads a file: its functions, and the fields of its classes, in their order.
---@param path string
---@param classes table<string, any> only of these
---@param entries docs.Entry[] also by class, separator and name
return function(path, classes, entries)
  local reader = { classes = classes, entries = entries, owners = {}, entry = new_entry() }
  for line in io.lines(path) do
    local annotation = line:match "^%-%-%-(.*)$"
    if annotation then
      read_annotation(reader, annotation)
    else
      read_code(reader, line)
    end
  end
end
