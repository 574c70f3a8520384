---A member of a barrier in Redis (see redis.lua): what it asks of Redis, and what that comes to.
local prefix = (...):gsub("[^.]+$", "")
local barrier = require(prefix:sub(1, -2))
local await = require(prefix .. "await")
local Member = require(prefix .. "redis_connection")
local has_left = Member.has_left

-- {=== what a wait comes to ===

---By the first byte of a reason: its message, and how to read the rest.
local REASONS = {
  r = { "barrier reset" },
  b = { "barrier broken", tostring },
  ["0"] = { "barrier aborted" },
  s = { "barrier aborted", tostring },
  n = { "barrier aborted", tonumber },
  t = { "barrier aborted", function(text) return text == "true" end },
}

---The members that have not arrived, as last heard: "missing: a, b and 3 others; 1 seat is empty".
function Member:missing()
  local names, empty, parts = self.names, self.empty, {}
  if names[1] then
    local others = self.absent - #names
    parts[1] = "missing: " .. table.concat(names, ", ")
      .. (others > 0 and (" and %d other%s"):format(others, others == 1 and "" or "s") or "")
  end
  if empty > 0 then
    parts[#parts + 1] = empty == 1 and "1 seat is empty" or empty .. " seats are empty"
  end
  return parts[1] and ", " .. table.concat(parts, "; ") or ""
end

---What a wait passes on; generation and epoch of the object are those of this wait from now on.
---@param inner? barrier.Barrier where it waited; it has tripped, so another party may wait there
---@return barrier.Error? err
---@return any position
function Member:deliver(result, inner)
  self.spare[1] = inner
  local epoch, generation = result.epoch, result.generation
  if epoch and (epoch > self.epoch or generation > self.generation) then
    self.epoch, self.generation = epoch, generation
  end
  if result.position then
    return nil, result.position
  end
  result.epoch, result.generation = epoch or self.epoch, generation or self.generation
  result.barrier = self.object
  return setmetatable(result, barrier[result.name])
end

---The party of a request goes on in the next turn, if it still waits.
local function settle(request, result)
  local inner = not request.result and request.inner
  if inner then
    request.result = result
    if inner.n_waiting > 0 or not request.is_begun then
      inner:arrive()
    elseif request.alarm then
      request.alarm:close()
    end
  end
end

local function timed_out(request, text, names)
  return {
    name = "TimeoutError", timeout = request.timeout, missing = names,
    message = ("wait timed out after %d ms, %s"):format(request.timeout, text),
  }
end

-- }===

-- {=== requests ===

-- At most one call is under way. It carries all requests that Redis has not answered or that may
-- have an outcome; so the call after a lost connection is like any other.

local MAX_CARRIED = 500 -- requests in one call

---@class barrier.RedisRequest
---@field number? integer once it was sent
---@field kind "wait"|"withdraw"|"cancel"|"abort"|"reset" it waits; its time has passed; it has left
---@field silent 0|1 it arrives and does not wait
---@field argument? string|integer a reason; or, once it was sent, what it takes for the generation
---@field inner? barrier.Barrier of two: its party, and `settle`
---@field is_begun? boolean whether its party has come to `inner`; it may have left since
---@field result? table what its party gets, or got
---@field counted? integer the generation in which it was counted
---@field [string] any

---@param request barrier.RedisRequest
---@param is_sure? boolean whether its party will wait; otherwise `tidy` may take it out in time
function Member:submit(request, is_sure)
  self.silence = self.silence < 9 and self.silence or 0
  if request.inner or not self.ended then
    table.insert(self.requests, request)
    if is_sure and self.head and not (self.purpose or self.ended or has_left()) then
      self:hold()
      self:sync()
    else
      self:soon()
    end
  end
end

---Sends what there is in the next turn of the loop.
function Member:soon()
  if not self.is_due then
    self.is_due = true
    await.turn(self.object, nil, function()
      self.is_due = false
      if self.ended then
        self:fail_all(self.ended)
      elseif self:is_idle() and not has_left() then
        self:open()
      end
      self:tidy()
      self:sync()
    end)
  end
end

---A party that will wait at `inner`.
---@param silent 0|1 see barrier.RedisRequest
---@param is_sure boolean see `submit`
function Member:wait(timeout, silent, is_sure)
  local inner = table.remove(self.spare)
  if not inner then
    inner = barrier.new(2)
    await.owners[inner] = self.object
  end
  local request = {
    kind = "wait", silent = silent, inner = inner, timeout = timeout, number = false,
    is_begun = false, is_over = false, argument = false, counted = false, position = false,
    result = false,
  }
  self:submit(request, is_sure)
  request.alarm = timeout and inner:await_trip(timeout, function(err)
    if err and (request.argument or self.head) then
      request.kind, self.beats = "withdraw", true -- Redis is asked whether it has passed
      self:soon()
    elseif err then
      self:leave(request, timed_out(request, "Redis has not answered"
        .. (self.problem and " (" .. self.problem .. ")" or ""), {}))
    end
  end)
  return request
end

---The party of a request leaves. What Redis may have counted is withdrawn.
function Member:leave(request, result)
  settle(request, result)
  request.kind, request.is_over = "cancel", not request.argument
  if not self:is_idle() then
    self:soon()
  end
end

---All waits fail.
function Member:fail_all(reason)
  for _, request in ipairs(self.requests) do
    if request.inner and not request.result then
      self:leave(request, request.kind == "withdraw" and timed_out(request, reason, {})
        or { name = "BrokenBarrierError", message = "barrier broken", reason = reason })
    end
  end
end

---Takes out the parties that have left by themselves: cancelled, closed, resumed by something else,
---or without having been suspended. Forgets what is over.
---@return boolean is_behind whether there is a request whose outcome is known to Redis
function Member:tidy()
  local is_behind, is_over = false, false
  for _, request in ipairs(self.requests) do
    if request.is_begun and not request.result and request.inner.n_waiting == 0 then
      self:leave(request, {})
    end
    if request.is_over then
      is_over = true
    elseif request.counted and request.counted < self.last_generation then
      is_behind = true
    end
  end
  if is_over then
    self:forget()
  end
  self:hold()
  return is_behind
end

---Forgets the requests that are over. A list that others may be walking is left as it is.
function Member:forget()
  local requests, kept = self.requests, {}
  local n = #requests
  for i = 1, n do
    kept[#kept + 1] = not requests[i].is_over and requests[i] or nil
  end
  if self.requests == requests then -- it is another list if a finalizer has done this
    self.requests = kept
    for i = n + 1, #requests do -- it has added these
      table.insert(kept, requests[i])
    end
  end
end

---Keeps the loop alive as long as there is something to wait for.
function Member:hold()
  local is_busy = self.leaving or self.requests[1] ~= nil and self.silence < 9
    and (self.link ~= nil or not self:is_idle())
  if self.timer and self.is_busy ~= is_busy then
    self.is_busy = is_busy
    self.timer[is_busy and "ref" or "unref"](self.timer)
  end
end

-- }===

-- {=== what Redis says ===

---Sends what Redis has not answered, and asks for outcomes, once the last call is answered.
function Member:sync()
  if not self.head or self.purpose then
    self.again = true
    return
  end
  self.purpose, self.again = "call", false -- a finalizer that submits another request has to wait
  local link = self.link
  local epoch, generation, requests = self.last_epoch, self.last_generation, self.requests
  local words, carried, n = { "" }, {}, 0
  for i = 1, epoch > 0 and #requests or 0 do
    local request = requests[i]
    local is_wait = request.kind == "wait"
    if (request.counted ~= generation or not is_wait) and n < MAX_CARRIED then
      n = n + 1
      if not request.number then
        request.number, self.next = self.next, self.next + 1
      end
      request.argument = request.argument or self.generation
      request.counted = is_wait and request.counted -- or else only the answer says what it came to
      carried[n] = request
      words[n + 1] = request.number .. " " .. request.kind .. " " .. request.silent .. " "
        .. request.argument
    end
  end
  self.again = self.again or epoch == 0 or n == MAX_CARRIED
  local purpose = self.leaving and not self.again and "leave" or self.beats and "beat" or "call"
  self.beats = false
  self.known = epoch .. " " .. generation .. " "
  words[1] = purpose .. " " .. self.known .. self.answered .. " "
    .. (requests[1] and requests[1].number or self.next)
  if self.link == link then
    self.carried = carried
    self:call(purpose, words)
  end
end

local TOO_LARGE = ("%d"):rep(16) -- no number of Redis has as many digits

-- The usual answer, when one party is counted, and the usual message, when all have come. What both
-- say first is `known`: nothing else has happened.
local COUNTED = "^%*2\r\n%$%d+\r\n(%d+ %d+ )(%d+) (%d+) 0\r\n%$%d+\r\ncounted %d+ (%d+)\r\n()"
local TRIP = "^>3\r\n%$7\r\nmessage\r\n%$%d+\r\n[^\r]*\r\n%$%d+\r\n(%d+ %d+ )\r\n()"

---What comes with each wait has to be fast: these two need no parser.
---@return integer? rest where the next value begins, if the first one was usual
function Member:take_usual(buffer)
  local known, rest = buffer:match(TRIP)
  if known and known == self.known then
    self:on_outcome(self.last_generation, "")
    return rest
  end
  local arrived, waiting, position
  known, arrived, waiting, position, rest = buffer:match(COUNTED)
  local request = self.carried[1]
  if not known or known ~= self.known or self.purpose ~= "call" or not request
    or request.silent == 1 or #arrived + #waiting + #position > 20 then
    return nil
  end
  self.purpose, self.silence, self.broken = nil, 0, false -- nothing is allocated until it is done
  self.n_arrived, self.n_waiting = tonumber(arrived), tonumber(waiting)
  request.counted, request.position = self.last_generation, tonumber(position)
  self:mark_answered(request)
  if self.again then
    self:soon()
  end
  return rest
end

function Member:mark_answered(request)
  if request.number > self.answered then
    self.answered = request.number
  end
end

---Redis has answered a call, see redis_script.lua. Until all is learnt the call is under way.
function Member:on_answer(purpose, answer)
  self.silence, self.attempts, self.problem = 0, 0, nil
  local word, reason = tostring(answer[1]), tostring(answer[2])
  local epoch, generation, arrived, waiting, broken, more =
    word:match "^(%d+) (%d+) (%d+) (%d+) (%d)(.*)$"
  if purpose == "leave" then
    return self:stop()
  elseif word == "refused" or word == "replaced" then
    self.ended = self.ended or word == "replaced" and reason or nil
    return self:refuse(reason)
  elseif not epoch or word:find(TOO_LARGE) then
    return self:lose(Member.NO_REDIS)
  end
  self.n_arrived, self.n_waiting, self.broken = tonumber(arrived), tonumber(waiting), broken == "1"
  self.last_epoch, self.last_generation, self.known = tonumber(epoch), tonumber(generation), nil
  if self.epoch == 0 then
    self.epoch, self.generation = self.last_epoch, self.last_generation
  end
  if more ~= "" then
    self:list(answer, more:match "(%d+) (%d+)")
  end
  for i, request in ipairs(self.carried) do
    local outcome, at, value = tostring(answer[i + 1]):match "^(%a+) ?(%-?%d*) ?(.*)$"
    self:learn(request, outcome, tonumber(at) or 0, value)
  end
  self.purpose = nil
  if self:tidy() or self.again then
    self:soon()
  end
end

---Learns what the answer to a beat says besides.
function Member:list(answer, empty, absent)
  self.empty, self.absent, self.names = tonumber(empty) or 0, tonumber(absent) or 0, {}
  for i = #self.carried + 2, #answer do
    local name = tostring(answer[i])
    self.names[#self.names + 1] = #self.names < 8 and name ~= self.member and name or nil
  end
end

---Learns what has become of a request.
function Member:learn(request, word, generation, value)
  self:mark_answered(request)
  if word == "counted" and (request.silent == 0 or request.kind == "cancel") then
    request.counted, request.position = generation, tonumber(value) or 0
    return
  end
  local result = { epoch = self.last_epoch, generation = generation + 1 }
  if word == "failed" then
    local kind = REASONS[value:sub(1, 1)] or REASONS.r
    result.name, result.message = "BrokenBarrierError", kind[1]
    result.reason = kind[2] and kind[2](value:sub(2))
  elseif word == "passed" or word == "counted" then
    result.position, result.epoch = tonumber(value) or 0, word == "passed" and result.epoch or nil
  elseif word == "withdrawn" and request.timeout then
    result = timed_out(request, ("%d of %d had arrived%s"):format(self.n_arrived + 1, self.parties,
      self:missing()), self.names)
  elseif request.inner and not request.result then
    return self:lose(Member.NO_REDIS)
  end
  request.is_over = true
  settle(request, result)
end

---A trip or a failure was published: "EPOCH GENERATION " and a reason, if it has failed.
function Member:on_message(message)
  local epoch, generation, reason = message:match "^(%d+) (%d+) (.*)$"
  generation = tonumber(generation)
  if generation and tonumber(epoch) == self.last_epoch then
    self:on_outcome(generation, reason)
  else
    self:soon()
  end
end

---@param reason string why it failed, or ""
function Member:on_outcome(generation, reason)
  if generation >= self.last_generation then
    self.last_generation = generation + 1
  end
  self.known, self.n_arrived, self.n_waiting = nil, 0, 0
  local word = reason == "" and "passed" or "failed"
  for _, request in ipairs(self.requests) do
    if request.counted == generation and not request.is_over then
      self:learn(request, word, generation, reason == "" and request.position or reason)
    end
  end
  if self:tidy() or reason ~= "" then
    self:soon()
  end
end

-- }===

return Member
