-- Usage: lua tools/docs.lua [--check]
-- Makes doc/barrier.txt from doc/barrier.in and the annotations of the public functions, and renews
-- README.md's tables of members. With --check it writes nothing, and fails if one of them is stale.
--
-- In doc/barrier.in a line
--
--   @ Barrier:wait Barrier.*
--
-- stands for the help of this function and of all fields of this class. In README.md a table
-- begins after the line `<!-- members of Barrier: made by make docs -->` and ends at
-- `<!-- until here -->`. It has a row for each function: how to call it, and the first paragraph of
-- its description.

local SOURCES = {
  "lua/barrier/_meta.lua", "lua/barrier/init.lua", "lua/barrier/group_options.lua",
  "lua/barrier/group.lua", "lua/barrier/redis.lua",
}

-- How programs name an object of each class, and how its tags begin. With `list`, the fields are
-- shown as a list that begins in this column.
local CLASSES = {
  ["barrier"] = { variable = "barrier", tag = "barrier" },
  ["barrier.Options"] = { list = 16, tag = "barrier-" },
  ["barrier.Barrier"] = { variable = "b", tag = "barrier" },
  ["barrier.Waiter"] = { variable = "waiter", tag = "barrier-waiter" },
  ["barrier.Error"] = { variable = "err", list = 8 },
  ["barrier.TimeoutError"] = { variable = "err", list = 8 },
  ["barrier.GroupError"] = { variable = "err", list = 8 },
  ["barrier.GroupOptions"] = { list = 16 },
  ["barrier.Group"] = { variable = "group", tag = "barrier-group" },
  ["barrier.Shared"] = { variable = "b", tag = "barrier-shared" },
  ["barrier.RedisOptions"] = { list = 16 },
  ["barrier.Redis"] = { variable = "b", tag = "barrier-redis" },
}

local read_annotations = dofile "tools/annotations.lua"

local WIDTH, INDENT = 78, ("\t"):rep(2)

-- {=== how to call it ===

---The parameters as they are written in a call: `[{timeout},] {callback}`.
local function arguments(names, format)
  local text, open, separator = "", 0, ""
  for i, name in ipairs(names) do
    local plain, optional = name:match "^([^?]+)(%??)$"
    local shown = plain == "..." and plain or format:format(plain)
    local required_follows = (table.concat(names, ",", i + 1) .. ","):find "[%w_.],"
    if optional == "" then
      text, separator = text .. separator .. shown, ", "
    elseif not required_follows then
      text = text .. (i > 1 and " [" or "[") .. separator .. shown
      open, separator = open + 1, ", "
    else
      text = text .. "[" .. shown .. ",] "
    end
  end
  return text .. ("]"):rep(open)
end

---The ways to call a function; of a field its name.
---@param format string of a parameter
---@return string[]
local function calls(entry, format)
  local variable = CLASSES[entry.class].variable
  local called = (variable and variable .. entry.separator or "") .. entry.name
  if entry.is_field then
    return { called }
  end
  local names, known = {}, {}
  for i, param in ipairs(entry.params) do
    names[i], known[param.name] = param.name .. param.optional, true
  end
  local all = { called .. "(" .. arguments(names, format) .. ")" }
  local overload = entry.overload or {}
  if #overload > 0 and not known[overload[#overload]] then
    all[2] = called .. "(" .. arguments(overload, format) .. ")"
  end
  return all
end

-- }===

-- {=== text ===

---The paragraphs of a text: each is a string, the item of a list, or a block of code.
---@return { text?: string, item?: boolean, code?: string[] }[]
local function paragraphs_of(lines)
  local paragraphs, current, code = {}, nil, nil
  for _, line in ipairs(lines) do
    local item = line:match "^%- (.*)$"
    if line:find "^```" then
      if not code then
        code = {}
        paragraphs[#paragraphs + 1] = { code = code }
      else
        code = nil
      end
      current = nil
    elseif code then
      code[#code + 1] = line
    elseif line == "" then
      current = nil
    elseif item or not current then
      current = { text = item or line, item = item ~= nil }
      paragraphs[#paragraphs + 1] = current
    else
      current.text = current.text .. " " .. line:match "^%s*(.*)$"
    end
  end
  return paragraphs
end

---How many columns a line of the help takes.
local function width(line)
  local column = 0
  for c in line:gmatch "." do
    column = c == "\t" and column - column % 8 + 8 or column + 1
  end
  return column
end

---Appends a text to the help, wrapped: the first line begins with `first`, the others with `other`.
local function wrap(out, text, first, other)
  local line, is_empty = first, true
  for word in text:gmatch "%S+" do
    local longer = line .. (is_empty and "" or " ") .. word
    if not is_empty and width(longer) > WIDTH then
      out[#out + 1] = line
      longer = other .. word
    end
    line, is_empty = longer, false
  end
  out[#out + 1] = line
end

-- }===

-- {=== the help ===

---@return string? tag
local function tag_of(entry)
  local class = CLASSES[entry.class]
  if class.list then
    return class.tag and class.tag .. entry.name
  end
  return class.tag .. entry.separator .. entry.name .. (entry.is_field and "" or "()")
end

---In the help, `b:abort()` becomes a link, and a parameter is written {timeout}.
local function linked(text, entry, entries)
  return (text:gsub("`([^`]+)`", function(code)
    for _, param in ipairs(entry.params) do
      if param.name == code then
        return "{" .. code .. "}"
      end
    end
    if code:find "^vim[%w.]+%(%)$" then
      return "|" .. code .. "|"
    end
    for _, other in ipairs(entries) do
      local called = not CLASSES[other.class].list and calls(other, "")[1]:gsub("%(.*", "()")
      if called == code then
        return other == entry and code or "|" .. tag_of(other) .. "|"
      end
    end
  end))
end

---Appends the description of an entry.
local function add_text(out, entry, entries, indent)
  for i, paragraph in ipairs(paragraphs_of(entry.text)) do
    if paragraph.code then
      out[#out] = out[#out] .. " >"
      for _, line in ipairs(paragraph.code) do
        out[#out + 1] = line == "" and "" or indent .. "  " .. line
      end
      out[#out + 1] = "<"
    else
      if i > 1 and not paragraph.item and out[#out] ~= "<" then
        out[#out + 1] = ""
      end
      local text = linked(paragraph.text, entry, entries)
      wrap(out, text, indent .. (paragraph.item and "- " or ""),
        indent .. (paragraph.item and "  " or ""))
    end
  end
end

local KINDS = { thread = "coroutine", any = "" }

---A type in words: "(integer or string) ".
local function in_words(kind)
  local words = {}
  kind = kind:gsub("%?$", "|nil"):gsub("^.*%[%]$", "array")
  for part in kind:gmatch "[^|]+" do
    local word = KINDS[part]
      or part:find "^fun%(" and "function" or part:find "^barrier%.%l" and "function"
      or part:find "Options$" and "table" or part:find "^table<" and "table"
      or part:gsub("^barrier%.", "")
    words[#words + 1] = word ~= "" and word or nil
  end
  local text = table.concat(words, " or "):gsub(" or (.- or )", ", %1")
  return text == "" and "" or "(" .. text .. ") "
end

---Appends what is said of the parameters or the results.
local function add_list(out, title, list, format, entry, entries)
  if #list > 0 then
    out[#out + 1] = out[#out] ~= "<" and "" or nil
    out[#out + 1] = INDENT .. title .. ": ~"
  end
  for _, item in ipairs(list) do
    local text = in_words(item.kind) .. linked(item.text, entry, entries)
    local name = item.name == "..." and item.name or format:format(item.name)
    wrap(out, text, INDENT .. "  " .. name .. "  ", INDENT .. "    ")
  end
end

---Appends a line that ends with a tag: on a line of its own if there is no room.
local function add_tagged(out, line, tag)
  tag = "*" .. tag .. "*"
  if width(line .. "\t") + #tag > WIDTH then
    add_tagged(out, "", tag:sub(2, -2))
    out[#out + 1] = line
    return
  end
  repeat
    line = line .. "\t"
  until width(line .. "\t") + #tag > WIDTH
  out[#out + 1] = line .. tag
end

---Appends the help of a function, or of a field.
local function add_entry(out, entry, entries)
  local all = calls(entry, "{%s}")
  add_tagged(out, all[1], tag_of(entry))
  out[#out + 1] = all[2]
  add_text(out, entry, entries, INDENT)
  add_list(out, "Parameters", entry.params, "{%s}", entry, entries)
  add_list(out, "Returns", entry.returns, "%s", entry, entries)
  out[#out + 1] = ""
end

---Appends a field as an item of a list.
local function add_item(out, entry, entries, column)
  local tag, name, from = tag_of(entry), calls(entry, "")[1], #out
  if tag then
    add_tagged(out, "", tag)
    from = #out
  end
  local indent = ("\t"):rep(column / 8)
  add_text(out, entry, entries, indent .. INDENT)
  local first = indent .. name .. (#name < 8 and INDENT or "\t")
  if #name >= 16 then
    table.insert(out, from + 1, indent .. name)
  else
    out[from + 1] = first .. out[from + 1]:gsub("^\t+", "")
  end
end

-- }===

-- {=== the pages ===

---The entries that a line `@ Barrier:wait Barrier.*` names.
local function named(line, entries)
  local found = {}
  for name in line:gmatch "%S+" do
    local class, separator, member = name:match "^(.-)([.:])([%w_*]+)$"
    class = class == "barrier" and class or "barrier." .. class
    local one = entries[class .. separator .. member]
    for _, entry in ipairs(member == "*" and entries or { one }) do
      if entry == one or entry.class == class and entry.is_field then
        found[#found + 1] = entry
      end
    end
    assert(one or member == "*" and found[1], "no annotation: " .. name)
  end
  return found
end

---@return string
local function make_help(source, entries)
  local out, used = {}, {}
  for line in source:gmatch "([^\n]*)\n" do
    local names = line:match "^@ (.*)$"
    for _, entry in ipairs(names and named(names, entries) or {}) do
      local column = CLASSES[entry.class].list
      local add = column and add_item or add_entry
      add(out, entry, entries, column)
      used[entry] = true
    end
    if not names then
      out[#out + 1] = line
    end
  end
  for _, entry in ipairs(entries) do
    assert(used[entry], "not in doc/barrier.in: " .. entry.class .. entry.separator .. entry.name)
  end
  return (table.concat(out, "\n"):gsub("\n\n\n+", "\n\n")) .. "\n"
end

---A row of a table: how a function is called, and the first paragraph of its description.
local function row(entry)
  local text = (paragraphs_of(entry.text)[1] or {}).text or ""
  return ("| `%s` | %s |"):format(table.concat(calls(entry, "%s"), "`, `"), (text:gsub("|", "\\|")))
end

---@return string
local function make_tables(text, entries)
  local first = "(<!%-%- members of (%S+): made by make docs %-%->\n)"
  return (text:gsub(first .. ".-(<!%-%- until here %-%->)", function(before, class, after)
    local rows = { "| | |", "| --- | --- |" }
    class = class == "barrier" and class or "barrier." .. class
    for _, entry in ipairs(entries) do
      if entry.class == class and not entry.is_field then
        rows[#rows + 1] = row(entry)
      end
    end
    return before .. table.concat(rows, "\n") .. "\n" .. after
  end))
end

-- }===

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read "*a"
  file:close()
  return content
end

local is_stale = false

---Writes a file if its content has changed. With --check it only says so.
local function renew(path, content)
  if read(path) == content then
    return
  elseif arg[1] == "--check" then
    io.stderr:write(path, " is stale: run make docs\n")
    is_stale = true
    return
  end
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
end

local entries = {}
for _, path in ipairs(SOURCES) do
  read_annotations(path, CLASSES, entries)
end
renew("doc/barrier.txt", make_help(read "doc/barrier.in", entries))
renew("README.md", make_tables(read "README.md", entries))
os.exit(is_stale and 1 or 0)
