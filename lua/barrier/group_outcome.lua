---What a wait for a group gives: an error, the results and the errors.
local prefix = (...):gsub("[^.]+$", "")
local core = require(prefix .. "environment").core()
local turns = require(prefix .. "group_turns")
local jobs = require(prefix .. "group_jobs")

local classes = {
  GroupError = core.GroupError, TimeoutError = core.TimeoutError,
  BrokenBarrierError = core.BrokenBarrierError,
}

local function new_error(group, name, message, pending)
  return setmetatable({
    name = name, message = message, group = group, pending = pending,
    errors = group._errors, results = group._results, late = group.late,
  }, classes[name])
end

---The first five of the texts, and how many more there are.
local function enumerate(texts, separator)
  local more = #texts > 5 and (" and %d more"):format(#texts - 5) or ""
  return table.concat(texts, separator, 1, math.min(#texts, 5)) .. more
end

local function failed(group, pending)
  local keys, texts = {}, {}
  for key in pairs(group._errors) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return (group._numbers[a] or 0) < (group._numbers[b] or 0)
  end)
  for i, key in ipairs(keys) do
    texts[i] = i <= 5 and jobs.text_of(key) .. ": " .. jobs.text_of(group._errors[key]) or ""
  end
  return new_error(group, "GroupError", ("%d of %d jobs failed: %s"):format(#keys, group._n,
    enumerate(texts, "; ")), pending)
end

---@param what "wait"|"group"
local function timed_out(group, what, timeout, n_done, n_jobs, pending)
  local texts = {}
  for i, key in ipairs(pending) do
    texts[i] = i <= 5 and jobs.text_of(key) or ""
  end
  local message = ("%s timed out after %.0f ms, %d of %d jobs were done, pending: %s"):format(what,
    timeout, n_done, n_jobs, enumerate(texts, ", "))
  local err = new_error(group, "TimeoutError", message, pending)
  err.timeout = timeout
  return err
end

---What a wait gives: the error, the results and the errors. `timeout` is its own that has passed.
return function(group, timeout)
  local cause, options, err = group._cause, group._options, nil
  if not group._complete and timeout then
    err = timed_out(group, "wait", timeout, group._done, group._n, jobs.pending(group))
  elseif cause and cause.kind == "timeout" then
    err = timed_out(group, "group", options.timeout, cause.n_done, cause.n_jobs, cause.pending)
  elseif cause and cause.kind == "abort" then
    err = new_error(group, "BrokenBarrierError", "group aborted", cause.pending)
    err.reason = cause.reason
  elseif not (cause and cause.kind == "result") and turns.total(group, "_failed") > 0 then
    err = failed(group, cause and cause.pending or {})
  elseif not cause and options.stop_on_result then
    err = new_error(group, "GroupError", "no job had a result", {})
  end
  return err, group._results, group._errors
end
