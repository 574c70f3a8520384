---@meta
-- What lua-language-server needs to know of the C core; nothing loads this file.
-- luacheck: ignore 212 241

---@class barrier.Options
---Called with the barrier each time it trips, by the last arrival, before anyone goes
---on; may not yield. If it raises, the barrier breaks.
---@field action? fun(b: barrier.Barrier)
---Where waiters resume: has to call `drain` once, later. `false`: in the callback of
---the timer. Default: that, in Neovim vim.schedule.
---@field schedule? fun(drain: fun())|false

---What wait raises, or gives its callback. Its metatable is its class.
---@class barrier.Error
---@field name "BrokenBarrierError"|"CancelledError"|"TimeoutError"
---@field message string
---@field barrier barrier.Barrier
---@field reason? any what abort was given, or what the action raised

---A wait with a callback.
---@class barrier.Waiter
---Leaves the barrier: the callback is never called. Closing twice does no harm.
---@field close fun(self: barrier.Waiter, on_close?: fun()) `on_close` is called from the loop

---@alias barrier.callback fun(err: barrier.Error|any?, position: integer?)

---After asyncio.Barrier: https://docs.python.org/3/library/asyncio-sync.html#barrier
---@class barrier.Barrier: userdata
---@field parties integer how many have to arrive
---@field n_waiting integer how many wait, while it is filling
---@field broken boolean
---@field state "filling"|"draining"|"resetting"|"broken"
---@field generation integer how many times it has tripped
local Barrier = {}

---Waits until all parties have arrived. In a coroutine it suspends, returns the
---position, 0 to parties-1, and raises a barrier.Error. With a callback it never
---suspends.
---@param timeout? integer milliseconds, >= 0
---@return integer position
---@overload fun(self: barrier.Barrier, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, cb: barrier.callback): barrier.Waiter
function Barrier:wait(timeout) end

---`return body(self:wait())`
---@generic T
---@param body fun(position: integer): T?
---@return T
function Barrier:with(body) end

---Back to the empty state; who waits gets a BrokenBarrierError.
function Barrier:reset() end

---Breaks the barrier until reset: who waits, or will, gets a BrokenBarrierError.
---@param reason? any
function Barrier:abort(reason) end

---Takes a waiting or blocked coroutine out; it gets a CancelledError on the next turn.
---@param co thread
---@return boolean found was it in this barrier?
function Barrier:cancel(co) end

---Who is in the barrier, in order of arrival, the blocked last.
---@return (thread|barrier.Waiter)[]
function Barrier:waiters() end
