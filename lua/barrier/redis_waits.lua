---The waits of a barrier in Redis. Each is a wait at a local barrier of two, whose other party is
---what Redis answers: so coroutines, callbacks, leaving early and uncaught errors are as elsewhere.
local prefix = (...):match "^(.*%.)[^.]*$" or ""
local barrier = require(prefix:sub(1, -2))
local uv = require(prefix .. "environment").luv()

local M = {}

---Which barrier in Redis a local one serves, for barrier.stuck.
---@type table<barrier.Barrier, barrier.Redis>
M.owners = setmetatable({}, { __mode = "k" })

---A string, number, boolean or nil as text, and back.
function M.encode_reason(reason)
  return "a" .. type(reason):sub(1, 1) .. (reason ~= nil and tostring(reason) or "")
end

---@return string message
---@return string|number|boolean|nil reason
local function decode_reason(text)
  local kind, value = text:match "^a([snb]?)(.*)$"
  if kind == "n" then
    value = tonumber(value)
  elseif kind == "b" then
    value = value == "true"
  end
  if kind then
    return "barrier aborted", value
  elseif text:sub(1, 1) == "r" then
    return "barrier reset", nil
  end
  return "barrier broken", text:sub(2)
end

local function new_error(class, p, message, reason)
  return setmetatable({
    name = class, message = message, barrier = p.self, reason = reason,
    generation = p.generation, epoch = p.epoch,
  }, barrier[class])
end

---The members that have not arrived, as last heard, but this one: "missing: a, b and 3 others".
function M.missing(p)
  local heard, names = p.client.heard, {}
  local others = heard.absent or 0
  for _, name in ipairs(heard.names) do
    if name == p.client.member then
      others = others - 1
    elseif #names < 8 then
      names[#names + 1] = name
    end
  end
  others = others - #names
  local text = names[1] and "missing: " .. table.concat(names, ", ")
  if text and others > 0 then
    text = text .. (" and %d other%s"):format(others, others == 1 and "" or "s")
  end
  local empty = heard.empty or 0
  local seats = empty == 1 and "1 seat is empty" or empty .. " seats are empty"
  return (text and empty > 0 and text .. "; " or text or "") .. (empty > 0 and seats or ""), names
end

---What a wait comes to is known: its party goes on in the next turn of the loop.
---@param reply table of the script, or { "error", err }
function M.settle(wait, reply)
  if wait.settled then
    return
  end
  wait.settled = reply
  if wait.timer then
    wait.timer:close()
  end
  wait.p.waits[wait] = nil
  if wait.inner.n_waiting > 0 then
    wait.inner:arrive()
  end
  wait.p.rest()
end

---The party has left by itself: cancelled, closed, resumed by somebody else.
function M.leave(wait, err)
  if getmetatable(err) == barrier.CancelledError and err.barrier == wait.inner then
    err.barrier, err.generation, err.epoch = wait.p.self, wait.p.generation, wait.p.epoch
  end
  if not wait.settled then
    M.settle(wait, { "left" })
    if wait.request.number then
      wait.p.withdraw(wait)
    end
  end
end

---@return barrier.Error? err
---@return any position
function M.deliver(wait)
  local p, reply = wait.p, wait.settled
  local kind, epoch, generation, value = reply[1], reply[2], reply[3], reply[4]
  if kind == "error" then
    return new_error(reply[2], p, reply[3], reply[4])
  elseif kind == "timeout" then
    local err = new_error("TimeoutError", p, reply[2])
    err.timeout, err.missing = wait.timeout, reply[3]
    return err
  end
  if epoch > p.epoch or generation + 1 > p.generation then
    p.epoch, p.generation = epoch, generation + 1
  end
  if kind == "passed" then
    return nil, value
  end
  local err = new_error("BrokenBarrierError", p, decode_reason(tostring(value)))
  err.epoch, err.generation = epoch, generation + 1
  return err
end

function M.time_out(wait)
  local p, heard = wait.p, wait.p.client.heard
  local text, names = M.missing(p)
  local message = ("wait timed out after %d ms, %d of %d had arrived%s"):format(wait.timeout,
    heard.arrived + 1, p.client.parties, text ~= "" and ", " .. text or "")
  M.settle(wait, { "timeout", message, names })
end

---The timeout has passed: Redis is asked whether the barrier has tripped.
local function on_timeout(wait)
  if wait.settled or wait.asking then
    return
  elseif not wait.request.number then
    local problem = wait.p.client.problem
    local message = ("wait timed out after %d ms, Redis has not answered%s"):format(wait.timeout,
      problem and " (" .. problem .. ")" or "")
    return M.settle(wait, { "timeout", message, {} })
  end
  wait.asking = true
  wait.p.withdraw(wait)
end

local function start_timer(wait, timeout)
  wait.timeout = timeout
  wait.timer = uv.new_timer()
  uv.update_time() -- the loop's clock may be behind, and counts whole milliseconds
  wait.timer:start(timeout > 0 and timeout + 1 or 0, 0, function()
    on_timeout(wait)
  end)
end

function M.new(p, timeout)
  local wait = { p = p, inner = barrier.new(2) }
  wait.request = {
    kind = "wait",
    belief = p.epoch ~= 0 and p.generation or nil, -- before it has joined: the one that it joins
    dropped = function()
      -- It could not suspend, or has left again.
      if wait.inner.n_waiting == 0 then
        M.leave(wait)
      end
      return wait.settled
    end,
    done = function(reply)
      M.settle(wait, reply)
    end,
    refuse = function(reason, withdrawn)
      if wait.asking then
        M.time_out(wait)
      else
        M.settle(wait, { "error", "BrokenBarrierError", "barrier broken", reason })
      end
      if wait.request.number and not withdrawn then
        p.withdraw(wait)
      end
    end,
  }
  p.waits[wait], M.owners[wait.inner] = true, p.self
  if timeout then
    start_timer(wait, timeout)
  end
  return wait
end

---Suspends the coroutine. Where that is possible it notices that the coroutine has left.
function M.stay(wait)
  wait.inner:wait()
end

local guard = { __close = M.leave }

if coroutine.close then -- luacheck: ignore 143
  M.stay = assert(load([[
    local guard, wait = ...
    return function(self)
      local guarded <close> = setmetatable(self, guard)
      wait(self.inner)
    end
  ]], debug.getinfo(1, "S").source))(guard, function(inner)
    return inner:wait()
  end)
elseif jit or _VERSION ~= "Lua 5.1" then
  function M.stay(wait)
    local ok, err = pcall(wait.inner.wait, wait.inner)
    if not ok then
      M.leave(wait, err)
      error(err, 0)
    end
  end
end

return M
