---The waits of a barrier in Redis. Each is a wait at a local barrier of two, whose other party is
---what Redis answers: so coroutines, callbacks, leaving early and uncaught errors are as elsewhere.
local prefix = (...):gsub("[^.]+$", "")
local barrier = require(prefix:sub(1, -2))
local uv = require(prefix .. "environment").luv()

local M = {}

---Which barrier in Redis a local one serves, for barrier.stuck.
M.owners = setmetatable({}, { __mode = "k" })

-- {=== errors ===

---@return string message
---@return string|number|boolean|nil reason
local function decode_reason(text)
  local kind, value = text:match "^a([snb]?)(.*)$"
  if kind == "n" then
    value = tonumber(value)
  elseif kind == "b" then
    value = value == "true"
  elseif kind == "" then
    value = nil
  elseif text:find "^r" then
    return "barrier reset", nil
  elseif not kind then
    return "barrier broken", text:sub(2)
  end
  return "barrier aborted", value
end

local function new_error(class, client, message, reason)
  return setmetatable({
    name = class, message = message, barrier = client.object, reason = reason,
    generation = client.over, epoch = client.over_epoch,
  }, barrier[class])
end

---The members that have not arrived, as last heard: "missing: a, b and 3 others; 1 seat is empty".
function M.missing(client)
  local heard, parts = client.heard, {}
  if heard.names[1] then
    local others = heard.absent - #heard.names
    parts[1] = "missing: " .. table.concat(heard.names, ", ")
      .. (others > 0 and (" and %d other%s"):format(others, others == 1 and "" or "s") or "")
  end
  if heard.empty > 0 then
    parts[#parts + 1] = heard.empty == 1 and "1 seat is empty" or heard.empty .. " seats are empty"
  end
  return parts[1] and ", " .. table.concat(parts, "; ") or ""
end

-- }===

-- {=== a wait ===

---Keeps the loop alive as long as there is something to wait for; without Redis that ends.
function M.rest(client)
  local sending = client.queue[1] ~= nil or client.low < client.next
  local busy = next(client.waits) ~= nil or client.leaving ~= nil
    or sending and not client.unanswered
  if client.timer and client.busy ~= busy then
    client.busy = busy
    client.timer[busy and "ref" or "unref"](client.timer)
  end
end

---What a wait comes to is known: its party goes on in the next turn of the loop.
---@param reply table of the script; or { "error", class, message, reason, missing }
local function settle(wait, reply)
  if wait.settled then
    return
  end
  wait.settled = reply
  if wait.timer then
    wait.timer:close()
  end
  wait.client.waits[wait] = nil
  if not wait.request.number then
    wait.client:drop(wait.request)
  end
  if wait.inner.n_waiting > 0 then
    wait.inner:arrive()
  end
  M.rest(wait.client)
end

local function time_out(wait, text, names)
  settle(wait, { "error", "TimeoutError",
    ("wait timed out after %d ms, %s"):format(wait.timeout, text), nil, names })
end

local function withdraw(wait)
  local client, request = wait.client, wait.request
  client:submit {
    kind = "withdraw", target = request, belief = request.belief,
    done = function(reply)
      client:forget(request)
      if reply[1] ~= "withdrawn" or wait.settled then
        return settle(wait, reply)
      end
      local heard = client.heard
      time_out(wait, ("%d of %d had arrived%s"):format(heard.arrived + 1, client.parties,
        M.missing(client)), heard.names)
    end,
  }
end

---The party has left by itself: cancelled, closed, resumed by something else.
function M.leave(wait)
  if not wait.settled then
    settle(wait, { "left" })
    if wait.request.number then
      withdraw(wait)
    end
  end
end

---Takes out what has left in a way that nothing says: it waits at its local barrier no more.
function M.sweep(client)
  for wait in pairs(client.waits) do
    if wait.inner.n_waiting == 0 then
      M.leave(wait)
    end
  end
end

---The timeout has passed: Redis is asked whether the barrier has tripped.
local function on_timeout(wait)
  if wait.request.number then
    wait.asking = true
    return withdraw(wait)
  end
  local problem = wait.client.problem
  time_out(wait, "Redis has not answered" .. (problem and " (" .. problem .. ")" or ""), {})
end

function M.start_timer(wait, timeout)
  wait.timeout, wait.timer = timeout, uv.new_timer()
  uv.update_time() -- the loop's clock may be behind, and counts whole milliseconds
  wait.timer:start(timeout > 0 and timeout + 1 or 0, 0, function()
    on_timeout(wait)
  end)
end

function M.new(client, kind)
  local wait = { client = client, inner = barrier.new(2) }
  M.owners[wait.inner] = client.object
  wait.request = {
    kind = kind,
    belief = client.over_epoch ~= 0 and client.over or nil, -- else the one that it joins in
    done = function(reply)
      settle(wait, reply)
    end,
    refuse = function(reason, gone)
      if wait.asking then
        time_out(wait, reason, {})
      else
        settle(wait, { "error", "BrokenBarrierError", "barrier broken", reason })
      end
      if not gone and not wait.asking then
        withdraw(wait)
      end
    end,
  }
  return wait
end

---@return barrier.Error? err
---@return any position
function M.deliver(wait)
  local client, reply = wait.client, wait.settled
  local kind, epoch, generation, value = reply[1], reply[2], reply[3], reply[4]
  if kind == "error" then
    local err = new_error(reply[2], client, reply[3], reply[4])
    err.timeout, err.missing = reply[5] and wait.timeout, reply[5]
    return err
  end
  generation = generation + 1
  if epoch > client.over_epoch or generation > client.over then
    client.over_epoch, client.over = epoch, generation
  end
  if kind == "passed" then
    return nil, value
  end
  local err = new_error("BrokenBarrierError", client, decode_reason(tostring(value)))
  err.epoch, err.generation = epoch, generation
  return err
end

---Suspends the coroutine. Where an error can be caught, the party is withdrawn at once when it is
---cancelled; elsewhere, and when it leaves in another way, three times in `ttl`.
function M.stay(wait)
  wait.inner:wait()
end

if jit or _VERSION ~= "Lua 5.1" then
  function M.stay(wait)
    local client = wait.client
    local ok, err = pcall(wait.inner.wait, wait.inner)
    if not ok then
      if getmetatable(err) == barrier.CancelledError and err.barrier == wait.inner then
        err.barrier, err.generation, err.epoch = client.object, client.over, client.over_epoch
      end
      M.leave(wait)
      error(err, 0)
    end
  end
end

-- }===

return M
