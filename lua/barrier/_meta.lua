---@meta
-- The annotations of what is written in C. No program loads this file. `make docs` makes the help
-- and README's tables of members from these annotations and those of the Lua files.
-- luacheck: ignore 212 241
-- luacheck: no max comment line length

---@class barrier
local M = {}

---Makes a barrier for the given number of parties.
---@param parties integer >= 1
---@param options? barrier.Options
---@return barrier.Barrier b empty, in the state "filling"
function M.new(parties, options) end

---Returns the barrier of a name that all threads of the process share.
---
---The first call makes the barrier; the others must give the same number of parties. A second copy
---of the C core, loaded from another path, has shared barriers of its own.
---@param name string
---@param parties integer >= 1
---@return barrier.Shared b
function M.shared(name, parties) end

---Each option may be left out.
---@class (exact) barrier.Options
---A function, called with the barrier each time it trips: by the last arrival, before any party
---goes on, as in Python's threading.Barrier. It may not yield. If it raises an error, the barrier breaks: the last arrival gets that
---error, and every other party a `barrier.BrokenBarrierError` with the error as its reason. If no
---party waits, the error is reported as an uncaught one. A party that leaves while the action runs
---leaves alone: the others pass, and their timeouts no longer count.
---@field action? fun(b: barrier.Barrier)
---Milliseconds, an integer >= 0: how long a phase may take, counted from its first arrival. If this
---time passes before the trip, the barrier is aborted.
---@field timeout? integer
---A function or false: where waiting parties go on. `schedule(drain)` must arrange for `drain()` to
---be called once, later. Default: in Neovim `vim.schedule()`, elsewhere the callback of a luv timer.
---With false it is the timer's callback in Neovim, too, where only |api-fast| functions may be
---called. If `schedule` raises an error, the error is reported, and the parties go on in the timer's
---callback.
---@field schedule? fun(drain: fun())|false
---Any other key is an argument error, so no value has this type.
---@field [string] "no such option"

---What a wait raises, or passes to its callback. `getmetatable(err)` is its class, such as
---barrier.TimeoutError. `tostring(err)` reads "BrokenBarrierError: barrier aborted: REASON", and `..`
---treats the error as that string.
---@class (exact) barrier.Error
---"BrokenBarrierError", "CancelledError", "TimeoutError" or "GroupError".
---@field name "BrokenBarrierError"|"CancelledError"|"TimeoutError"|"GroupError"
---What has happened: one of the |barrier-messages|.
---@field message string
---Of a BrokenBarrierError: what `b:abort()` was given, or the error of the action.
---@field reason? any
---The barrier. An error of a group has none.
---@field barrier? barrier.Barrier|barrier.Shared|barrier.Redis
---Of a barrier in Redis: its generation.
---@field generation? integer
---Of a barrier in Redis: its epoch.
---@field epoch? integer
---@operator concat(any): string

---@class (exact) barrier.BrokenBarrierError: barrier.Error
---@field name "BrokenBarrierError"

---@class (exact) barrier.CancelledError: barrier.Error
---@field name "CancelledError"

---@class (exact) barrier.TimeoutError: barrier.Error
---@field name "TimeoutError"
---Of a TimeoutError: the milliseconds that have passed.
---@field timeout? integer

---The error of a group. By its `name` it may also be a TimeoutError or a BrokenBarrierError.
---@class (exact) barrier.GroupError: barrier.Error
---@field barrier nil
---Of a group's error: the group.
---@field group barrier.Group
---@field timeout? integer
---Of a group's error: an array of the keys of the jobs that were not done when the group was
---stopped or the time had passed, in order of adding.
---@field pending any[]
---Of a group's error: its results, by key.
---@field results table<any, any>
---Of a group's error: the errors of its jobs, by key.
---@field errors table<any, any>
---Of a group's error: the errors of jobs that ended after the stop, by key.
---@field late table<any, any>

---Called exactly once, from the loop, with what `wait` of a group would return.
---@alias barrier.on_group fun(err: barrier.GroupError?, results: table<any, any>, errors: table<any, any>)

---Called exactly once, from the loop: with an error, or with nil and the position. If the action
---raised, the last arrival gets that error itself.
---@alias barrier.callback fun(err: barrier.Error?, position: integer?)

---Called exactly once, from the loop: with an error, or with nil and the generation.
---@alias barrier.on_trip fun(err: barrier.Error?, generation: integer?)

---A wait with a callback. It is closable, as luv's handles are.
---@class (exact) barrier.Waiter: userdata
local Waiter = {}

---Leaves the barrier or the group: the callback is never called.
---
---Closing twice, or after the callback was called, does no harm, and each `on_close` is called.
---@param on_close? fun() called from the loop
function Waiter:close(on_close) end

---True once the Waiter was closed or its callback was called.
---@return boolean is_closing
function Waiter:is_closing() end

---After asyncio.Barrier: https://docs.python.org/3/library/asyncio-sync.html#barrier
---
---Its fields can be read, not assigned.
---@class (exact) barrier.Barrier: userdata
---The number of parties that have to arrive.
---@field parties integer
---The number of parties that wait, while the barrier is filling; otherwise 0.
---@field n_waiting integer
---The number of parties that have arrived, waiting or not, while the barrier is filling; otherwise 0.
---@field n_arrived integer
---True after `b:abort()` or a failed action, until `b:reset()`.
---@field broken boolean
---"filling", "draining", "resetting" or "broken": see |barrier-states|.
---@field state "filling"|"draining"|"resetting"|"broken"
---The number of times the barrier has tripped.
---@field generation integer
local Barrier = {}

---Waits until all parties have arrived, then gives this party's position, 0 to parties - 1.
---
---In a coroutine it suspends the coroutine, and returns the position. The last party to arrive is not
---suspended (but see |barrier-fast-event|). With a callback it works anywhere: it returns a Waiter at
---once, and calls `callback(err, position)` exactly once, later, from the loop.
---
---The timeout counts until the barrier trips, is reset or aborted. A party whose time has passed
---leaves the barrier with a `barrier.TimeoutError`, and the others go on waiting.
---
---Raises a `barrier.BrokenBarrierError`, `barrier.CancelledError` or `barrier.TimeoutError`; the last
---arrival gets the error of the action itself. These errors come from the loop: on a broken barrier,
---too, the coroutine is suspended first, and fails in the next turn.
---
---```lua
---local position = b:wait()
---local ok, result = pcall(b.wait, b, 1000)
---local waiter = b:wait(1000, function(err, position) end)
---```
---@param timeout? integer milliseconds from the call, >= 0
---@return integer|any position by order of arrival among the parties that wait, so different for each
---@overload fun(self: barrier.Barrier, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, callback: barrier.callback): barrier.Waiter
function Barrier:wait(timeout) end

---Waits, then calls `body` with the position: `return body(b:wait())`.
---
---It is Python's `async with b as position`.
---@param body fun(position: integer): ...
---@return any ... what `body` returned
function Barrier:with(body) end

---One party arrives, or `n` parties do, without waiting.
---
---Works anywhere, and never suspends. The arrival may be the last one, which trips the barrier. To
---arrive now and wait later, give `b:wait()` a callback. C++'s std::barrier and Java's Phaser have
---such an arrive.
---@param n? integer >= 1; default 1; at most the number of parties that have yet to arrive, and while the barrier is not filling at most `b.parties`
---@return true? arrived nil if the barrier is broken or its action raised an error
---@return any err the `barrier.BrokenBarrierError`, or the error of the action
function Barrier:arrive(n) end

---Adds one party, or `n` parties. The phase that is filling waits for them, too.
---@param n? integer >= 1; default 1
function Barrier:register(n) end

---Removes one party, or `n` parties, that have yet to arrive.
---
---If all remaining parties have arrived, the barrier trips. With no party left, each party that
---arrives passes alone, until a party is registered again.
---@param n? integer >= 1; default 1; at most the number of parties that have yet to arrive
---@return true? done nil if the barrier is broken or its action raised an error
---@return any err the `barrier.BrokenBarrierError`, or the error of the action
function Barrier:deregister(n) end

---Waits for the next trip without being a party, then gives the barrier's generation.
---
---The trip never waits for the caller. In all else it is as `b:wait()`: it suspends the coroutine, or
---it returns a Waiter and calls `callback(err, generation)`; it raises the same errors.
---@param timeout? integer milliseconds from the call, >= 0
---@return integer|any generation the barrier's, after the trip
---@overload fun(self: barrier.Barrier, callback: barrier.on_trip): barrier.Waiter
---@overload fun(self: barrier.Barrier, timeout: integer?, callback: barrier.on_trip): barrier.Waiter
function Barrier:await_trip(timeout) end

---Returns the barrier to its empty state. Every waiting party gets a `barrier.BrokenBarrierError`.
---
---A party that has not resumed yet after a trip or an abort gets the error "barrier reset" instead.
---Parties that arrived without waiting are forgotten. Blocked parties stay, and are let in once the
---others have left.
function Barrier:reset() end

---Breaks the barrier: until `b:reset()`, every wait fails with a `barrier.BrokenBarrierError`.
---
---This holds for the parties that wait, are blocked, or have not resumed yet after a trip, and for
---those that arrive later. The first reason stays: a second abort changes nothing.
---@param reason? any becomes `err.reason` of these errors
function Barrier:abort(reason) end

---Takes a waiting coroutine out of the barrier: its wait raises a `barrier.CancelledError`.
---
---That happens in the next turn of the loop. The barrier goes on as if the coroutine had never
---arrived. A coroutine that doesn't catch this error
---ends, and nothing is reported.
---@param co thread waiting or blocked
---@return boolean found true if it was in this barrier
function Barrier:cancel(co) end

---Lists the coroutines and Waiters in the barrier, in order of arrival, with the blocked ones last.
---
---A party that is leaving is in the list until it has resumed. With `debug.traceback(co)` the list
---shows where each party waits; `barrier.stuck()` does that.
---@return (thread|barrier.Waiter)[] parties a new array
function Barrier:waiters() end

---A barrier that the Lua states of this process share. It lives as long as a state refers to it or
---a party has arrived at it.
---@class (exact) barrier.Shared: userdata
---The name that it was given.
---@field name string
---The number of parties that have to arrive, in all threads.
---@field parties integer
---The number of parties that wait, in all threads.
---@field n_waiting integer
---The number of parties that have arrived, waiting or not, in all threads.
---@field n_arrived integer
---True after `abort`, until `reset`.
---@field broken boolean
---The number of times the barrier has tripped.
---@field generation integer
local Shared = {}

---Waits until all parties have arrived, in whatever thread.
---
---The outcome is decided for all threads at the trip: there is no draining, and a timeout or
---cancellation that comes later has no effect. A party that arrives after the trip counts in the next
---phase. In all else it is as `b:wait()`.
---@param timeout? integer milliseconds from the call, >= 0
---@param callback? nil
---@return integer|any position 0 to parties - 1, different for each party of the trip
---@overload fun(self: barrier.Shared, callback: barrier.callback): barrier.Waiter
---@overload fun(self: barrier.Shared, timeout: integer?, callback: barrier.callback): barrier.Waiter
function Shared:wait(timeout, callback) end

---One party arrives and does not wait.
---
---Works everywhere, in a function of uv.new_work(), too. The arrival stays counted when its thread
---ends.
---@return true? arrived nil if the barrier is broken
---@return barrier.Error? err a `barrier.BrokenBarrierError`
function Shared:arrive() end

---Returns the barrier to its empty state. Every waiting party, in whatever thread, gets a
---`barrier.BrokenBarrierError`.
function Shared:reset() end

---Breaks the barrier: until it is reset, every wait, in whatever thread, fails with a
---`barrier.BrokenBarrierError`.
---@param reason? string|number|boolean it goes to other threads
function Shared:abort(reason) end

---Takes a coroutine of this thread out of the barrier. Its wait raises a `barrier.CancelledError` in
---the next turn of the loop.
---@param co thread
---@return boolean found true if it was waiting at this barrier, before the trip
function Shared:cancel(co) end
