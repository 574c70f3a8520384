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
---@field _VERSION string
---@field BrokenBarrierError table metatable of the errors of a broken or reset barrier
---@field CancelledError table metatable of the errors of a wait that was cancelled
---@field TimeoutError table metatable of the errors of a wait that timed out
---@field GroupError table metatable of the error of a group whose jobs have failed
---@field implementation "C"|"Lua" which core is used
---@field core_problem? string why the first C core is not used, and how to build it
---@field close fun(): true?, string? closes the luv handles of this Lua state, for uv.loop_close()
local M = { _VERSION = "luv-barrier 1.0.0" }

local here = (...):gsub("%.init$", "") .. "." -- a copy of these files may have another name

local environment = require(here .. "environment")
local core = environment.open()
M.implementation = core.implementation or "C"

setmetatable(M, { __index = function(_, name)
  return name == "core_problem" and environment.problem() or nil
end })

local neovim = type(vim) == "table" and vim.schedule and require(here .. "neovim") or nil
if neovim then
  neovim.watch(core)
  if core.schedule_by then
    core.schedule_by(neovim.schedule)
  end
end

M.BrokenBarrierError = core.BrokenBarrierError
M.CancelledError = core.CancelledError
M.TimeoutError = core.TimeoutError

if not core.GroupError then
  core.GroupError = {}
  for name, value in pairs(core.TimeoutError) do
    core.GroupError[name] = value
  end
  core.GroupError.__name = "GroupError"
end
M.GroupError = core.GroupError

---Makes an empty barrier for `parties` >= 1. In Neovim waiters resume where vim.api may be
---called. The options are described at barrier.Options.
---@type fun(parties: integer, options?: barrier.Options): barrier.Barrier
M.new = core.make_new(neovim and neovim.schedule, neovim and neovim.in_fast_event)

---The barrier of that name, which the Lua states of all threads of this process share. The
---first call makes it; the others have to give the same number of parties.
---@type fun(name: string, parties: integer): barrier.Shared
M.shared = core.make_shared and core.make_shared(neovim and neovim.schedule,
  neovim and neovim.in_fast_event) or function()
  error("barrier.shared needs the C core.\n" .. require(here .. "missing").how_to_build(), 2)
end

---The barrier of that name in a Redis server, for processes on many machines.
---@param name string
---@param parties integer >= 1
---@param options? barrier.RedisOptions
---@return barrier.Redis
function M.redis(name, parties, options)
  M.redis = require("barrier.redis").new -- loaded when it is needed
  return M.redis(name, parties, options)
end

local members = core.members
local isyieldable, resumed, passed = core.isyieldable, core.resumed, core.passed

---The rest of a wait that has not passed: it fails, or somebody else has resumed it.
local function go_on(self, token, result)
  repeat
    token, result = resumed(self, token, result)
  until token == passed
  return result
end

---The method whose C function is `arrive`, before Lua 5.3; see src/host/coroutine.h. Its frame is
---small, so that a waiting coroutine of LuaJIT fits into the stack that it was made with, also
---when this is compiled: nothing is passed on that was not given, and `first` and `second` are
---the timeout and the callback, then the token and the result. `third` is one too many.
local function waiting(arrive)
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

if resumed then
  members.wait = waiting(core.arrive_wait)
  members.await_trip = waiting(core.arrive_await_trip)
  core.shared_members.wait = waiting(core.arrive_shared)
end

local wait, check_with = members.wait, core.check_with

function members.with(self, ...)
  check_with(self, isyieldable and isyieldable(), ...)
  local body = ...
  return body(wait(self))
end

-- The functions of the other files are loaded when they are needed.

---Makes a group: jobs that run at the same time, and the parties that wait until all are done.
---
---```lua
---local group = barrier.group { limit = 8 }
---for _, path in ipairs(paths) do
---  uv.fs_stat(path, group:add(path))
---end
---local err, results, errors = group:wait()
---```
---@param options? barrier.GroupOptions
---@return barrier.Group
function M.group(options)
  M.group = require(here .. "group")
  return M.group(options)
end

---Calls `f(..., callback)` and suspends the coroutine until `callback` is called.
---
---```lua
---local err, stat = barrier.await(uv.fs_stat, path)
---```
---@param f fun(...: any): any, any of luv, or any function whose last argument is a callback
---@param ... any arguments of `f`
---@return any ... what `callback` was called with, or the error that `f` returned after nil
function M.await(f, ...)
  M.await = require(here .. "await").await
  return M.await(f, ...)
end

---Takes a coroutine out of wherever it waits in this module: its wait raises a CancelledError in
---the next turn of the loop.
---@param co thread
---@return boolean found did it wait?
function M.cancel(co)
  M.cancel = require(here .. "await").cancel
  return M.cancel(co)
end

---Runs `main` in a coroutine, and the loop until that has ended. Raises what `main` raises, and an
---error with the report of `stuck` if `main` can't end or the time has passed.
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
  M.run = require(here .. "run")
  return M.run(timeout, main)
end

---Closes the luv handles of this module, which otherwise stay for the next wait, so that
---`uv.loop_close()` succeeds after one more run of the loop. Later waits make new ones.
---
---While a party has yet to be let out or notified, or a timeout is yet to come, it closes nothing,
---as a plugin that shares the module may be waiting.
---@return true? closed
---@return string? why_not
function M.close()
  local parties, timeouts = core.pending()
  if parties + timeouts > 0 then
    return nil, ("cannot close: parties that have yet to be let out or notified: %d, timeouts "
      .. "that are yet to come: %d"):format(parties, timeouts)
  end
  core.close()
  if neovim then
    neovim.close()
  end
  return true
end

---A report of every barrier, group and await of this Lua state in which a party waits, or of
---`what` alone: which parties wait, and where, and what is missing. In debug mode it says more. It
---is for the end of a program, when `uv.run()` has returned and a party still waits.
---@param what? any a barrier, a group, or a coroutine
---@return string? report nil if there is no such party
function M.stuck(what)
  local report = require(here .. "stuck")(core, what)
  return report
end

---Switches debug mode on or off. When it is on, each wait, arrival and job is noted, with when and
---where it was made, and each barrier knows which parties were in the previous phase: then `stuck`
---says how long each party has waited, which parties are absent, and where they are.
---
---The environment variable BARRIER_DEBUG=1 switches it on when the module is loaded.
---@param on? boolean without it, nothing changes
---@return boolean was_on
function M.debug(on)
  local was_on = require(here .. "debug")(on)
  return was_on
end

if os.getenv "BARRIER_DEBUG" == "1" then
  M.debug(true)
end

return M
