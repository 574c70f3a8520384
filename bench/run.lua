---Measures our barrier beside its rivals and prints tables with ratios:
---
---    lua5.4 bench/run.lua BUILD_DIR [ROUNDS]
---
---The Makefile builds what this needs in BUILD_DIR. BUILD_DIR/commands.lua has the
---commands and the environment of each Lua. The rounds of the rivals are interleaved,
---and the median counts. Writes bench/results.md, bench/results.svg and the tables in
---README.md.
local build, rounds = arg[1], tonumber(arg[2]) or 5
local commands = dofile(build .. "/commands.lua")

local function run(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local result = tonumber(pipe:read("*l") or "")
  pipe:close()
  return result
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

---cases: { name = command }. Returns { name = median }, without the cases that fail.
local function interleave(cases)
  local results = {}
  for _ = 1, rounds do
    for name, command in pairs(cases) do
      local value = run(command)
      if value then
        results[name] = results[name] or {}
        table.insert(results[name], value)
      end
    end
  end
  for name, list in pairs(results) do
    results[name] = median(list)
  end
  return results
end

local function trips(parties, waits)
  return math.max(10, math.floor(waits / parties))
end

local function measure(lua, what, parties, n)
  return string.format("%s bench/measure.lua %s %d %d", commands.lua[lua], what, parties, n)
end

local lines = {}
local function say(format, ...)
  local line = string.format(format, ...)
  print(line)
  lines[#lines + 1] = line
end

local function number(value)
  return value and string.format(value < 10 and "%.2f" or "%.0f", value) or ""
end

local function ratio(a, b)
  return a and b and string.format("%.2f", a / b) or ""
end

local sizes = { 10, 1000, 10000, 100000, 1000000 }
local chart = {}

local function table_of_waits(lua)
  say("")
  say("%s: nanoseconds a wait", lua)
  say("")
  say("| parties | floor | ours | naive | ours / floor | ours / naive |")
  say("| ---: | ---: | ---: | ---: | ---: | ---: |")
  for _, parties in ipairs(sizes) do
    local n = trips(parties, 1000000)
    local r = interleave {
      floor = measure(lua, "floor", parties, n),
      ours = measure(lua, "ours", parties, n),
      naive = measure(lua, "naive", parties, n),
    }
    say("| %d | %s | %s | %s | %s | %s |", parties, number(r.floor), number(r.ours),
      number(r.naive), ratio(r.ours, r.floor), ratio(r.ours, r.naive))
    chart[parties] = chart[parties] or {}
    chart[parties][lua] = r
  end
end

local function table_of_peers()
  say("")
  say("Others: nanoseconds a wait, and how many of ours (Lua 5.4) that is")
  say("")
  say("| parties | ours | Boost.Fiber | cqueues | asyncio | asyncio on uvloop |")
  say("| ---: | ---: | ---: | ---: | ---: | ---: |")
  for _, parties in ipairs { 10, 1000, 10000 } do
    local cases = { ours = measure("Lua 5.4", "ours", parties, trips(parties, 1000000)) }
    for name, peer in pairs(commands.peers) do
      cases[name] = string.format("%s %d %d", peer, parties,
        trips(parties, name:find("asyncio") and 100000 or 1000000))
    end
    local r = interleave(cases)
    local function cell(name)
      return r[name] and number(r[name]) .. " (" .. ratio(r[name], r.ours) .. ")" or "not installed"
    end
    say("| %d | %s | %s | %s | %s | %s |", parties, number(r.ours), cell("fiber"),
      cell("cqueues"), cell("asyncio"), cell("asyncio_uvloop"))
    chart[parties].peers = r
  end
end

local function table_of_operations()
  say("")
  say("Lua 5.4: nanoseconds for each operation, and the ratio to a wait of that size")
  say("")
  say("| operation | 1,000 waiting | 100,000 waiting |")
  say("| --- | ---: | ---: |")
  local operations = {
    { "cancel", "`cancel`, in random order" },
    { "close", "`coroutine.close`, in random order" },
    { "stranger", "resume by a stranger, in random order" },
    { "close_waiter", "`waiter:close()`, in random order" },
    { "expire", "time out" },
    { "abort", "`abort`, an error table for each" },
    { "raise", "raise such a table in each coroutine, in plain Lua" },
    { "timeout", "wait with a timeout, and pass" },
    { "callback", "wait with a callback, and pass" },
  }
  local cases = {}
  for _, parties in ipairs { 1000, 100000 } do
    cases["ours" .. parties] = measure("Lua 5.4", "ours", parties, trips(parties, 1000000))
    for _, operation in ipairs(operations) do
      cases[operation[1] .. parties] =
        measure("Lua 5.4", operation[1], parties, trips(parties, 300000))
    end
  end
  cases.create = measure("Lua 5.4", "create", 3, 300000)
  cases.first = measure("Lua 5.4", "first", 2, 20000)
  cases.last = measure("Lua 5.4", "last", 1000, 300)
  local r = interleave(cases)
  for _, operation in ipairs(operations) do
    local cells = {}
    for _, parties in ipairs { 1000, 100000 } do
      local value = r[operation[1] .. parties]
      cells[#cells + 1] = number(value) .. " (" .. ratio(value, r["ours" .. parties]) .. ")"
    end
    say("| %s | %s | %s |", operation[2], cells[1], cells[2])
  end
  say("")
  say("Creating a barrier: %s ns. From the trip to the first resume: %s ns; to the last of 1,000: "
    .. "%s ns.", number(r.create), number(r.first), number(r.last))
end

local function memory()
  say("")
  say("Resident memory for each waiting party, beyond that of a suspended coroutine:")
  say("")
  for _, lua in ipairs(commands.order) do
    local r = interleave {
      ours = measure(lua, "memory", 1000000, 1),
      plain = measure(lua, "memory_plain", 1000000, 1),
    }
    say("- %s: %.0f bytes (the coroutine: %.0f)", lua, r.ours - r.plain, r.plain)
  end
end

---Draws bars of nanoseconds a wait at 1,000 parties.
local function write_chart()
  local r = chart[1000]
  local bars = {}
  local function bar(name, value)
    if value then
      bars[#bars + 1] = { name, value }
    end
  end
  for _, lua in ipairs(commands.order) do
    bar("floor: coroutine.yield(), " .. lua, r[lua].floor)
    bar("luv-barrier, " .. lua, r[lua].ours)
    bar("naive Lua, " .. lua, r[lua].naive)
  end
  bar("Boost.Fiber, C++", r.peers.fiber)
  bar("cqueues, Lua 5.4", r.peers.cqueues)
  bar("asyncio on uvloop", r.peers.asyncio_uvloop)
  bar("asyncio", r.peers.asyncio)
  local widest = 700
  local height = #bars * 26 + 60
  local out = assert(io.open("bench/results.svg", "w"))
  out:write(string.format('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 %d" '
    .. 'font-family="sans-serif" font-size="13">\n', height))
  out:write('<rect width="100%" height="100%" fill="#fff"/>\n')
  out:write('<text x="10" y="24" font-size="15">Nanoseconds a wait, 1,000 parties '
    .. "(bars end at 600)</text>\n")
  for i, b in ipairs(bars) do
    local y = 20 + i * 26
    local width = math.min(b[2], 600) / 600 * (widest - 260)
    local ours = b[1]:find("luv%-barrier")
    out:write(string.format('<text x="250" y="%d" text-anchor="end">%s</text>\n', y + 13, b[1]))
    out:write(string.format('<rect x="260" y="%d" width="%.0f" height="18" fill="%s"/>\n', y, width,
      ours and "#2a6fdb" or "#b8c2cc"))
    out:write(string.format('<text x="%.0f" y="%d">%s</text>\n', 266 + width, y + 13, number(b[2])))
  end
  out:write("</svg>\n")
  out:close()
end

---Puts what has been said so far into README.
local function write_readme()
  local from, to = "<!-- made by make bench -->\n", "\n<!-- until here -->"
  local file = assert(io.open "README.md")
  local text = file:read "*a"
  file:close()
  local _, first = text:find(from, 1, true)
  local last = text:find(to, first, true)
  file = assert(io.open("README.md", "w"))
  file:write(text:sub(1, first), table.concat(lines, "\n", 2), text:sub(last))
  file:close()
end

for _, lua in ipairs(commands.order) do
  table_of_waits(lua)
end
table_of_peers()
write_readme()
table_of_operations()
memory()
write_chart()
local out = assert(io.open("bench/results.md", "w"))
out:write("# Measurements\n\nMade by `make bench`: medians of ", rounds,
  " interleaved rounds, CPU time.\nThe peers are measured where they are installed (Debian: ",
  "`g++ libboost-fiber-dev lua-cqueues python3 python3-uvloop`).\n",
  table.concat(lines, "\n"), "\n")
out:close()
