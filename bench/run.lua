---Measures our barrier beside its rivals and prints tables with ratios:
---
---    lua5.4 bench/run.lua BUILD_DIR [ROUNDS]
---
---tools/bench builds what this needs in BUILD_DIR. BUILD_DIR/commands.lua has the commands and the
---environment of each Lua, and of the peers. The rounds of what stands in one row are interleaved,
---and the median counts. Writes bench/results.md and bench/results.svg.
local build, rounds = arg[1], tonumber(arg[2]) or 5
local commands = dofile(build .. "/commands.lua")

-- {=== measuring ===

---Runs a command, which prints one or two numbers.
local function run(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local numbers = {}
  for word in (pipe:read "*l" or ""):gmatch "%S+" do
    numbers[#numbers + 1] = tonumber(word)
  end
  pipe:close()
  return numbers
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

---cases: { name = command }. Returns { name = { median of each number } }; no number if it fails.
local function interleave(cases)
  local results = {}
  for name in pairs(cases) do
    results[name] = {}
  end
  for _ = 1, rounds do
    for name, command in pairs(cases) do
      for i, value in ipairs(run(command)) do
        results[name][i] = results[name][i] or {}
        table.insert(results[name][i], value)
      end
    end
  end
  for _, lists in pairs(results) do
    for i, list in ipairs(lists) do
      lists[i] = median(list)
    end
  end
  return results
end

---The command of a measurement: ours on Lua 5.4, unless it says something else.
---@param case { lua?: string, core?: string, [1]: string, [2]: string, [3]: integer, [4]: integer }
local function measure(case)
  local lua = commands.lua[case.lua or "Lua 5.4"]
  return lua and ("BARRIER_CORE=%s %s %s %s %d %d"):format(case.core or "c", lua, case[1], case[2],
    case[3], case[4] or 1)
end

-- }===

-- {=== tables ===

local lines = {}
local function say(format, ...)
  local line = format:format(...)
  print(line)
  lines[#lines + 1] = line
end

---"1,000,000"
local function with_commas(n)
  return (tostring(n):reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", ""))
end

---Three digits, or all before the point.
local function number(value)
  if value >= 100 then
    return with_commas(("%.0f"):format(value))
  end
  return ((value < 10 and "%.2f" or "%.1f"):format(value))
end

---@param unit number by which the numbers are divided
local function cell(values, ours, unit)
  if not values[1] then
    return ""
  end
  local texts = {}
  for i, value in ipairs(values) do
    texts[i] = number(value / unit)
  end
  local text = table.concat(texts, ", ")
  if values ~= ours and ours[1] then
    text = ("%s (%.2f)"):format(text, values[1] / ours[1])
  end
  return text
end

---A table: a row for each thing that is measured, a column for each that does it. Returns the
---numbers by the names of row and column.
---@param columns string[] those of the cases, ours first
---@param rows { [1]: string, [2]: table<string, string?> }[] a name, and a command for each column
local function tabulate(title, columns, rows, unit)
  local results = {}
  say ""
  say("## %s", title)
  say ""
  say("| | %s |", table.concat(columns, " | "))
  say("| --- |%s", (" ---: |"):rep(#columns))
  for _, row in ipairs(rows) do
    local r = interleave(row[2])
    local cells = {}
    for i, column in ipairs(columns) do
      cells[i] = r[column] and cell(r[column], r[columns[1]] or {}, unit or 1) or ""
    end
    say("| %s | %s |", row[1], table.concat(cells, " | "))
    results[row[1]] = r
  end
  return results
end

local function trips(parties, waits)
  return math.max(10, math.floor(waits / parties))
end

-- }===

-- {=== what is measured ===

local chart = {} -- by number of parties: the numbers of each Lua, and of the peers

local function waits(lua)
  local rows = {}
  for _, n in ipairs { 2, 10, 1000, 100000 } do
    local t = trips(n, 1000000)
    rows[#rows + 1] = { with_commas(n) .. " parties", {
      ours = measure { "ours", "wait", n, t, lua = lua },
      ["bare yield"] = measure { "by_hand", "floor", n, t, lua = lua },
      ["by hand"] = measure { "by_hand", "wait", n, t, lua = lua },
      ["the core in Lua"] = measure { "ours", "wait", n, t, lua = lua, core = "lua" },
    } }
  end
  local results = tabulate(lua .. ": a wait", { "ours", "bare yield", "by hand",
    "the core in Lua" }, rows)
  for _, n in ipairs { 10, 1000, 100000 } do
    chart[n] = chart[n] or {}
    chart[n][lua] = results[with_commas(n) .. " parties"]
  end
end

local function peers()
  local rows = {}
  for _, n in ipairs { 10, 1000, 100000 } do
    local cases = { ours = measure { "ours", "wait", n, trips(n, 1000000) } }
    for name, peer in pairs(commands.peers) do
      local times = trips(n, name:find "asyncio" and 100000 or 1000000)
      cases[name] = ("%s %d %d"):format(peer, n, times)
    end
    rows[#rows + 1] = { with_commas(n) .. " parties", cases }
  end
  local results = tabulate("Lua 5.4: a wait, beside other languages and loops",
    { "ours", "Boost.Fiber", "cqueues", "asyncio", "asyncio on uvloop" }, rows)
  for _, n in ipairs { 10, 1000, 100000 } do
    chart[n].peers = results[with_commas(n) .. " parties"]
  end
end

---@param list { [1]: string, [2]: string, [3]: integer, [4]: integer }[] name, what, n, times
---@param columns table<string, table> for each the library, and what `measure` knows
local function rows_of(list, columns)
  local rows = {}
  for i, item in ipairs(list) do
    local cases = {}
    for name, column in pairs(columns) do
      local case = { column[1], item[2], item[3], item[4] }
      case.lua, case.core = column.lua, column.core
      cases[name] = not (item.no_hand and name == "by hand") and measure(case) or nil
    end
    rows[i] = { item[1], cases }
  end
  return rows
end

local function beside_by_hand(lua, title, list, unit)
  tabulate(lua .. ": " .. title, { "ours", "by hand" }, rows_of(list, {
    ours = { "ours", lua = lua }, ["by hand"] = { "by_hand", lua = lua },
  }), unit)
end

local function operations()
  for _, n in ipairs { 1000, 100000 } do
    local t = trips(n, 300000)
    local rows = rows_of({
      { "`cancel`, in random order", "cancel", n }, { "`coroutine.close`, the same", "close", n },
      { "resumed by a stranger, the same", "stranger", n },
      { "`waiter:close()`, the same", "close_waiter", n },
      { "time out", "expire", n }, { "`abort`", "abort", n },
      { "the errors of `abort` in plain Lua", "raise", n },
      { "wait with a timeout, and pass", "timeout", n, t },
      { "wait with a callback, and pass", "callback", n, t },
    }, { ["the operation"] = { "ours" } })
    for _, row in ipairs(rows) do
      row[2]["a wait"] = measure { "ours", "wait", n, trips(n, 1000000) }
    end
    tabulate(("Lua 5.4: each of %s parties"):format(with_commas(n)),
      { "the operation", "a wait" }, rows)
  end
end

local function threads()
  local rows = {}
  for _, n in ipairs { 2, 4, 8 } do
    local cases = {
      ours = measure { "ours", "threads", n, 20000 },
      ["ours on LuaJIT"] = measure { "ours", "threads", n, 20000, lua = "LuaJIT" },
    }
    for name, peer in pairs(commands.threads) do
      cases[name] = ("%s %d %d"):format(peer, n, 20000)
    end
    rows[#rows + 1] = { n .. " threads", cases }
  end
  tabulate("A trip of a shared barrier, in microseconds", { "ours", "ours on LuaJIT",
    "pthread_barrier_t", "C++ std::barrier", "Python threading.Barrier" }, rows, 1000)
end

local function everything()
  for _, lua in ipairs { "Lua 5.4", "LuaJIT" } do
    waits(lua)
  end
  peers()
  for _, lua in ipairs { "Lua 5.4", "LuaJIT" } do
    beside_by_hand(lua, "other operations", {
      { "a wait at one of 1,000 barriers for two", "many", 1000, 100 },
      { "`arrive`", "arrive", 1000, 1000 },
      { "`register` and `deregister`", "register", 1000, 1000 },
      { "`await_trip`", "watch", 1000, 1000 },
      { "make a barrier, and drop it", "make", 3, 100000 },
      { "a job in a group of one", "group", 1, 30000 }, { "of 10", "group", 10, 10000 },
      { "of 1,000", "group", 1000, 300 },
    })
    tabulate(lua .. ": a wait at a shared barrier, all parties in one thread",
      { "shared", "a barrier of one state" }, rows_of({ { "10 parties", "wait", 10, 10000 },
        { "1,000 parties", "wait", 1000, 300 } }, { shared = { "shared", lua = lua },
        ["a barrier of one state"] = { "ours", lua = lua } }))
  end
  operations()
  tabulate("Neovim: a job, in a group of its size",
    { "ours", "by hand", "plenary", "nio", "async" },
    rows_of({ { "1 job", "group", 1, 1000 }, { "10 jobs", "group", 10, 300 },
      { "1,000 jobs", "group", 1000, 10 } }, {
      ours = { "ours", lua = "Neovim" }, ["by hand"] = { "by_hand", lua = "Neovim" },
      plenary = { "plenary", lua = "Neovim" }, nio = { "nio", lua = "Neovim" },
      async = { "async", lua = "Neovim" },
    }))
  for _, lua in ipairs { "Lua 5.4", "LuaJIT", "Neovim" } do
    beside_by_hand(lua, "from the last arrival to the first waiter on an idle loop, in "
      .. "microseconds: median, 99th percentile", {
      { "2 parties, the last in a request's callback", "latency", 2, 300 },
      { "10 parties", "latency", 10, 300 }, { "1,000 parties", "latency", 1000, 100 },
      { "2 parties, the last in a timer's callback", "latency_timer", 2, 300 },
    }, 1000)
  end
  threads()
  beside_by_hand("Lua 5.4", "the longest pause of the loop, in milliseconds", {
    { "a trip of 100,000 parties", "pause", 100000 },
    { "100,000 parties time out", "pause_expire", 100000, no_hand = true },
  }, 1e6)
  for _, lua in ipairs { "Lua 5.4", "LuaJIT" } do
    beside_by_hand(lua, "resident bytes", {
      { "a coroutine that waits (by hand: that has yielded)", "memory_party", 300000 },
      { "a barrier", "memory_barrier", 100000 }, { "a pending job", "memory_job", 300000 },
    })
  end
  tabulate("Load the module, in microseconds", { "the core in C", "the core in Lua" }, {
    { "Lua 5.4", { ["the core in C"] = measure { "ours", "load", 1 },
      ["the core in Lua"] = measure { "ours", "load", 1, core = "lua" } } },
    { "Neovim", { ["the core in C"] = measure { "ours", "load", 1, lua = "Neovim" },
      ["the core in Lua"] = measure { "ours", "load", 1, lua = "Neovim", core = "lua" } } },
    { "Neovim, with a first barrier", {
      ["the core in C"] = measure { "ours", "first", 1, lua = "Neovim" },
      ["the core in Lua"] = measure { "ours", "first", 1, lua = "Neovim", core = "lua" } } },
  }, 1000)
end

-- }===

-- {=== the chart ===

---The rows of the chart: a name, and a function that finds the nanoseconds in what was
---measured at one number of parties.
local function chart_rows()
  local rows = {}
  local function row(name, find)
    rows[#rows + 1] = { name = name, find = find, ours = name:find "luv%-barrier" ~= nil }
  end
  for _, lua in ipairs { "Lua 5.4", "LuaJIT" } do
    for _, of in ipairs { { "bare yield", "bare coroutine.yield()" }, { "ours", "luv-barrier" },
      { "by hand", "twenty lines of Lua" } } do
      row(of[2] .. ", " .. lua, function(r)
        return r[lua] and r[lua][of[1]][1]
      end)
    end
  end
  for _, peer in ipairs { "Boost.Fiber", "cqueues", "asyncio on uvloop", "asyncio" } do
    row(peer, function(r)
      return r.peers[peer] and r.peers[peer][1]
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

-- }===

everything()
write_chart()
local out = assert(io.open("bench/results.md", "w"))
out:write("# Measurements\n\nMade by `make bench`: medians of ", rounds, " interleaved rounds, ",
  "nanoseconds of CPU time unless it says something else. In\nparentheses: how many times the ",
  "first column. An empty cell: not there.\n", table.concat(lines, "\n"), "\n")
out:close()
