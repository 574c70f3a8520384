-- How busted shows what came out of the specs: each failure in full, then a line of
-- counts for this Lua, then once each what it lacks, and how many specs that leaves out.
-- With SPECS_SUITE, the tag of this Lua, the counts are kept as well, for tools/total.
local busted = require "busted"
local pretty = require "pl.pretty"

local NAMES = { luajit = "LuaJIT", ["luajit-5.1"] = "LuaJIT, module for 5.1", nvim = "Neovim" }

local suite = os.getenv "SPECS_SUITE"

local function name()
  local tag = suite or (vim and "nvim") or (jit and "luajit") or _VERSION:match "%d.%d"
  local lua, count = tag:gsub("%-lua$", "")
  return (NAMES[lua] or "Lua " .. lua) .. (count > 0 and ", core in Lua" or "")
end

local function text(message)
  if type(message) == "string" then
    return message
  end
  return message == nil and "nil" or pretty.write(message)
end

local function show(failure, kind, verbose)
  local trace = failure.element.trace
  local place = trace and trace.short_src and trace.short_src .. ":" .. trace.currentline .. ": "
  io.write(kind, ", ", name(), ": ", place or "", failure.name or "", "\n",
    text(failure.message), "\n")
  if verbose and failure.trace and failure.trace.traceback then
    io.write(failure.trace.traceback, "\n")
  end
  io.write "\n"
end

---Why a spec was left out: what it said itself, or spec/support.lua in its name.
local function reason_of(pending)
  local said = pending.message and text(pending.message):gsub("^%S+:%d+: ", "")
  local title = pending.element.name
  return said or title:match "%(left out: (.*)%)$" or title
end

---How many specs each reason left out, and the reasons in order of their first spec.
local function reasons_of(pendings)
  local counts, reasons = {}, {}
  for _, pending in ipairs(pendings) do
    local reason = reason_of(pending)
    if not counts[reason] then
      reasons[#reasons + 1] = reason
    end
    counts[reason] = (counts[reason] or 0) + 1
  end
  return counts, reasons
end

local function keep(passed, failed, left_out)
  local file = assert(io.open(".build/total/" .. suite, "a"))
  file:write(("%d %d %d\n"):format(passed, failed, left_out))
  file:close()
end

return function(options)
  local handler = require "busted.outputHandlers.base"()

  busted.subscribe({ "suite", "end" }, function()
    if vim then
      io.write "\n" -- ends the line of a message of Neovim's
    end
    for _, failure in ipairs(handler.failures) do
      show(failure, "Failure", options.verbose)
    end
    for _, failure in ipairs(handler.errors) do
      show(failure, "Error", options.verbose)
    end
    local passed, left_out = handler.successesCount, handler.pendingsCount
    local failed = handler.failuresCount + handler.errorsCount
    io.write(("%s: %d passed, %d failed, %d left out (%.1f s)\n"):format(
      name(), passed, failed, left_out, handler.getDuration()))
    local counts, reasons = reasons_of(handler.pendings)
    for _, reason in ipairs(reasons) do
      io.write(("  left out: %d %s, since %s\n"):format(
        counts[reason], counts[reason] == 1 and "spec" or "specs", reason))
    end
    io.flush()
    if suite then
      keep(passed, failed, left_out)
    end
    return nil, true
  end)

  return handler
end
