---Helpers that several specs share.
local uv = require "luv"
local barrier = require "barrier"

local M = {}

M.project = uv.cwd()

---True if a coroutine can yield inside pcall: not in PUC Lua 5.1.
M.pcall_yields = coroutine.wrap(function()
  return pcall(coroutine.yield)
end)() == nil

---The interpreter that runs the specs. luv cannot tell if /proc is not mounted, as in a new
---folder of debootstrap.
M.interpreter = uv.exepath()
if not M.interpreter then
  local i = 0
  while arg[i - 1] do
    i = i - 1
  end
  M.interpreter = arg[i]
end

---True if a callback can run the loop. Newer versions of luv refuse: "loop already running".
M.loop_nests = (function()
  local nests
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    nests = uv.run("nowait") ~= nil
    timer:close()
    uv.stop() -- a spec that failed may have left a long timeout
  end)
  uv.run()
  uv.run "nowait" -- the timer is closed
  return nests
end)()

---`it`, or where what the specs need is missing one that leaves them out: tools/report.lua
---reads the reason.
local function it_if(available, why)
  return function(name, f)
    local busted = require "busted"
    if available then
      busted.it(name, f)
    else
      busted.pending(name .. " (left out: " .. why .. ")")
    end
  end
end

---`it` for specs whose coroutines catch what their waits raise.
M.it_catches = it_if(M.pcall_yields, "PUC Lua 5.1 cannot wait inside pcall")

---`it` for specs of coroutine.close.
M.it_closes = it_if(coroutine.close, "this Lua has no coroutine.close")

---`it` for specs in which a callback of the loop runs the loop.
M.it_nests = it_if(M.loop_nests, "this luv's loop does not nest")

---Which core the specs run on.
M.implementation = barrier.implementation

---`it` for specs of what only the C core promises: to withstand the debug library and memory that
---runs out, to know a copy that luv made, and to be shared by threads.
M.it_in_c = it_if(M.implementation == "C", "only the C core promises it")

---`it` for specs that load both cores, which is enough once.
M.it_beside = it_if(M.implementation == "C", "the suite of the C core has it")

---The type of a barrier, and of a Waiter.
M.type_of_barrier = M.implementation == "C" and "userdata" or "table"

---`it` for specs of what the module does where each call of a timer comes after polling.
M.it_polls = it_if(uv.version() >= 0x013000, "libuv is older than 1.48")

---Defines a function that calls f where the C stack is full. The handler of that error has a
---little more of it, but cannot resume coroutines.
M.FULL_STACK = [[
  local function with_full_stack(f)
    local function overflow() return (("x"):gsub("x", overflow)) end
    local called = false
    xpcall(overflow, function()
      if not called then
        called = true
        f()
      end
    end)
  end
]]
M.with_full_stack = (loadstring or load)(M.FULL_STACK .. "return with_full_stack")()

---Not in Lua 5.1, where a coroutine has a C stack of its own, or none; nor before 5.4.3, where it
---gets back what the calls below it took.
M.stack_fills = _VERSION ~= "Lua 5.1" and (function()
  local resumed
  M.with_full_stack(function()
    resumed = coroutine.resume(coroutine.create(function() end))
  end)
  return resumed == false
end)()

---`it` for specs in which a coroutine cannot be resumed, since the C stack is full.
M.it_overflows = it_if(M.stack_fills, "this Lua resumes coroutines on a full C stack")

M.on_windows = package.config:sub(1, 1) == "\\"

---`it` for specs of what only Unix has.
M.it_on_unix = it_if(not M.on_windows, "they are about Unix")

---Appends a value. `list[#list + 1] = b:wait()` would take the list's length before the
---wait.
function M.add(list, value)
  list[#list + 1] = value
end

---Starts a coroutine, and raises the error if it dies at once.
---@return thread
function M.co(f, ...)
  local co = coroutine.create(f)
  local ok, err = coroutine.resume(co, ...)
  if not ok then
    error(err, 0)
  end
  return co
end

local function enter(method, b, name, log, timeout)
  return M.co(function()
    if M.pcall_yields then
      local ok, result = pcall(b[method], b, timeout)
      M.add(log, name .. " " .. tostring(result))
      if not ok then
        M.last_error = result
      end
    else
      M.add(log, name .. " " .. b[method](b, timeout))
    end
  end)
end

---A party in coroutine style that appends how its wait ended to `log`: `name position`
---or `name error`. The last error itself is M.last_error.
function M.party(b, name, log, timeout)
  return enter("wait", b, name, log, timeout)
end

---Awaits a trip in coroutine style, and logs `name generation` or `name error`.
function M.watcher(b, name, log, timeout)
  return enter("await_trip", b, name, log, timeout)
end

---A callback that appends how its wait ended to `log`: `name position` or `name error`.
function M.listener(log, name)
  return function(err, position)
    M.add(log, name .. " " .. tostring(err or position))
  end
end

---A callback that logs its number of arguments and each of them.
function M.exact(log, name)
  return function(...)
    local list = { name, select("#", ...) }
    for i = 1, select("#", ...) do
      M.add(list, tostring((select(i, ...))))
    end
    M.add(log, table.concat(list, " "))
  end
end

---A party that may fail, also in PUC Lua 5.1: there it waits in callback style.
function M.patient(b, name, log)
  if M.pcall_yields then
    return M.party(b, name, log)
  end
  return b:wait(function(err, position)
    M.add(log, name .. " " .. tostring(err or position))
    if err ~= nil then
      M.last_error = err
    end
  end)
end

---How a timed-out wait reads in a log.
function M.timed_out(ms, arrived, parties)
  return (" TimeoutError: wait timed out after %d ms, %d of %d had arrived"):format(ms, arrived,
    parties)
end

local function with_schedule(schedule, options)
  local all = { schedule = schedule }
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  return all
end

---A barrier that counts its turns, and a function that returns the count.
function M.counted(parties, options)
  local turns = 0
  local b = barrier.new(parties, with_schedule(function(drain)
    turns = turns + 1
    drain()
  end, options))
  return b, function()
    return turns
  end
end

---A barrier whose schedule keeps each drain that it is given, and the array of these.
function M.keeping(parties, options)
  local drains = {}
  return barrier.new(parties, with_schedule(function(drain)
    M.add(drains, drain)
  end, options)), drains
end

---Lets `ms` pass on the loop's clock without running the loop.
function M.pass_time(ms)
  local till = uv.hrtime() + ms * 1e6
  while uv.hrtime() < till do
    uv.update_time()
  end
  uv.update_time()
end

---Lets `ms` pass while the loop's clock stands still, as it does while a callback computes.
function M.compute(ms)
  local till = uv.hrtime() + ms * 1e6
  repeat
    local now = uv.hrtime()
  until now >= till
end

---Calls `f` once, from a timer's callback.
function M.later(f, ms)
  local timer = uv.new_timer()
  timer:start(ms or 1, 0, function()
    timer:close()
    f()
  end)
end

---A callback of a group that appends to `log` what its wait gave.
function M.recorder(log)
  return function(...)
    local err, results, errors = ...
    M.add(log, { n = select("#", ...), err = err, results = results, errors = errors })
  end
end

---Runs the loop until the group is complete. Returns what the wait gave.
---@param name? string "join" in place of "wait"
function M.finish(group, name)
  local log = {}
  group[name or "wait"](group, M.recorder(log))
  M.run_loop()
  assert(#log == 1, "the group is not complete")
  return log[1].err, log[1].results, log[1].errors
end

---Expects an error of `f` that contains `text`.
function M.raises(text, f, ...)
  local ok, err = pcall(f, ...)
  if ok or not tostring(err):find(text, 1, true) then
    error("expected the error " .. text .. "\nbut got " .. tostring(err), 2)
  end
end

---The global `error`, which busted replaces in the specs.
M.rethrow = error

---What a function returned, with its number of results as `n`.
function M.pack(...)
  return { n = select("#", ...), ... }
end

---Collects all garbage, including what only LuaJIT's compiled traces refer to.
function M.collect_garbage()
  if jit then
    jit.flush()
  end
  for _ = 1, 4 do
    collectgarbage()
  end
end

---True if the value that `make` returns is collected.
function M.collected(make)
  local seen = setmetatable({}, { __mode = "v" })
  seen[1] = make()
  M.collect_garbage()
  return seen[1] == nil
end

---@return string content of a file
function M.read(path)
  local file = assert(io.open(path, "rb"), path)
  local content = file:read "*a"
  file:close()
  return content
end

---Runs the loop until nothing is left to do. A watchdog fails the spec if a forgotten
---handle keeps the loop running.
function M.run_loop()
  local watchdog = uv.new_timer()
  local barked = false
  watchdog:start(20000, 0, function()
    barked = true
    uv.stop()
  end)
  uv.unref(watchdog)
  uv.run()
  watchdog:close()
  uv.run("nowait")
  if barked then
    error("the loop still runs after 20 seconds", 0)
  end
end

local function environment(extra)
  local env = { "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath }
  local replaced = {}
  for i, setting in ipairs(extra or {}) do
    env[#env + 1] = extra[i]
    replaced[setting:match "^[^=]*"] = true
  end
  for name, value in pairs(uv.os_environ()) do
    if not name:find("^LUA_C?PATH") and not replaced[name] then
      env[#env + 1] = name .. "=" .. value
    end
  end
  return env
end

local function collect(pipe, into)
  pipe:read_start(function(_, data)
    if data then
      into[#into + 1] = data
    else
      pipe:close()
    end
  end)
end

---Runs a program with a watchdog that kills it.
---@return { code: integer, signal: integer, out: string, err: string }
function M.spawn(program, args, options)
  options = options or {}
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local out_data, err_data, result = {}, {}, {}
  local watchdog = uv.new_timer()
  local process, problem
  process, problem = uv.spawn(program, {
    args = args,
    stdio = { nil, out, err },
    env = environment(options.env),
    cwd = options.cwd,
  }, function(code, signal)
    result.code, result.signal = code, signal
    watchdog:close()
    process:close()
  end)
  assert(process, ("cannot start %s: %s"):format(program, problem))
  watchdog:start(options.timeout or 30000, 0, function()
    process:kill("sigkill")
  end)
  collect(out, out_data)
  collect(err, err_data)
  repeat -- not until the loop ends: what another spec left in it would keep it
    uv.run "once"
  until result.code and out:is_closing() and err:is_closing()
  uv.run "nowait" -- luv calls back about closed handles in a turn of the loop
  result.out, result.err = table.concat(out_data), table.concat(err_data)
  return result
end

---Runs a Lua file in a process of its own, with the interpreter of the specs.
function M.script(file, args, options)
  local all = { file }
  for i = 1, #(args or {}) do
    all[i + 1] = args[i]
  end
  return M.spawn(M.interpreter, all, options)
end

---package.path or package.cpath as they are, for another folder.
local function absolute(path)
  return (path:gsub("[^;]+", function(template)
    local is_absolute = template:find "^[/\\]" or template:find "^%a:" -- on Windows
    return is_absolute and template or M.project .. "/" .. template
  end))
end

---Runs a program of examples/ in the folder `cwd`.
function M.example(cwd, name, ...)
  local path, cpath = package.path, package.cpath
  package.path, package.cpath = absolute(path), absolute(cpath)
  local file = M.project .. "/examples/" .. name .. ".lua"
  local result = M.script(file, { ... }, { cwd = cwd })
  package.path, package.cpath = path, cpath
  return result
end

---Runs a chunk of Lua in a process of its own; `uv` and `barrier` are globals there.
function M.chunk(code)
  local prelude = 'uv, barrier = require "luv", require "barrier" io.stdout:setvbuf "no"\n'
  return M.spawn(M.interpreter, { "-e", prelude .. code })
end

local function check(ok, result)
  if not ok then
    error(("it ended with code %d and signal %d, and printed\n%s%s"):format(result.code,
      result.signal, result.out, result.err), 3)
  end
end

---Runs a chunk that has to end well, without a word on standard error; what it printed.
function M.output_of(code)
  local result = M.chunk(code)
  check(result.code == 0 and result.signal == 0 and result.err == "", result)
  return result.out
end

---Runs a chunk that has to end with luv's report of an uncaught error; the report, and
---what the chunk printed.
function M.report_of(code)
  local result = M.chunk(code)
  check(result.code ~= 0 and result.signal == 0 and result.err:find("Uncaught Error", 1, true),
    result)
  return result.err, result.out
end

return M
