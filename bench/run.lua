---Measures our barrier beside its rivals and prints tables with ratios:
---
---    lua5.4 bench/run.lua BUILD_DIR [ROUNDS]
---
---The Makefile builds what this needs in BUILD_DIR. BUILD_DIR/commands.lua has the
---commands and the environment of each Lua. The rounds of the rivals are interleaved,
---and the median counts. Writes bench/results.md and bench/results.svg.
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
  say("| parties | floor | ours | core in Lua | naive | ours / floor | ours / naive "
    .. "| core in Lua / naive |")
  say("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
  for _, parties in ipairs(sizes) do
    local n = trips(parties, 1000000)
    local r = interleave {
      floor = measure(lua, "floor", parties, n),
      ours = measure(lua, "ours", parties, n),
      in_lua = "BARRIER_CORE=lua " .. measure(lua, "ours", parties, n),
      naive = measure(lua, "naive", parties, n),
    }
    say("| %d | %s | %s | %s | %s | %s | %s | %s |", parties, number(r.floor), number(r.ours),
      number(r.in_lua), number(r.naive), ratio(r.ours, r.floor), ratio(r.ours, r.naive),
      ratio(r.in_lua, r.naive))
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
  for _, parties in ipairs { 10, 1000, 100000 } do
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

---What does the same by hand: a table in Lua, a condition variable of Boost.Fiber.
local function table_of_counters()
  say("")
  say("Lua 5.4, 1,000 parties: nanoseconds for each operation, beside what one writes by hand")
  say("")
  say("| operation | ours | in Lua | with Boost.Fiber |")
  say("| --- | ---: | ---: | ---: |")
  local n = trips(1000, 1000000)
  local fiber = commands.peers.fiber
  for _, operation in ipairs {
    { "arrive", "`arrive`" },
    { "register", "`register` and `deregister`" },
    { "watch", "`await_trip`" },
    { "timeout", "wait with a timeout, and pass" },
  } do
    local what = operation[1]
    local r = interleave {
      ours = measure("Lua 5.4", what, 1000, n),
      lua = what ~= "timeout" and measure("Lua 5.4", what .. "_counter", 1000, n) or nil,
      fiber = fiber and ("%s 1000 %d %s"):format(fiber, n, what) or nil,
    }
    say("| %s | %s | %s | %s |", operation[2], number(r.ours), number(r.lua), number(r.fiber))
  end
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

---The rows of the chart: a name, and a function that finds the nanoseconds in what was
---measured at one number of parties.
local function chart_rows()
  local rows = {}
  local function row(name, find)
    rows[#rows + 1] = { name = name, find = find, ours = name:find "luv%-barrier" ~= nil }
  end
  for _, lua in ipairs(commands.order) do
    for _, of in ipairs { { "floor", "bare coroutine.yield()" }, { "ours", "luv-barrier" },
      { "naive", "twenty lines of Lua" } } do
      row(of[2] .. ", " .. lua, function(r)
        return r[lua] and r[lua][of[1]]
      end)
    end
  end
  for _, of in ipairs { { "fiber", "Boost.Fiber, C++" }, { "cqueues", "cqueues, Lua 5.4" },
    { "asyncio_uvloop", "asyncio on uvloop" }, { "asyncio", "asyncio" } } do
    row(of[2], function(r)
      return r.peers and r.peers[of[1]]
    end)
  end
  return rows
end

-- A background of its own, so that the text can be read on any page.
local STYLE = [[
<style>
.page { fill: #ffffff } text { fill: #1f2328 } .bar { fill: #b3bcc7 } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } text { fill: #e6edf3 } .bar { fill: #59636e } .ours { fill: #4493f8 }
}
</style>
]]

local LONGEST = 600 -- nanoseconds: longer bars end there
local CHART_SIZES = { 10, 1000, 100000 }

---"100,000"
local function with_commas(n)
  return (tostring(n):reverse():gsub("(%d%d%d)(%d)", "%1,%2"):reverse())
end

---Draws bars of nanoseconds a wait: a row for each rival, a column for each number of parties.
local function write_chart()
  local rows = chart_rows()
  local out = assert(io.open("bench/results.svg", "w"))
  local function write(format, ...)
    out:write(format:format(...), "\n")
  end
  write('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 %d" font-family="sans-serif" '
    .. 'font-size="13" role="img">', #rows * 24 + 76)
  write "<title>Nanoseconds a wait at 10, 1,000 and 100,000 parties</title>"
  out:write(STYLE)
  write '<rect class="page" width="100%%" height="100%%" rx="6"/>'
  write('<text x="12" y="26" font-size="15">Nanoseconds a wait (bars end at %d)</text>', LONGEST)
  for column, parties in ipairs(CHART_SIZES) do
    local left = 220 + (column - 1) * 230
    write('<text x="%d" y="52" font-weight="bold">%s parties</text>', left, with_commas(parties))
    for i, row in ipairs(rows) do
      local y, value = 40 + i * 24, row.find(chart[parties])
      if column == 1 then
        write('<text x="%d" y="%d" text-anchor="end"%s>%s</text>', left - 10, y + 13,
          row.ours and ' font-weight="bold"' or "", row.name)
      end
      if value then
        local width = math.min(value, LONGEST) / LONGEST * 160
        write('<rect class="%s" x="%d" y="%d" width="%.0f" height="16" rx="2"/>',
          row.ours and "ours" or "bar", left, y, width)
        write('<text x="%.0f" y="%d">%s</text>', left + width + 6, y + 13,
          with_commas(math.floor(value + 0.5)))
      else
        write('<text x="%d" y="%d">–</text>', left, y + 13)
      end
    end
  end
  write "</svg>"
  out:close()
end

for _, lua in ipairs(commands.order) do
  table_of_waits(lua)
end
table_of_peers()
table_of_operations()
table_of_counters()
memory()
write_chart()
local out = assert(io.open("bench/results.md", "w"))
out:write("# Measurements\n\nMade by `make bench`: medians of ", rounds,
  " interleaved rounds, CPU time.\nThe peers are measured where they are installed (Debian: ",
  "`g++ libboost-fiber-dev lua-cqueues python3 python3-uvloop`).\n",
  table.concat(lines, "\n"), "\n")
out:close()
