---@meta
-- What lua-language-server needs to know of the C core; nothing loads this file.
-- luacheck: ignore 212 241

---@class barrier.Options
---Called with the barrier each time it trips, by the last arrival, before anyone goes
---on; may not yield. If it raises, the barrier breaks: the last arrival gets its error,
---everybody else a BrokenBarrierError with it as reason.
---@field action? fun(b: barrier.Barrier)
---Where waiters resume: has to arrange that `drain` is called once, later. `false`: in
---the callback of a timer. Default: that; in Neovim vim.schedule.
---@field schedule? fun(drain: fun())|false

---What `wait` raises, or gives its callback. `tostring` of it reads
---"BrokenBarrierError: barrier aborted: REASON". Its metatable is its class.
---@class barrier.Error
---@field name "BrokenBarrierError"|"CancelledError"|"TimeoutError"
---@field message string "barrier aborted", "wait timed out" and the like
---@field barrier barrier.Barrier
---@field reason? any of a broken barrier: what abort was given, or the action's error

---@class barrier.BrokenBarrierError: barrier.Error
---@field name "BrokenBarrierError"

---@class barrier.CancelledError: barrier.Error
---@field name "CancelledError"

---@class barrier.TimeoutError: barrier.Error
---@field name "TimeoutError"

---Is called exactly once, from the loop, with the error or with nil and the position. If
---the barrier's action raised, the error of the last arrival is the action's own.
---@alias barrier.callback fun(err: barrier.Error?, position: integer?)

---A wait with a callback.
---@class barrier.Waiter: userdata
local Waiter = {}

---Leaves the barrier: the callback is never called. Closing twice, or after the callback,
---does no harm.
---@param on_close? fun() called from the loop
function Waiter:close(on_close) end

---After asyncio.Barrier: https://docs.python.org/3/library/asyncio-sync.html#barrier
---@class barrier.Barrier: userdata
---@field parties integer how many have to arrive
---@field n_waiting integer how many wait, while it is filling; otherwise 0
---@field broken boolean was it aborted, and not reset since?
---@field state "filling"|"draining"|"resetting"|"broken"
---@field generation integer how many times it has tripped
local Barrier = {}

---Waits until all parties have arrived.
---
---Without a callback it suspends the running coroutine, unless that is the last to arrive,
---and returns the position: 0 to parties-1, different for each party of a trip. It raises
---a BrokenBarrierError, CancelledError or TimeoutError.
---
---With a callback it works anywhere, never suspends, and returns a Waiter at once.
---
---```lua
---local position = b:wait()
---local ok, result = pcall(b.wait, b, 1000)
---local waiter = b:wait(1000, function(err, position) end)
---```
---@param timeout? integer milliseconds, >= 0
---@return integer position
---@overload fun(self: barrier.Barrier, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, cb: barrier.callback): barrier.Waiter
function Barrier:wait(timeout) end

---`return body(self:wait())`, as Python's `async with b as position`.
---@generic T
---@param body fun(position: integer): T?
---@return T
---@return any ...
function Barrier:with(body) end

---Back to the empty state. Whoever waits gets a BrokenBarrierError; whoever is blocked
---while the barrier drains stays.
function Barrier:reset() end

---Breaks the barrier until `reset`: whoever waits, or will, gets a BrokenBarrierError.
---@param reason? any the `reason` of these errors
function Barrier:abort(reason) end

---Takes a waiting or blocked coroutine out. The barrier goes on as if it had never come;
---its `wait` raises a CancelledError on the next turn of the loop.
---@param co thread
---@return boolean found was it in this barrier?
function Barrier:cancel(co) end

---Who is in the barrier, in order of arrival, the blocked last: a new array. With
---`debug.traceback(co)` it shows who is stuck, and where.
---@return (thread|barrier.Waiter)[]
function Barrier:waiters() end
