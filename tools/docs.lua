-- Usage: lua tools/docs.lua [--check]
-- Makes doc/barrier.txt from doc/barrier.in and from the annotations of the public functions, and
-- renews README.md's tables of members. With --check it writes nothing, and fails if one of them
-- is stale.
--
-- In doc/barrier.in a line
--
--   @ Barrier:wait Barrier:with
--
-- stands for the help of these functions and fields, and `@ Barrier.*` for all fields of a class. In
-- README.md a table follows the line `<!-- members of Barrier: made by make docs -->` and ends at
-- `<!-- until here -->`: a row for each function and field, with the first paragraph of what is said
-- about it.
local SOURCES = {
  "lua/barrier/_meta.lua", "lua/barrier/init.lua", "lua/barrier/group.lua",
}

-- How a class is called in a program, and the beginning of its tags.
local CLASSES = {
  ["barrier"] = { variable = "barrier", tag = "barrier" },
  ["barrier.Barrier"] = { variable = "b", tag = "barrier" },
  ["barrier.Waiter"] = { variable = "waiter", tag = "barrier-waiter" },
  ["barrier.Group"] = { variable = "group", tag = "barrier-group" },
  ["barrier.Shared"] = { variable = "b", tag = "barrier-shared" },
  ["barrier.Redis"] = { variable = "b", tag = "barrier-redis" },
}

local WIDTH, INDENT = 78, 16

-- {=== reading the annotations ===

---@class docs.Entry a function, or a field of a class
---@field class string
---@field name string
---@field separator "."|":"
---@field text string[] the lines that describe it
---@field params { name: string, optional: boolean, text: string }[]
---@field returns string[]
---@field overloads string[][] the parameters of each
---@field is_field boolean

---Adds a line of the annotation to what is read.
local function read_line(entry, line)
  local tag, rest = line:match "^@(%w+)%s*(.*)$"
  if not tag then
    entry.text[#entry.text + 1] = line:gsub("^ ", "", 1)
  elseif tag == "param" then
    local name, optional, text = rest:match "^([%w_.]+)(%??)%s+(.*)$"
    entry.params[#entry.params + 1] = { name = name, optional = optional == "?", text = text }
  elseif tag == "return" then
    entry.returns[#entry.returns + 1] = rest
  elseif tag == "overload" then
    local names = {}
    for name, kind in rest:match("^fun(%b())"):gmatch "([%w_]+): ([^,)]+)" do
      if name ~= "self" then
        names[#names + 1] = kind:find "%?" and name .. "?" or name
      end
    end
    entry.overloads[#entry.overloads + 1] = names
  end
end

local function new_entry()
  return { text = {}, params = {}, returns = {}, overloads = {} }
end

local function add(entries, entry, class, separator, name)
  entry.class, entry.separator, entry.name = class, separator, name
  entries[#entries + 1] = entry
  entries[class .. separator .. name] = entry
end

---Splits the rest of an annotation into a type, which may have spaces in brackets, and a text.
---@return string type
---@return string text
local function split_type(rest)
  local depth, i = 0, 1
  while i <= #rest do
    local c = rest:sub(i, i)
    if c:find "[%(%[{<]" then
      depth = depth + 1
    elseif c:find "[%)%]}>]" then
      depth = depth - 1
    elseif c == " " and depth == 0 and not rest:sub(1, i - 1):find "[:,|]$" then
      break
    end
    i = i + 1
  end
  return rest:sub(1, i - 1), rest:sub(i + 1)
end

---Reads a file: its functions, and the fields of its classes, in their order.
local function read_file(path, entries)
  local classes = {} -- by the name of their local variable
  local class, entry = nil, new_entry()

  local function read_field(name, rest)
    local field = entry
    field.is_field = true
    field.type, rest = split_type(rest)
    if rest ~= "" then
      field.text[#field.text + 1] = rest
    end
    add(entries, field, class, ".", name)
    entry = new_entry()
  end

  local function end_block(line)
    local variable = line:match "^local (%w+) ="
    if variable and class then
      classes[variable] = class
    end
    local owner, separator, name = line:match "^function (%w+)([.:])([%w_]+)%("
    if owner and classes[owner] and entry.text[1] then
      add(entries, entry, classes[owner], separator, name)
    end
    entry, class = new_entry(), nil
  end

  for line in io.lines(path) do
    local said = line:match "^%-%-%-(.*)$"
    local declared = said and said:match "^@class %(?[exact)]* ?([%w.]+)"
    local field, rest = (said or ""):match "^@field ([%w_]+)%?? (.*)$"
    if declared then
      class, entry = declared, new_entry()
    elseif field and class then
      read_field(field, rest)
    elseif said then
      read_line(entry, said)
    else
      end_block(line)
    end
  end
end

-- }===

-- {=== text ===

---The paragraphs of a text: each is a list of words, or a block of code.
---@return table[]
local function paragraphs_of(lines)
  local paragraphs, current, code = {}, nil, nil
  for _, line in ipairs(lines) do
    if line:find "^```" then
      if code then
        paragraphs[#paragraphs + 1] = code
      end
      code, current = not code and { is_code = true } or nil, nil
    elseif code then
      code[#code + 1] = line
    elseif line == "" then
      current = nil
    else
      local item = line:match "^%- (.*)$"
      if item or not current then
        current = { is_item = item ~= nil }
        paragraphs[#paragraphs + 1] = current
      end
      for word in (item or line):gmatch "%S+" do
        current[#current + 1] = word
      end
    end
  end
  return paragraphs
end

---How many columns a line of help takes.
local function width(line)
  local column = 0
  for c in line:gmatch "." do
    column = c == "\t" and column - column % 8 + 8 or column + 1
  end
  return column
end

---Appends words to the lines of the help, wrapped, behind `first` and then `other`.
local function wrap(out, words, first, other)
  local line, empty = first, true
  for _, word in ipairs(words) do
    local longer = line .. (empty and "" or " ") .. word
    if not empty and width(longer) > WIDTH then
      out[#out + 1] = line
      longer = other .. word
    end
    line, empty = longer, false
  end
  out[#out + 1] = line
end

-- }===

-- {=== the help ===

---`b:wait([{timeout}])`
local function signature(entry, names, brace)
  local parts, open = {}, 0
  for i, name in ipairs(names) do
    local plain = name:gsub("%?$", "")
    plain = plain ~= "..." and brace and "{" .. plain .. "}" or plain
    local text = i == 1 and plain or ", " .. plain
    if name:find "%?$" then
      -- An optional one before others that are not: `[timeout,] callback`.
      local required_follows = false
      for j = i + 1, #names do
        required_follows = required_follows or not names[j]:find "%?$"
      end
      text = required_follows and "[" .. plain .. ",] " or i == 1 and "[" .. plain or " [, " .. plain
      open = required_follows and open or open + 1
    elseif i > 1 and names[i - 1]:find "%?$" and open == 0 then
      text = plain
    end
    parts[#parts + 1] = text
  end
  return CLASSES[entry.class].variable .. entry.separator .. entry.name .. "(" .. table.concat(parts)
    .. ("]"):rep(open) .. ")"
end

---All ways to call a function.
---@return string[]
local function signatures(entry, brace)
  local names, all = {}, {}
  for _, param in ipairs(entry.params) do
    names[#names + 1] = param.name .. (param.optional and "?" or "")
  end
  local first = entry.is_field
    and CLASSES[entry.class].variable .. "." .. entry.name or signature(entry, names, brace)
  all[1] = first
  for _, overload in ipairs(entry.overloads) do
    local other = signature(entry, overload, brace)
    if other:find "%[" or #entry.overloads == 1 then -- the one with each parameter
      all[#all + 1] = other
    end
  end
  return all
end

local function tag_of(entry)
  return CLASSES[entry.class].tag .. entry.separator .. entry.name .. (entry.is_field and "" or "()")
end

---`b:abort()` in a text becomes a link, and `timeout` is written {timeout} where that is a
---parameter.
local function linked(word, entry, entries)
  return (word:gsub("`([^`]+)`", function(code)
    for _, param in ipairs(entry.params) do
      if param.name == code then
        return "{" .. code .. "}"
      end
    end
    local variable, separator, name = code:match "^(%w+)([.:])([%w_]+)%(?%)?$"
    for class, names in pairs(CLASSES) do
      local other = names.variable == variable and entries[class .. separator .. name]
      if other and not (other.class == "barrier.Shared" or other.class == "barrier.Redis") then
        return "|" .. tag_of(other) .. "|"
      end
    end
  end))
end

---Adds the paragraphs of a text to the help.
local function add_text(out, entry, entries)
  local indent = ("\t"):rep(INDENT / 8)
  for i, paragraph in ipairs(paragraphs_of(entry.text)) do
    if paragraph.is_code then
      out[#out] = out[#out] .. " >"
      for _, line in ipairs(paragraph) do
        out[#out + 1] = line == "" and "" or indent .. line
      end
      out[#out + 1] = "<"
    else
      if i > 1 and not paragraph.is_item and out[#out] ~= "<" then
        out[#out + 1] = ""
      end
      local words = {}
      for j, word in ipairs(paragraph) do
        words[j] = linked(word, entry, entries)
      end
      wrap(out, words, indent .. (paragraph.is_item and "- " or ""),
        indent .. (paragraph.is_item and "  " or ""))
    end
  end
end

---What is said of the parameters and the results.
local function add_list(out, title, list)
  if #list == 0 then
    return
  end
  local indent = ("\t"):rep(INDENT / 8)
  out[#out + 1] = ""
  out[#out + 1] = indent .. title .. ": ~"
  for _, item in ipairs(list) do
    local words = {}
    for word in item:gmatch "%S+" do
      words[#words + 1] = word
    end
    wrap(out, words, indent .. "  ", indent .. "    ")
  end
end

---Adds the help of a function or a field.
local function add_entry(out, entry, entries)
  local tag = "*" .. tag_of(entry) .. "*"
  local all = signatures(entry, true)
  local line = all[1]
  if width(line) + 1 + #tag <= WIDTH then
    local tabs = 1
    while width(line .. ("\t"):rep(tabs + 1)) + #tag <= WIDTH do
      tabs = tabs + 1
    end
    out[#out + 1] = line .. ("\t"):rep(tabs) .. tag
  else
    out[#out + 1] = ("\t"):rep(math.max(math.floor((WIDTH - #tag) / 8), 1)) .. tag
    out[#out + 1] = line
  end
  for i = 2, #all do
    out[#out + 1] = all[i]
  end
  add_text(out, entry, entries)
  local params, returns = {}, {}
  for i, param in ipairs(entry.params) do
    local _, text = split_type(param.text)
    if text ~= "" then
      params[#params + 1] = "{" .. entry.params[i].name .. "} " .. text
    end
  end
  for i, result in ipairs(entry.returns) do
    returns[i] = (select(2, split_type(result)))
  end
  add_list(out, "Parameters", params)
  add_list(out, "Returns", returns)
  out[#out + 1] = ""
end

---The entries that a line `@ Barrier:wait Barrier.*` names.
local function named(line, entries)
  local found = {}
  for name in line:gmatch "%S+" do
    local class, separator, member = name:match "^(.-)([.:])([%w_*]+)$"
    class = class == "barrier" and class or "barrier." .. class
    if member == "*" then
      for _, entry in ipairs(entries) do
        if entry.class == class and entry.is_field then
          found[#found + 1] = entry
        end
      end
    else
      found[#found + 1] = assert(entries[class .. separator .. member], "no annotation: " .. name)
    end
  end
  return found
end

---@return string
local function make_help(source, entries)
  local out = {}
  for line in source:gmatch "([^\n]*)\n" do
    local names = line:match "^@ (.*)$"
    if names then
      for _, entry in ipairs(named(names, entries)) do
        add_entry(out, entry, entries)
      end
      out[#out] = nil -- the empty line behind the last
    else
      out[#out + 1] = line
    end
  end
  return table.concat(out, "\n") .. "\n"
end

-- }===

-- {=== the tables ===

---A row of a table: how it is called, and the first paragraph of its description.
local function row(entry)
  local calls = {}
  for i, call in ipairs(signatures(entry, false)) do
    calls[i] = "`" .. call .. "`"
  end
  local first = paragraphs_of(entry.text)[1] or {}
  return ("| %s | %s |"):format(table.concat(calls, ", "), (table.concat(first, " "):gsub("|", "\\|")))
end

---@return string
local function make_tables(text, entries)
  return (text:gsub("(<!%-%- members of ([%w., ]+): made by make docs %-%->\n)(.-)(<!%-%- until here %-%->)",
    function(first, classes, _, last)
      local rows = { "| | |", "| --- | --- |" }
      for class in classes:gmatch "[%w.]+" do
        for _, entry in ipairs(entries) do
          if entry.class == (class == "barrier" and class or "barrier." .. class) then
            rows[#rows + 1] = row(entry)
          end
        end
      end
      return first .. table.concat(rows, "\n") .. "\n" .. last
    end))
end

-- }===

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read "*a"
  file:close()
  return content
end

local stale = false

---Writes a file if it differs from `content`; with --check it only says so.
local function renew(path, content)
  local file = io.open(path, "rb")
  local old = file and file:read "*a"
  if file then
    file:close()
  end
  if old == content then
    return
  elseif arg[1] == "--check" then
    print(path .. " is stale: run make docs")
    stale = true
    return
  end
  file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
  print("made " .. path)
end

local entries = {}
for _, path in ipairs(SOURCES) do
  read_file(path, entries)
end
renew("doc/barrier.txt", make_help(read "doc/barrier.in", entries))
renew("README.md", make_tables(read "README.md", entries))
os.exit(not stale)
