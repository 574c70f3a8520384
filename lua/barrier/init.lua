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
local M = { _VERSION = "luv-barrier 1.0.0" }

local environment = require "barrier.environment"

local core = environment.core()
local missing = core.bind(environment.luv())
if missing then
  error("barrier needs a luv with timers: this one has no function " .. missing, 0)
end

M.BrokenBarrierError = core.BrokenBarrierError
M.CancelledError = core.CancelledError
M.TimeoutError = core.TimeoutError

---Makes an empty barrier for `parties` >= 1. In Neovim waiters resume where vim.api may be
---called. The options are `action` and `schedule`, see barrier.Options.
---@type fun(parties: integer, options?: barrier.Options): barrier.Barrier
M.new = core.make_new(type(vim) == "table" and vim.schedule or nil)

local members = core.members
local arrive, finish = core.arrive, core.finish
local isyieldable, passed = core.isyieldable, core.passed

if arrive then -- before Lua 5.3; see src/wait.h
  function members.wait(self, timeout, callback)
    if timeout == nil and callback == nil then
      -- Two arguments, and a statement of its own, keep the frame small: a waiting coroutine
      -- of LuaJIT then fits into the stack that it was made with, also when this is compiled.
      local token, position = arrive(self, isyieldable())
      if token == passed then
        return position
      end
      return finish(self, token)
    end
    local token, position = arrive(self, isyieldable(), timeout, callback)
    if token == passed then
      return position
    end
    return finish(self, token)
  end
end

local wait, check_with = members.wait, core.check_with

function members.with(self, body)
  check_with(self, body, isyieldable and isyieldable())
  return body(wait(self))
end

return M
