---A member of a barrier in Redis: its requests, which are sent again until they are answered. It
---is connected as redis_connection.lua says, and is what a barrier.Redis is made of.
local prefix = (...):gsub("[^.]+$", "")
local Client = require(prefix .. "redis_connection")
local uv = require(prefix .. "environment").luv()

local close = Client.close_handle

---@class barrier.RedisRequest
---@field kind "wait"|"arrive"|"withdraw"|"abort"|"reset"
---@field done fun(reply: table) called once, with what it has come to; see `outcome` in the script
---@field refuse? fun(reason: string, gone: boolean) Redis does not answer, or refuses the member:
---then the request is gone
---@field dropped? fun(): boolean is it no longer wanted? Asked before it is sent first
---@field belief? integer the generation that it was made in
---@field target? barrier.RedisRequest what is withdrawn
---@field reason? string of an abort
---@field number? integer once it was sent
---@field counted? integer the generation in which it was counted,
---@field position? integer and the position there

---@class barrier.RedisClient
---@field [string] any
Client.__index = Client

local function token()
  local bytes = uv.random and uv.random(12) or uv.hrtime() .. "-" .. uv.os_getpid()
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

---@return barrier.RedisClient
function Client.new(fields)
  local self = setmetatable(fields, Client)
  -- Names may have any bytes, but the first } ends a hash tag.
  self.key = "barrier:{" .. self.name:gsub("[%%{}]", function(c)
    return ("%%%02X"):format(c:byte())
  end) .. "}"
  self.instance, self.first = token(), true
  self.member = self.member or ("%s:%d:%s"):format(uv.os_gethostname(), uv.os_getpid(),
    self.instance:sub(1, 6))
  self.epoch, self.known = 0, 0 -- the highest that Redis has answered
  self.requests = {} -- by number: sent, and without an outcome
  self.low, self.next, self.highest = 1, 1, 0 -- the least of these; the next; the highest answered
  self.queue = {} -- requests without a number
  self.state = "idle" -- then "connecting", "joining", "ready"; or "closed"
  self.heard = { arrived = 0, waiting = 0, broken = false, empty = 0, absent = 0, names = {} }
  return self
end

-- {=== what Redis answers ===

---Runs the script. Its answer is an array that begins with a word.
function Client:call(request, number, extra, on_reply)
  local words = { request, self.epoch, self.known, number, self.low, extra[1], extra[2], extra[3] }
  self:send(words, function(reply)
    if type(reply) ~= "table" or type(reply[1]) ~= "string" then
      return self:lose(self.NO_REDIS)
    end
    self.answered, self.unanswered, self.problem, self.attempts = uv.hrtime(), nil, nil, 0
    local kind = reply[1]
    if kind == "replaced" then
      self.replaced = "another process is " .. self.member .. " now"
      self:give_up(self.replaced)
    elseif kind == "refused" then
      self:give_up(tostring(reply[2]))
    elseif kind ~= "join" then
      on_reply(reply)
    elseif self.state == "ready" then
      self:join()
    end
  end, self.connection.call)
end

---Takes in epoch and generation of a reply.
---@return boolean ok
function Client:hear(reply)
  local epoch, generation = reply[2], reply[3]
  if type(epoch) ~= "number" or type(generation) ~= "number" then
    self:lose(self.NO_REDIS)
    return false
  end
  if reply[1] == "passed" or reply[1] == "failed" then
    generation = generation + 1
  end
  self.known = epoch > self.epoch and generation or math.max(self.known, generation)
  self.epoch = math.max(self.epoch, epoch)
  return true
end

---Takes in how the barrier stands: what "state" and "withdrawn" answer.
---@return boolean ok
function Client:stand(reply)
  if not self:hear(reply) then
    return false
  end
  local heard, absent = self.heard, tonumber(reply[8]) or 0
  heard.arrived, heard.waiting = tonumber(reply[4]) or 0, tonumber(reply[5]) or 0
  heard.broken, heard.empty, heard.names = reply[6] == 1, tonumber(reply[7]) or 0, {}
  for i = 9, #reply do
    if reply[i] == self.member then
      absent = absent - 1
    else
      heard.names[#heard.names + 1] = #heard.names < 8 and tostring(reply[i]) or nil
    end
  end
  heard.absent = absent
  return true
end

---Takes or keeps the seat, then sends again whatever has no outcome.
function Client:join()
  self.state = "joining"
  local extra = { self.parties, self.run, self.first and 1 or 0 }
  self:call("join", self.highest, extra, function(reply)
    if not self:stand(reply) then
      return
    end
    self.first, self.state = false, "ready"
    if self.over_epoch == 0 then
      self.over_epoch, self.over = self.epoch, self.known
    end
    for _, request in ipairs(self:sent()) do
      self:transmit(request)
    end
    self:submit_all()
  end)
end

---Sends a request, for the first time or again.
---@param request barrier.RedisRequest
function Client:transmit(request)
  local target = request.target or {}
  local extra = { request.reason or request.belief, target.number, target.kind }
  self:call(request.kind, request.number, extra, function(reply)
    self.highest = math.max(self.highest, request.number)
    local kind = reply[1]
    if self.requests[request.number] ~= request then
      return
    elseif kind == "withdrawn" and not self:stand(reply)
      or kind ~= "withdrawn" and kind ~= "done" and not self:hear(reply) then
      return
    elseif kind == "counted" then
      self.heard.arrived, self.heard.waiting = tonumber(reply[5]) or 0, tonumber(reply[6]) or 0
      request.counted, request.position = reply[3], reply[4]
      if request.kind == "wait" then
        return
      end
    end
    self:settle(request, reply)
  end)
end

---A trip or a failure was published: "EPOCH GENERATION[ REASON]".
function Client:on_message(message)
  local epoch, generation, reason = message:match "^(%d+) (%d+) ?(.*)$"
  generation = tonumber(generation)
  if self.state ~= "ready" or not generation then
    return
  elseif tonumber(epoch) ~= self.epoch then
    return self:beat()
  end
  local passed = reason == ""
  self.known = math.max(self.known, generation + 1)
  self.heard.arrived, self.heard.waiting = 0, 0
  self.heard.broken = reason:find "^a" ~= nil or self.heard.broken
  for _, request in ipairs(self:sent()) do
    if request.counted == generation then
      self:settle(request, {
        passed and "passed" or "failed", self.epoch, generation,
        passed and request.position or reason,
      })
    end
  end
end

---Renews the lease, and reads the truth.
function Client:beat()
  self.beating = true
  self:call("beat", 0, { next(self.waits) and 1 or 0 }, function(reply)
    self.beating = nil
    if self:stand(reply) then
      for _, request in ipairs(self:sent()) do
        if request.counted and request.counted < self.known then
          self:transmit(request) -- what has it come to?
        end
      end
    end
  end)
end

-- }===

-- {=== requests ===

---@return barrier.RedisRequest[] # all that were sent, and have no outcome, in order
function Client:sent()
  local sent = {}
  for number = self.low, self.next - 1 do
    sent[#sent + 1] = self.requests[number]
  end
  return sent
end

---A request needs no outcome any more.
function Client:forget(request)
  self.requests[request.number] = nil
  while self.low < self.next and not self.requests[self.low] do
    self.low = self.low + 1
  end
end

---A request has come to something.
function Client:settle(request, reply)
  self:forget(request)
  request.done(reply)
  self:on_rest()
end

---Asks for what a request has come to, in the next turn of the loop.
---@param request barrier.RedisRequest
function Client:submit(request)
  self.queue[#self.queue + 1] = request
  if self.state == "idle" then
    self:start()
  end
  self:submit_soon()
end

---A request is no longer wanted before it was sent.
function Client:drop(request)
  for i, each in ipairs(self.queue) do
    if each == request then
      table.remove(self.queue, i)
      return
    end
  end
end

function Client:submit_soon()
  if self.state == "ready" then
    self.soon:start(0, 0, function()
      self:submit_all()
    end)
  end
end

function Client:submit_all()
  if self.state ~= "ready" then
    return
  end
  local queue = self.queue
  self.queue = {}
  for _, request in ipairs(queue) do
    if not (request.dropped and request.dropped()) then
      request.number, self.next = self.next, self.next + 1
      request.belief = request.belief or self.known
      self.requests[request.number] = request
      self:transmit(request)
    end
  end
  if self.leaving then
    self:call("leave", 0, {}, function()
      self:stop "closed"
    end)
  end
  self:write()
  self:on_rest()
end

---All that can fail do.
local function refuse_each(requests, reason, gone)
  for _, request in ipairs(requests) do
    local refuse = request.refuse
    if refuse then
      request.refuse = nil
      refuse(reason, gone)
    end
  end
end

---All that wait fail. Withdraws the arrivals that Redis may have counted.
function Client:refuse_all(reason)
  local queue = self.queue
  self.queue = {}
  for _, request in ipairs(queue) do
    self.queue[#self.queue + 1] = not request.refuse and request or nil
  end
  refuse_each(self:sent(), reason, false)
  refuse_each(queue, reason, true)
end

---Redis refuses this member, for a reason that does not pass: nothing is sent until there is
---another request.
function Client:give_up(reason)
  local sent, queue = self:sent(), self.queue
  self.requests, self.queue, self.low, self.highest = {}, {}, self.next, self.next - 1
  if not self.first then -- something of this instance may be counted
    self.instance, self.first = token(), true
  end
  self:stop "idle"
  refuse_each(sent, reason, true)
  refuse_each(queue, reason, true)
end

-- }===

-- {=== its life ===

function Client:start()
  if self.has_left() then
    return
  end
  self.state = "connecting"
  self.answered, self.silent, self.attempts = uv.hrtime(), 0, 0
  self.timer, self.soon = uv.new_timer(), uv.new_timer()
  self.timer:unref()
  self.soon:unref()
  self.busy = false -- does the timer keep the loop alive?
  local period = math.floor(self.ttl / 3)
  self.timer:start(period, period, function()
    self:tick()
  end)
  self.soon:start(0, 0, function() -- not at once: what is refused is refused by the loop
    self:open()
  end)
  self:on_rest()
end

---Three times in `ttl`.
function Client:tick()
  self:on_tick()
  local silence = self.problem or "no answer: " .. self:place()
  if (uv.hrtime() - self.answered) / 1e6 >= 3 * self.ttl then
    self.answered, self.unanswered = uv.hrtime(), true
    self:refuse_all(("Redis has not answered for %d ms (%s)"):format(3 * self.ttl, silence))
    self:on_rest()
  end
  self.silent = self.connection and (self.beating or self.state ~= "ready") and self.silent + 1 or 0
  self.late = self.leaving and self.late + 1
  if self.leaving and self.late > 3 then
    self:stop "closed" -- the lease has to run out
  elseif self.silent > 1 then
    self:lose "no answer"
  elseif self.state == "ready" and not self.beating then
    self:beat()
    self:write()
  end
end

function Client:stop(state)
  local leaving = self.leaving
  self:disconnect()
  close(self.timer)
  close(self.soon)
  self.timer, self.soon = nil, nil
  self.state, self.leaving = leaving and "closed" or state, nil
  if leaving then
    leaving()
  end
end

---Leaves the barrier for good.
---@param on_left fun()
function Client:leave(on_left)
  self.leaving, self.late = on_left, 0
  if self.state == "idle" or self.first and self.state ~= "joining" then
    self:stop "closed"
  else
    self:submit_soon()
  end
end

-- }===

return Client
