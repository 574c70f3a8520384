---A barrier for coroutines and callbacks on luv, after Python's asyncio.Barrier.
---
---```lua
---local uv = require "luv"
---local barrier = require "barrier"
---
---local b = barrier.new(3)
---for i = 1, 3 do
---  coroutine.wrap(function()
---    print("party " .. i .. " passed, position " .. b:wait())
---  end)()
---end
---uv.run()
---```
---@class barrier
---"luv-barrier" and the version.
---@field _VERSION string
---The metatable of the errors of a broken or reset barrier.
---@field BrokenBarrierError table
---The metatable of the errors of a cancelled wait: by `barrier.cancel()`, or because something
---other than the barrier resumed the coroutine.
---@field CancelledError table
---The metatable of the errors of a wait whose time has passed.
---@field TimeoutError table
---The metatable of the error of a group whose jobs have failed.
---@field GroupError table
---"C", or "Lua" where the C core is not there or can't be used. The core in Lua does everything but
---`barrier.shared()`. The environment variable BARRIER_CORE ("c" or "lua") chooses the core.
---@field implementation "C"|"Lua"
---nil, or a string: why the first C core that was found is not used. It names the file, and says
---how to build it again.
---@field core_problem? string
local M = { _VERSION = "luv-barrier 1.0.0" }

local here = (...):gsub("%.init$", "") .. "." -- a copy of these files may have another name

local neovim = type(vim) == "table" and vim.schedule and require(here .. "neovim") or nil
local core, get_core

---@param name string of another file
local function load(name)
  get_core()
  return require(here .. name)
end

---Returns the barrier of a name that processes on any machine share through a Redis server.
---
---Redis has to be 6.0 or newer. doc/redis.md is the page about these barriers.
---@param name string 1 to 1000 bytes
---@param parties integer >= 1, the same in all processes
---@param options? barrier.RedisOptions
---@return barrier.Redis b
function M.redis(name, parties, options)
  M.redis = load "redis".new -- loaded when it is needed
  return M.redis(name, parties, options)
end

---The rest of a wait that has not passed: it fails, or other code has resumed it.
local function go_on(self, token, result)
  repeat
    token, result = core.resumed(self, token, result)
  until token == core.passed
  return result
end

---The method whose C function is `arrive`, before Lua 5.3; see src/host/coroutine.h. Its frame is
---small, so that a waiting coroutine of LuaJIT fits into the stack that it was made with, also
---when this is compiled: nothing is passed on that was not given, and `first` and `second` are
---the timeout and the callback, then the token and the result. `third` is one too many.
local function waiting(arrive)
  local isyieldable, passed = core.isyieldable, core.passed
  return function(self, first, second, third)
    if first == nil and second == nil and third == nil then
      first, second = arrive(self, isyieldable and isyieldable())
    else
      first, second = arrive(self, isyieldable and isyieldable(), first, second, third)
    end
    if first == passed then
      return second
    end
    return go_on(self, first, second)
  end
end

local function add_methods(members)
  if core.resumed then
    members.wait = waiting(core.arrive_wait)
    members.await_trip = waiting(core.arrive_await_trip)
    core.shared_members.wait = waiting(core.arrive_shared)
  end
  local wait, check_with, isyieldable = members.wait, core.check_with, core.isyieldable
  function members.with(self, ...)
    check_with(self, isyieldable and isyieldable(), ...)
    local body = ...
    return body(wait(self))
  end
end

local function add_errors()
  if not core.GroupError then
    core.GroupError = {}
    for name, value in pairs(core.TimeoutError) do
      core.GroupError[name] = value
    end
    core.GroupError.__name = "GroupError"
  end
  for _, name in ipairs { "BrokenBarrierError", "CancelledError", "TimeoutError", "GroupError" } do
    M[name] = core[name]
  end
end

---The core was loaded, and nothing has used it yet.
local function prepare(loaded)
  core = loaded
  if neovim then
    neovim.attach(core)
  end
  local schedule, in_fast_event = neovim and neovim.schedule, neovim and neovim.in_fast_event
  M.implementation = core.implementation or "C"
  M.new = core.make_new(schedule, in_fast_event)
  M.shared = core.make_shared and core.make_shared(schedule, in_fast_event) or function()
    error("barrier.shared needs the C core.\n" .. require(here .. "missing").how_to_build(), 2)
  end
  add_errors()
  add_methods(core.members)
end

---@return table core
function get_core()
  if not core then
    require(here .. "environment").open(prepare)
  end
  return core
end

---In Neovim, where many plugins are loaded and few are used at once, the core is loaded when
---something of it is used.
setmetatable(M, { __index = function(_, name)
  if name == "core_problem" then
    return require(here .. "environment").problem()
  elseif not core then
    get_core()
    return rawget(M, name)
  end
end })

if not neovim then
  get_core()
end

-- The functions of the other files are loaded when they are needed.

---Makes a group: jobs that run at the same time, and waits that end when all of them are done.
---
---```lua
---local group = barrier.group { limit = 8 }
---for _, path in ipairs(paths) do
---  uv.fs_stat(path, group:add(path))
---end
---local err, results, errors = group:wait()
---```
---@param options? barrier.GroupOptions
---@return barrier.Group group
function M.group(options)
  M.group = load "group"
  return M.group(options)
end

---In a coroutine: calls `f(..., callback)` and returns what the callback is called with.
---
---The coroutine is suspended until then. If `f` returns nil or false and an error, without having
---called back, `await` returns that error. If `f` raises an error, so does `await`.
---
---```lua
---local err, stat = barrier.await(uv.fs_stat, path)
---```
---@param f fun(...: any): any, any of luv, or any function whose last argument is a callback
---@param ... any the arguments before the callback
---@return any ... the values the callback was called with, or the error that `f` returned
function M.await(f, ...)
  M.await = load "await".await
  return M.await(f, ...)
end

---Takes a coroutine out of wherever it waits: its wait raises a `barrier.CancelledError`.
---
---That happens in the next turn of the loop. The coroutine may wait at a barrier, for a group, in
---an await, or at a shared barrier. The call takes time in proportion to the number of barriers;
---`b:cancel()` doesn't.
---@param co thread
---@return boolean found true if it was waiting
function M.cancel(co)
  M.cancel = load "await".cancel
  return M.cancel(co)
end

---Runs `main` in a coroutine, and the loop until it has ended; returns what `main` returned.
---
---Raises the error of `main`, a string with its traceback (in PUC Lua 5.1, the loop reports an
---error that comes after a wait). If `main` waits and the loop has nothing left to do, or if the
---timeout passes, it raises an error with the report of `barrier.stuck()`. In Neovim it runs the
---loop with `vim.wait()`, so give it a timeout there. It can't be called in a coroutine or in a
---fast event. It is the counterpart of Python's asyncio.run.
---
---```lua
---barrier.run(function()
---  print(barrier.await(uv.fs_stat, "."))
---end)
---```
---@param timeout? integer milliseconds, >= 0
---@param main fun(): ...
---@return any ... what `main` returned
---@overload fun(main: fun(): ...): ...
function M.run(timeout, main)
  M.run = load "run"
  return M.run(timeout, main)
end

---Closes the module's luv handles, unless a party or a timeout still needs them.
---
---The handles otherwise stay for the next wait. Once they are closed, uv.loop_close() succeeds
---after one more run of the loop; later waits make new handles. While a party has yet to be let out
---or notified, or a timeout is yet to come, nothing is closed.
---@return true? closed
---@return string? problem the numbers of these parties and timeouts
function M.close()
  local parties, timeouts = get_core().pending()
  if parties + timeouts > 0 then
    return nil, ("cannot close: parties that have yet to be let out or notified: %d, timeouts "
      .. "that are yet to come: %d"):format(parties, timeouts)
  end
  core.close()
  local redis = package.loaded[here .. "redis"]
  if redis then
    redis.release()
  end
  if neovim then
    neovim.close()
  end
  return true
end

---Returns a report of the parties that wait, and where; nil if no party waits.
---
---It covers every barrier, group and await of this Lua state, or `what` alone: a barrier, a group,
---or what a coroutine waits at. It says how many parties are missing, and which jobs of a group are
---pending. A coroutine is shown by its traceback, from the line that called the module; a callback
---by the file and line of its definition; a group that is a job of another one by that group and
---the key. Equal entries are shown once, with their number. `:checkhealth barrier` has the
---report, too.
---
---```lua
---print(barrier.stuck())
---```
---@param what? barrier.Barrier|barrier.Group|barrier.Shared|barrier.Redis|thread default: all
---@return string? report nil if no party waits
function M.stuck(what)
  local report = load "stuck" (core, what)
  return report
end

---Switches debug mode on or off, in which the report of `barrier.stuck()` says more.
---
---It then also says how long each party has waited, where each pending job was added, and which
---parties were in the previous phase and are absent now: a coroutine with its traceback, which
---shows where it hangs, a callback by its definition, an arrival by its line. A string that a
---coroutine of `group:run()` dies of has its traceback in `errors`. Parties are remembered weakly.
---When it is off, debug mode costs nothing. It follows asyncio's debug mode.
---@param on? boolean default: nothing changes
---@return boolean was_on true if it was on before
function M.debug(on)
  local was_on = load "debug" (on)
  return was_on
end

if os.getenv "BARRIER_DEBUG" == "1" then
  M.debug(true)
end

return M
