---Three programs run at once and meet at a barrier; then a scratch buffer shows what
---they wrote. If one of them is missing, fails, or takes too long, vim.notify says so.
local barrier = require "barrier"
local uv = vim.uv or vim.loop

local M = {}

---How long the three may take, in milliseconds.
M.timeout = 5000

---The names of the files (not folders) in a folder.
local function files_of(dir)
  local names = {}
  local entries = uv.fs_scandir(dir)
  local name = entries and uv.fs_scandir_next(entries)
  while name do
    local stat = uv.fs_stat(dir .. "/" .. name)
    if stat and stat.type == "file" then
      names[#names + 1] = name
    end
    name = uv.fs_scandir_next(entries)
  end
  table.sort(names)
  return names
end

---What to run, in the order of the report.
local function programs_for(dir)
  local count = vim.list_extend({ "-l", "--" }, files_of(dir))
  return {
    { title = "git status", command = "git", args = { "status", "--short", "--branch" } },
    { title = "git log", command = "git", args = { "log", "--oneline", "--max-count=10" } },
    { title = "lines", command = "wc", args = count },
  }
end

---Collects what comes out of a pipe, and closes it at the end.
local function read_all(pipe, on_end)
  local chunks = {}
  pipe:read_start(function(_, chunk)
    if chunk then
      chunks[#chunks + 1] = chunk
    else
      pipe:close()
      on_end(table.concat(chunks))
    end
  end)
end

---Starts a program. `done(output, problem)` is called when it has exited and all of
---its output is there, or at once if it can't be started.
---@return fun()? stop kills it; `done` is not called any more
local function start(program, dir, done)
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local output, errors, status, stopped

  local function finish()
    if stopped or not (output and errors and status) then
      return
    end
    if status == 0 then
      done(output)
    else
      done(nil, errors:match("%S[^\n]*") or ("exit status " .. status))
    end
  end

  local process, problem
  process, problem = uv.spawn(program.command, {
    args = program.args,
    cwd = dir,
    stdio = { nil, out, err },
    hide = true,
  }, function(code, signal)
    process:close()
    status = signal == 0 and code or ("signal " .. signal)
    finish()
  end)
  if not process then
    out:close()
    err:close()
    done(nil, problem)
    return
  end
  read_all(out, function(text)
    output = text
    finish()
  end)
  read_all(err, function(text)
    errors = text
    finish()
  end)

  return function()
    stopped = true
    if not process:is_closing() then
      process:kill("sigterm")
    end
    for _, pipe in ipairs { out, err } do
      if not pipe:is_closing() then
        pipe:close()
      end
    end
  end
end

---Shows the outputs in a new window.
local function show(programs, outputs)
  local lines = {}
  for i, program in ipairs(programs) do
    lines[#lines + 1] = "== " .. program.title .. " =="
    vim.list_extend(lines, vim.split((outputs[i]:gsub("\n+$", "")), "\n"))
    lines[#lines + 1] = ""
  end
  lines[#lines] = nil
  local buffer = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(buffer, 0, -1, true, lines)
  vim.bo[buffer].modifiable = false
  vim.bo[buffer].bufhidden = "wipe"
  vim.cmd "botright split"
  vim.api.nvim_win_set_buf(0, buffer)
end

---The folder of the current file, or, where there is none, the working directory.
local function current_folder()
  local dir = vim.fn.expand "%:p:h"
  local stat = uv.fs_stat(dir)
  return stat and stat.type == "directory" and dir or uv.cwd()
end

---Says why there is no report.
local function explain(err, programs, outputs)
  if getmetatable(err) ~= barrier.TimeoutError then
    return tostring(err.reason)
  end
  local late = {}
  for i, program in ipairs(programs) do
    if not outputs[i] then
      late[#late + 1] = program.title
    end
  end
  return "no answer within " .. M.timeout .. " ms from " .. table.concat(late, ", ")
end

function M.run()
  local dir = current_folder()
  local programs, outputs, stops = programs_for(dir), {}, {}
  local meeting = barrier.new(#programs + 1) -- the programs, and the party that shows the report

  for i, program in ipairs(programs) do
    stops[i] = start(program, dir, function(output, problem)
      if output then
        outputs[i] = output
        meeting:arrive()
      else
        meeting:abort(program.title .. ": " .. problem)
      end
    end)
  end

  -- Without the coroutine this would have to be a callback. It resumes through
  -- vim.schedule, so it may use vim.api.
  coroutine.wrap(function()
    local passed, err = pcall(meeting.wait, meeting, M.timeout)
    if passed then
      show(programs, outputs)
      return
    end
    for _, stop in pairs(stops) do
      stop()
    end
    vim.notify("project-report: " .. explain(err, programs, outputs), vim.log.levels.ERROR)
  end)()
end

return M
