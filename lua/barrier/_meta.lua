---@meta
-- What lua-language-server needs to know of the C core; nothing loads this file.
-- luacheck: ignore 212 241

---Each option may be left out.
---@class (exact) barrier.Options
---Called with the barrier each time it trips, by the last arrival, before anyone goes
---on; may not yield. A party that leaves while it runs leaves alone: the others pass, and
---their timeouts count no longer. If it raises, the barrier breaks: the last arrival gets its
---error, everybody else a BrokenBarrierError with it as reason.
---@field action? fun(b: barrier.Barrier)
---Where waiters resume: has to arrange that `drain` is called once, later. `false`: in
---the callback of a timer. Default: that; in Neovim vim.schedule.
---@field schedule? fun(drain: fun())|false
---Milliseconds, >= 0: how long a phase may take, from its first arrival. When that has
---passed before the trip, the barrier is aborted.
---@field timeout? integer
---Whatever else a table has is an argument error, so no value has this type.
---@field [string] "no such option"

---What `wait` raises, or gives its callback. `tostring` of it reads
---"BrokenBarrierError: barrier aborted: REASON". Its metatable is its class.
---@class (exact) barrier.Error
---@field name "BrokenBarrierError"|"CancelledError"|"TimeoutError"|"GroupError"
---@field message string "barrier aborted", "wait cancelled" and the like
---@field barrier barrier.Barrier
---@field reason? any of a broken barrier: what abort was given, or the action's error
---@operator concat(any): string

---@class (exact) barrier.BrokenBarrierError: barrier.Error
---@field name "BrokenBarrierError"

---@class (exact) barrier.CancelledError: barrier.Error
---@field name "CancelledError"

---@class (exact) barrier.TimeoutError: barrier.Error
---@field name "TimeoutError"
---@field timeout? integer milliseconds

---What a group's wait gives, for any reason.
---@class (exact) barrier.GroupError: barrier.Error
---@field barrier nil
---@field group barrier.Group
---@field timeout? integer milliseconds, of a TimeoutError
---@field pending any[] the keys of the jobs that were not done
---@field results table<any, any> by key
---@field errors table<any, any> by key
---@field late table<any, any> by key

---Is called exactly once, from the loop, with what a group's wait gives.
---@alias barrier.on_group fun(err: barrier.GroupError?, results: table, errors: table)

---Is called exactly once, from the loop, with the error or with nil and the position. If
---the barrier's action raised, the error of the last arrival is the action's own.
---@alias barrier.callback fun(err: barrier.Error?, position: integer?)

---The same for `await_trip`, with the generation.
---@alias barrier.on_trip fun(err: barrier.Error?, generation: integer?)

---A wait with a callback.
---@class (exact) barrier.Waiter: userdata
local Waiter = {}

---Leaves the barrier: the callback is never called. Closing twice, or after the callback,
---does no harm.
---@param on_close? fun() called from the loop
function Waiter:close(on_close) end

---@return boolean closing was it closed, or its callback called?
function Waiter:is_closing() end

---After asyncio.Barrier: https://docs.python.org/3/library/asyncio-sync.html#barrier
---
---Its fields are read-only: assigning to one raises an error.
---@class (exact) barrier.Barrier: userdata
---@field parties integer how many have to arrive
---@field n_waiting integer how many wait, while it is filling; otherwise 0
---@field n_arrived integer how many have arrived, waiting or not, while it is filling; otherwise 0
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
---@param timeout? integer milliseconds, >= 0, from this call on
---@return integer|any position after pcall it may be an error
---@overload fun(self: barrier.Barrier, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, cb: barrier.callback): barrier.Waiter
function Barrier:wait(timeout) end

---`return body(self:wait())`, as Python's `async with b as position`.
---@param body fun(position: integer): ...
---@return any ... what `body` returns
function Barrier:with(body) end

---Parties arrive and do not wait. Never suspends, and works anywhere.
---@param n? integer how many, >= 1; default 1; at most those that have yet to arrive
---@return true? arrived nil if the barrier is broken, or its action raised
---@return any err the BrokenBarrierError, or what the action raised
function Barrier:arrive(n) end

---More parties, from now on: the phase that is filling waits for them too.
---@param n? integer how many, >= 1; default 1
function Barrier:register(n) end

---Fewer parties, from now on: of those who have yet to arrive. If everybody who is left has
---arrived, the barrier trips.
---@param n? integer how many, >= 1; default 1
---@return true? done nil if the barrier is broken, or its action raised
---@return any err the BrokenBarrierError, or what the action raised
function Barrier:deregister(n) end

---Waits until the barrier trips, without being one of its parties: suspends the running
---coroutine and returns the barrier's generation after that trip. It raises what `wait`
---raises. With a callback it works anywhere, never suspends, and returns a Waiter at once.
---@param timeout? integer milliseconds, >= 0, from this call on
---@return integer|any generation likewise
---@overload fun(self: barrier.Barrier, callback: barrier.on_trip): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, cb: barrier.on_trip): barrier.Waiter
function Barrier:await_trip(timeout) end

---Back to the empty state. Whoever waits gets a BrokenBarrierError; whoever is blocked
---while the barrier drains stays.
function Barrier:reset() end

---Breaks the barrier until `reset`: whoever waits, or will, gets a BrokenBarrierError. The
---first reason stays: a second abort changes nothing.
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
