---Notes in the table of doc/portability.md what busted's output in a file says, and fails
---if a spec did. The table is between two comments.
---
---    lua record.lua PLATFORM TAG "LUA; LIBUV" FILE STATUS
local ELSEWHERE = os.getenv "PORTABILITY_RECORD"
local PATH = ELSEWHERE or "doc/portability.md"
local FROM, TO = "<!-- made by make portability -->\n", "<!-- until here -->"
local COLUMNS = { "platform", "Lua", "libuv", "specs", "date", "commit" }

local function output_of(command)
  local pipe = assert(io.popen(command))
  local output = pipe:read "*l"
  pipe:close()
  return output
end

---The commit that was tried. Only what was tried makes it dirty.
local function commit()
  local changed = output_of "git status --porcelain --untracked-files=no -- src lua spec"
  return output_of "git rev-parse --short HEAD" .. (changed and "-dirty" or "")
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then
    file:close()
  end
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

---Replaces what is between the comments.
local function write_between(path, text, between)
  local _, first = text:find(FROM, 1, true)
  if first then
    write(path, text:sub(1, first) .. between .. text:sub((text:find(TO, first, true))))
  end
end

---The rows that are there, each an array of cells.
local function read_rows()
  local rows = {}
  local text = read(PATH) or ""
  local _, first = text:find(FROM, 1, true)
  for line in text:sub(first or 1, text:find(TO, 1, true)):gmatch "| ([^\n]*) |\n" do
    local row = {}
    for cell in (line .. " | "):gmatch "(.-) | " do
      row[#row + 1] = cell
    end
    if row[1] ~= COLUMNS[1] and row[1] ~= "---" then
      rows[#rows + 1] = row
    end
  end
  return rows
end

---What busted said at its end: "554 passed, 2 pending", and whether that is good.
local function result_of(log, status)
  local pattern = "(%d+) success%a* / (%d+) failures? / (%d+) errors? / (%d+) pending"
  local passed, failed, errors, pending
  for a, b, c, d in (read(log) or ""):gmatch(pattern) do
    passed, failed, errors, pending = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  end
  if not passed then
    return "**crashed**", false
  end
  failed = failed + errors
  local text = passed .. " passed"
  if failed > 0 then
    text = text .. ", **" .. failed .. " failed**"
  end
  if pending > 0 then
    text = text .. ", " .. pending .. " pending"
  end
  if failed == 0 and status ~= "0" then
    return text .. ", **crashed at the end**", false
  end
  return text, failed == 0 and passed > 0
end

local function lines_of(rows, columns)
  local lines = { "| " .. table.concat(columns, " | ") .. " |\n" }
  lines[2] = "|" .. (" --- |"):rep(#columns) .. "\n"
  for _, row in ipairs(rows) do
    lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |\n"
  end
  return table.concat(lines)
end

local platform, tag, names, log, status = ...
local name, libuv = names:match "^(.*); (.*)$"
if tag == "luajit-5.1" then
  name = name .. ", built for 5.1"
end
local result, good = result_of(log, status)
local new = { platform, name or "Lua " .. tag, libuv or "?", result, os.date "!%Y-%m-%d",
  commit() }

---The same with another version of an emulator is the same platform.
local function without_version(name_of_platform)
  return (name_of_platform:gsub(" [%d.]+$", ""))
end

local rows = read_rows()
for i = #rows, 1, -1 do
  if without_version(rows[i][1]) == without_version(platform) and rows[i][2] == new[2] then
    table.remove(rows, i)
  end
end
rows[#rows + 1] = new
table.sort(rows, function(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  end
  return a[2] < b[2]
end)
write_between(PATH, read(PATH) or FROM .. TO .. "\n", lines_of(rows, COLUMNS))
print(("%s, %s: %s"):format(platform, new[2], result))
os.exit(good and 0 or 1)
