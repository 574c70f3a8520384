---Random scripts on both cores: a seed that fails is reported with a script that is as short as it
---can be made.
local generate = require "spec.lockstep.generate"
local run = require "spec.lockstep.run"

local M = {}

---All lists of steps in a script, the outer ones first.
local function lists_of(script)
  local lists = { script.steps }
  for _, spec in ipairs(script.barriers) do
    for _, calls in ipairs { spec.actions or {}, spec.schedules or {} } do
      for _, call in ipairs(calls) do
        lists[#lists + 1] = call.inner
      end
    end
  end
  local i = 1
  while lists[i] do
    for _, step in ipairs(lists[i]) do
      lists[#lists + 1] = step.inner
    end
    i = i + 1
  end
  return lists
end

---Takes `size` steps out of a list, from `at` on; returns how to put them back.
local function cut(list, at, size)
  local taken = {}
  for i = 1, math.min(size, #list - at + 1) do
    taken[i] = table.remove(list, at)
  end
  return function()
    for i, step in ipairs(taken) do
      table.insert(list, at + i - 1, step)
    end
  end
end

---How a script fails, without the numbers; nil if it does not.
local function failure_of(script)
  local failure = run.run(script, true)
  return failure and failure:gsub("%d+", "N")
end

---True if it still fails in the same way.
local function fails(script)
  return failure_of(script) == script.failure
end

local function shorten_list(script, list)
  local size = math.ceil(#list / 2)
  while size >= 1 and #list > 0 do
    local at = 1
    while at <= #list do
      local put_back = cut(list, at, size)
      if not fails(script) then
        put_back()
        at = at + size
      end
    end
    size = size > 1 and math.ceil(size / 2) or 0
  end
end

---Sets a field of a table, unless the script then runs.
local function try(script, t, key, value)
  local old = t[key]
  t[key] = value
  if not fails(script) then
    t[key] = old
  end
end

local WORDS = { "again", "dies", "rethrows", "fast" }

local function shorten_step(script, step)
  for _, word in ipairs(WORDS) do
    try(script, step, word, nil)
  end
  try(script, step, "count", 1)
  try(script, step, "timeout", nil)
  try(script, step, "n", nil)
end

---Leaves out what is not needed for the script to fail.
---@param script lockstep.Script changed in place; `failure` is how it fails
function M.shorten(script)
  shorten_list(script, script.steps)
  try(script, script, "every", 1)
  for _, spec in ipairs(script.barriers) do
    for _, option in ipairs { "actions", "schedules", "defers", "timeout" } do
      try(script, spec, option, nil)
    end
    for _, parties in ipairs { 3, 2, 1 } do
      try(script, spec, "parties", math.min(spec.parties, parties))
    end
  end
  for _, list in ipairs(lists_of(script)) do
    shorten_list(script, list)
    for _, step in ipairs(list) do
      shorten_step(script, step)
    end
  end
end

local write_steps

local function write_step(step)
  local words = { step.kind, step.barrier, step.number, step.style }
  words[#words + 1] = step.timeout and "timeout=" .. step.timeout
  words[#words + 1] = step.n and "n=" .. step.n
  if step.count > 1 then
    words[#words + 1] = "count=" .. step.count
  end
  for _, word in ipairs(WORDS) do
    words[#words + 1] = step[word] and word or nil
  end
  return table.concat(words, " ") .. write_steps(step.inner)
end

function write_steps(list)
  if #list == 0 then
    return ""
  end
  local written = {}
  for i, step in ipairs(list) do
    written[i] = write_step(step)
  end
  return " {" .. table.concat(written, "; ") .. "}"
end

local function write_calls(name, calls)
  local written = {}
  for i, call in ipairs(calls or {}) do
    written[i] = (call.how or "call") .. (call.dies and " dies" or "") .. write_steps(call.inner)
  end
  return calls and (" %s: %s"):format(name, table.concat(written, " | ")) or ""
end

---A script as text.
---@param script lockstep.Script
function M.write(script)
  local loop = script.loop
  local lines = { ("loop:%s%s"):format(
    loop.refires and " timers fire again" or "", loop.timers_last and " timers last" or ""),
    "looked at: " .. (script.every == 0 and "at the end" or "every " .. script.every) }
  for i, spec in ipairs(script.barriers) do
    lines[#lines + 1] = ("barrier %d: %d parties%s%s%s"):format(i, spec.parties,
      spec.timeout and ", timeout=" .. spec.timeout or "",
      write_calls("action", spec.actions),
      write_calls(spec.defers and "default schedule" or "schedule", spec.schedules))
  end
  for _, step in ipairs(script.steps) do
    lines[#lines + 1] = "  " .. write_step(step)
  end
  return table.concat(lines, "\n")
end

---Does the script of a seed.
---@param collects boolean? is garbage collected at its end?
---@return string? report how it failed, with a shortened script
---@return integer steps done
function M.check(seed, length, collects)
  local script = generate.script(seed, length)
  local failure, count, at = run.run(script, collects)
  if not failure then
    return nil, count
  end
  local report = ("seed %d, length %d: %s"):format(seed, length, failure)
  while #script.steps > at do
    table.remove(script.steps)
  end
  script.failure = failure_of(script)
  if not script.failure then
    return report .. "\n(not when it is done again)", count
  end
  M.shorten(script)
  return ("%s\nshortened: %s\n%s"):format(report, run.run(script, true), M.write(script)), count
end

return M
