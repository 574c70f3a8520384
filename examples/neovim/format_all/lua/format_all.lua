---Runs several formatters on a buffer at once, and applies what they changed, in their order.
---A formatter is a program that reads the text from its standard input and writes it to its
---standard output. All is called off when the buffer changes meanwhile, or is closed.
local barrier = require "barrier"
local uv = vim.uv or vim.loop
local diff = vim.text and vim.text.diff or vim.diff

local M = {}

---How long the formatters may take, in milliseconds.
M.timeout = 5000

---The formatters of each filetype, in order: their names and what to run.
---@type table<string, { name: string, command: string[] }[]>
M.formatters = {}

---The callback of vim.system: calls `done` as luv does, with an error or nil and the output.
local function on_exit(done)
  return function(result)
    if result.code == 0 and result.signal == 0 then
      done(nil, result.stdout)
    else
      local status = result.signal == 0 and "exit status " .. result.code
        or "signal " .. result.signal
      done(result.stderr:match "%S[^\n]*" or status)
    end
  end
end

---Collects what comes out of a pipe, and closes it at the end.
local function read_all(pipe, done)
  local chunks = {}
  pipe:read_start(function(err, chunk)
    if chunk then
      chunks[#chunks + 1] = chunk
    else
      pipe:close()
      done(err, table.concat(chunks))
    end
  end)
end

---What vim.system does, for a Neovim before 0.10. It has ended when three things have, in
---whatever order: the program, its output, and its messages.
local function spawn(command, options, callback)
  local input, out, err = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local parts = barrier.group()
  local ended = parts:add "status"
  local process, problem
  process, problem = uv.spawn(command[1], {
    args = vim.list_slice(command, 2),
    stdio = { input, out, err },
    hide = true,
  }, function(code, signal)
    process:close()
    ended(nil, code, signal)
  end)
  if not process then
    for _, pipe in ipairs { input, out, err } do
      pipe:close()
    end
    error(problem, 0)
  end
  read_all(out, parts:add "stdout")
  read_all(err, parts:add "stderr")
  input:write(options.stdin, function() -- a formatter need not read all of it
    input:close()
  end)
  parts:wait(function(_, results, errors)
    callback {
      code = results.status[1],
      signal = results.status[2],
      stdout = results.stdout or "",
      stderr = results.stderr or errors.stderr or "",
    }
  end)
  return process
end

---Starts a formatter: a job of the group, which the process that is returned stops.
local function start(command, text)
  return function(done)
    return (vim.system or spawn)(command, { stdin = text }, on_exit(done))
  end
end

---Calls `call_off` when the buffer is changed or closed.
---@param is_over fun(): boolean
local function watch(buffer, is_over, call_off)
  local function changed()
    if not is_over() then
      call_off "the buffer has changed"
    end
    return true
  end
  vim.api.nvim_buf_attach(buffer, false, {
    on_lines = changed,
    on_reload = changed,
    on_detach = function()
      if not is_over() then
        call_off "the buffer was closed"
      end
    end,
  })
end

---What the formatters want to change, in their order. Of two who want to change the same
---lines, each in its own way, the first wins, and the other is an error.
local function collect(text, formatters, results, errors)
  local hunks, owners = {}, {}
  for _, formatter in ipairs(formatters) do
    local output = results[formatter.name]
    local lines = vim.split(output or "", "\n")
    for _, at in ipairs(output and diff(text, output, { result_type = "indices" }) or {}) do
      local first, count = at[1], at[2]
      local hunk = {
        first = count == 0 and first or first - 1, -- from 0 on, as nvim_buf_set_lines counts
        count = count,
        lines = vim.list_slice(lines, at[3], at[3] + at[4] - 1),
      }
      local other
      local from = count == 0 and first + 0.5 or first -- what is inserted goes between two lines
      for place = from, from + math.max(count - 1, 0), 0.5 do
        other = other or owners[place]
        owners[place] = owners[place] or { name = formatter.name, hunk = hunk }
      end
      if not other then
        hunks[#hunks + 1] = hunk
      elseif not vim.deep_equal(other.hunk, hunk) then
        errors[formatter.name] = ("line %d is %s's"):format(first, other.name)
      end
    end
  end
  return hunks
end

---Changes the buffer, from the bottom to the top: so the lines above keep their numbers. What
---is inserted before a line comes after the change of that line.
local function apply(buffer, hunks)
  table.sort(hunks, function(a, b)
    return a.first > b.first or a.first == b.first and a.count > b.count
  end)
  for _, hunk in ipairs(hunks) do
    vim.api.nvim_buf_set_lines(buffer, hunk.first, hunk.first + hunk.count, true, hunk.lines)
  end
end

---Shows all errors in one message, in the order of the formatters.
local function report(formatters, errors)
  local lines = {}
  for _, formatter in ipairs(formatters) do
    if errors[formatter.name] then
      lines[#lines + 1] = "format_all: " .. formatter.name .. ": " .. errors[formatter.name]
    end
  end
  if lines[1] then
    vim.notify(table.concat(lines, "\n"), vim.log.levels.ERROR)
  end
end

---@param err barrier.Error of a group that was stopped
local function explain(err)
  if getmetatable(err) == barrier.TimeoutError then
    vim.notify(("format_all: no answer within %d ms from %s"):format(M.timeout,
      table.concat(err.pending, ", ")), vim.log.levels.ERROR)
  else
    vim.notify("format_all: called off, " .. tostring(err.reason), vim.log.levels.WARN)
  end
end

function M.run()
  local buffer = vim.api.nvim_get_current_buf()
  local formatters = M.formatters[vim.bo.filetype] or {}
  local text = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, true), "\n") .. "\n"
  local group = barrier.group { timeout = M.timeout }

  for _, formatter in ipairs(formatters) do
    group:start(formatter.name, start(formatter.command, text))
  end
  local over = false
  watch(buffer, function()
    return over
  end, function(reason)
    group:abort(reason)
  end)

  -- It goes on where vim.api may be called, whichever program was the last to end.
  group:wait(function(err, results, errors)
    over = true
    if err and getmetatable(err) ~= barrier.GroupError then
      explain(err)
      return
    end
    apply(buffer, collect(text, formatters, results, errors))
    report(formatters, errors)
  end)
end

return M
