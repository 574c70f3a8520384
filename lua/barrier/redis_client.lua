---A member of a barrier in Redis: its connection, which is made again when it is lost, and its
---requests, which are sent again until they are answered. It knows no waiting.
local prefix = (...):match "^(.*%.)[^.]*$" or ""
local protocol = require(prefix .. "redis_protocol")
local uv = require(prefix .. "environment").luv()

---@class barrier.RedisRequest
---@field kind "wait"|"arrive"|"withdraw"|"abort"|"reset"
---@field done fun(reply: table) called once, with what it has come to; see `outcome` in the script
---@field dropped? fun(): boolean is it no longer wanted? Asked before it is sent first
---@field belief? integer the generation that it was made in
---@field target? barrier.RedisRequest what is withdrawn
---@field reason? string of an abort
---@field number? integer once it was sent
---@field counted? integer the generation in which it was counted,
---@field position? integer and the position there
---@field refuse? fun(reason: string, gone: boolean) Redis does not answer, or refuses the member;
---then the request is gone

---@class barrier.RedisClient
---@field [string] any
local Client = require(prefix .. "redis_connection")
Client.__index = Client
local close, has_left = Client.close_handle, Client.has_left

local function token()
  local bytes = uv.random and uv.random(12)
  if not bytes then
    return ("%s-%d-%s"):format(tostring(uv.hrtime()), uv.os_getpid(), tostring({}):match "%x+$")
  end
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
  self.attempts = 0
  self.heard = { parties = self.parties, arrived = 0, waiting = 0, broken = false, names = {} }
  return self
end

-- {=== requests ===

---Runs the script. Its answer is an array that begins with a word.
function Client:call(request, number, extra, on_reply)
  local words = { request, self.epoch, self.known, number, self.low }
  for i = 1, #extra do
    words[i + 5] = extra[i]
  end
  self:send(words, function(reply)
    if type(reply) == "string" then
      reply = protocol.outcome(reply)
    end
    if type(reply) ~= "table" or type(reply[1]) ~= "string" then
      return self:lose("what answers there does not speak Redis's protocol: " .. self:place())
    end
    self.answered, self.problem, self.attempts = uv.hrtime(), nil, 0
    local kind = reply[1]
    if kind == "replaced" then
      self.replaced = "another process is " .. self.member .. " now"
      return self:give_up(self.replaced)
    elseif kind == "refused" then
      return self:give_up(tostring(reply[2]))
    elseif kind == "join" then
      return self.state == "ready" and self:join()
    end
    on_reply(reply)
  end, self.connection.call, 11)
end

---What Redis has told about the barrier.
function Client:hear(epoch, generation, arrived, waiting)
  local heard = self.heard
  if type(epoch) ~= "number" or type(generation) ~= "number" then
    return self:lose("what answers there does not speak Redis's protocol: " .. self:place())
  end
  if epoch > self.epoch then
    self.epoch, self.known = epoch, generation
  end
  self.known = math.max(self.known, generation)
  heard.arrived, heard.waiting = tonumber(arrived) or 0, tonumber(waiting) or 0
end

---Takes in how the barrier stands: what "state" and "withdrawn" answer.
function Client:stand(reply)
  self:hear(reply[2], reply[3], reply[4], reply[5])
  local heard = self.heard
  heard.broken = reply[6] == 1
  heard.empty, heard.absent = tonumber(reply[7]) or 0, tonumber(reply[8]) or 0
  heard.names = {}
  for i = 9, #reply do
    heard.names[#heard.names + 1] = tostring(reply[i])
  end
end

---Takes or keeps the seat, then sends again whatever has no outcome.
function Client:join()
  self.state = "joining"
  local extra = { self.parties, self.run, self.first and 1 or 0 }
  self:call("join", self.highest, extra, function(reply)
    self.first = false
    self:stand(reply)
    if self.connection then
      self.state = "ready"
      self.on_join(self.epoch, self.known)
      for number = self.low, self.next - 1 do
        if self.requests[number] then
          self:transmit(self.requests[number])
        end
      end
      self:submit_all()
    end
  end)
end

---Sends a request, for the first time or again.
---@param request barrier.RedisRequest
function Client:transmit(request)
  local extra = { request.reason or request.belief }
  if request.target then
    extra[2], extra[3] = request.target.number, request.target.kind
  end
  self:call(request.kind, request.number, extra, function(reply)
    self.highest = math.max(self.highest, request.number)
    if self.requests[request.number] ~= request then
      return
    elseif reply[1] == "withdrawn" then
      self:stand(reply)
    elseif reply[1] == "counted" then
      self:hear(reply[2], reply[3], reply[5], reply[6])
      request.counted = reply[3]
      if request.kind == "wait" then
        request.position = reply[4]
        return
      end
    elseif reply[1] ~= "done" then
      self:hear(reply[2], reply[3])
    end
    self:settle(request, reply)
  end)
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
  if reply[1] == "passed" or reply[1] == "failed" then
    self.known = math.max(self.known, (tonumber(reply[3]) or 0) + 1)
  end
  request.done(reply)
  self.on_rest()
end

---Asks for what a request has come to, in the next turn of the loop.
---@param request barrier.RedisRequest
function Client:submit(request)
  self.queue[#self.queue + 1] = request
  if self.state == "idle" then
    self:start()
  elseif self.state == "ready" then
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
  self.on_rest()
end

---A trip or a failure was published: "EPOCH GENERATION[ REASON]".
function Client:on_message(message)
  local epoch, generation, reason = message:match "^(%d+) (%d+) ?(.*)$"
  epoch, generation = tonumber(epoch), tonumber(generation)
  if self.state ~= "ready" or not generation then
    return
  elseif epoch ~= self.epoch then
    return self:beat()
  end
  self.known = math.max(self.known, generation + 1)
  self.heard.arrived, self.heard.waiting = 0, 0
  self.heard.broken = reason:find "^a" ~= nil or self.heard.broken
  for number = self.low, self.next - 1 do
    local request = self.requests[number]
    if request and request.counted == generation then
      local passed = reason == ""
      self:settle(request, {
        passed and "passed" or "failed", epoch, generation, passed and request.position or reason,
      })
    end
  end
end

---Renews the lease, and reads the truth.
function Client:beat()
  self.beating = true
  self:call("beat", 0, { self.wanted() and 1 or 0 }, function(reply)
    self.beating = nil
    self:stand(reply)
    for number = self.low, self.next - 1 do
      local request = self.requests[number]
      if request and request.counted and request.counted < self.known then
        self:transmit(request) -- what has it come to?
      end
    end
  end)
end

---Three times in `ttl`.
function Client:tick()
  self.on_tick()
  if (uv.hrtime() - self.answered) / 1e6 >= 3 * self.ttl then
    self.answered = uv.hrtime()
    self:refuse_all(("Redis has not answered for %d ms (%s)"):format(3 * self.ttl,
      self.problem or ("no answer: " .. self:place())))
  end
  self.silent = self.connection and (self.beating or self.state ~= "ready") and self.silent + 1 or 0
  self.late = self.late and self.late + 1
  if self.leaving and self.late > 3 then
    self:stop "closed" -- the lease has to run out
  elseif self.silent > 1 then
    self:lose(self.problem or ("no answer: " .. self:place()))
  elseif self.state == "ready" and not self.beating then
    self:beat()
    self:write()
  end
end

-- }===

---@return barrier.RedisRequest[] # all without an outcome, in order
function Client:all()
  local all = {}
  for number = self.low, self.next - 1 do
    all[#all + 1] = self.requests[number]
  end
  for _, request in ipairs(self.queue) do
    all[#all + 1] = request
  end
  return all
end

---Requests that can fail do.
local function refuse_each(requests, reason, withdrawn)
  for _, request in ipairs(requests) do
    if request.refuse then
      request.refuse(reason, withdrawn)
    end
  end
end

---All that wait fail. What Redis may have counted is to be withdrawn.
function Client:refuse_all(reason)
  refuse_each(self:all(), reason, false)
end

---Redis refuses this member, for a reason that does not pass: nothing is sent until there is
---another request.
function Client:give_up(reason)
  local all = self:all()
  self.requests, self.queue, self.low = {}, {}, self.next
  if not self.first then -- of this instance something may be counted
    self.instance, self.first, self.highest = token(), true, self.next - 1
  end
  self:stop "idle"
  refuse_each(all, reason, true)
end

function Client:start()
  if has_left() then
    return
  end
  self.state = "connecting"
  self.answered, self.silent, self.attempts = uv.hrtime(), 0, 0
  self.timer, self.soon = uv.new_timer(), uv.new_timer()
  self.timer:unref()
  self.soon:unref()
  self.busy = false -- whether the timer keeps the loop alive
  local period = math.floor(self.ttl / 3)
  self.timer:start(period, period, function()
    self:tick()
  end)
  self.soon:start(0, 0, function() -- not at once: what is refused is refused by the loop
    self:open()
  end)
  self.on_rest()
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
  elseif self.state == "ready" then
    self.soon:start(0, 0, function()
      self:submit_all()
    end)
  end
end

return Client
