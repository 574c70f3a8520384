-- The script that Redis runs, in lock step with a model of what it promises.
local redis = require "spec.redis_support"
local uv = require "luv"

require "barrier"
local protocol = require "barrier.redis_connection"
local script = require "barrier.redis_script"

local NAMES = { "a", "b", "c", "d" }
local PARTIES = 3

-- {=== a model ===

---One generation after the other: who has arrived, and what became of it.
local function new_model()
  return { generation = 0, members = {}, arrived = {}, outcomes = {}, reason = nil, failed = -1 }
end

local function arrivals(model)
  local n = 0
  for _ in pairs(model.arrived) do
    n = n + 1
  end
  return n
end

local function seats(model)
  local n = 0
  for _, member in pairs(model.members) do
    n = n + (member.seat and 1 or 0)
  end
  return n
end

local function fail(model, reason)
  if model.aborted and reason ~= model.aborted then
    model.after = reason
    return
  end
  model.outcomes[model.generation] = reason
  model.failed, model.reason = model.generation, reason
  model.generation, model.arrived = model.generation + 1, {}
end

---What an arrival, counted or not, has come to.
local function outcome(model, member, number)
  local counted = member.counted[number]
  if counted and model.outcomes[counted] == "passed" then
    return "passed", counted
  elseif counted and counted == model.generation then
    return "counted", counted
  end
  return "failed", model.failed, model.reason
end

local function arrive(model, member, number, belief)
  if number == member.last + 1 then
    member.last = number
    if not model.aborted and belief > model.failed then
      member.counted[number] = model.generation
      model.arrived[member.name .. number] = true
      if arrivals(model) == PARTIES then
        model.outcomes[model.generation] = "passed"
        model.generation, model.arrived = model.generation + 1, {}
      end
    end
  end
  return outcome(model, member, number)
end

local function withdraw(model, member, number, target, belief)
  member.last = math.max(member.last, number)
  local kind, generation, reason = outcome(model, member, target)
  if kind == "counted" then
    model.arrived[member.name .. target], member.counted[target] = nil, nil
  elseif kind == "passed" or model.failed >= belief then
    return kind, generation, reason
  end
  return "withdrawn"
end

-- }===

-- {=== a connection ===

local function connect(server)
  local tcp, replies = uv.new_tcp(), {}
  local read = protocol.reader()
  local connected
  tcp:connect(redis.LOOPBACK, server.port, function(err)
    assert(not err, err)
    connected = true
  end)
  redis.run_until(function()
    return connected
  end)
  tcp:read_start(function(_, data)
    if data then
      assert(not read(data, function(value)
        replies[#replies + 1] = value
      end))
    end
  end)
  return function(words)
    if not words then
      return tcp:close()
    end
    tcp:write(protocol.encode(words))
    redis.run_until(function()
      return replies[1] ~= nil
    end)
    local reply = table.remove(replies, 1)
    assert(type(reply) ~= "table" or not reply.error, type(reply) == "table" and reply.error)
    return reply
  end
end

-- }===

describe("the script of barrier.redis", function()
  local server, command, sha

  setup(function()
    if redis.has_redis then
      server = redis.server()
      command = connect(server)
      sha = command { "SCRIPT", "LOAD", script }
    end
  end)

  teardown(function()
    if server then
      command(nil)
      server:close()
    end
  end)

  ---Runs a random script of a seed: the answers, and after each step the state, are the model's.
  local function check(seed, length)
    local state = seed
    local function random(n)
      state = (state * 1103515245 + 12345) % 2 ^ 31
      return math.floor(state / 65536) % n + 1
    end
    local key, model, epoch = "barrier:{model " .. seed .. "}", new_model(), 0
    local log = {}
    local function call(member, request, number, ...)
      log[#log + 1] = table.concat({ member.name, request, number, ... }, " ")
      return command { "EVALSHA", sha, 3, key, key .. ":leases", key .. ":records",
        member.name, member.instance, 100000, request, epoch, member.known, number,
        member.low, ... }
    end
    local function same(expected, actual, what)
      if expected ~= actual then
        error(("seed %d: %s is %s, not %s, after\n%s"):format(seed, what, tostring(actual),
          tostring(expected), table.concat(log, "\n")), 0)
      end
    end
    local function same_outcome(reply, kind, generation, reason)
      same(kind, reply[1], "the answer")
      if kind ~= "withdrawn" then
        same(generation, reply[3], "the generation")
        same(reason, kind == "failed" and reply[4] or nil, "the reason")
      end
      if kind == "passed" or kind == "counted" then
        local at = generation .. ":" .. reply[4]
        local owner = model.owners[at]
        same(true, reply[4] >= 0 and reply[4] < PARTIES, "a good position")
        model.owners[at] = owner or log.who
        same(log.who, model.owners[at], "the owner of position " .. at)
      end
    end
    model.owners = {}

    local function join(name)
      local old = model.members[name]
      local member = {
        name = name, instance = "i" .. #log, known = 0, low = 1, last = 0, counted = {}, sent = {},
      }
      local before = epoch
      epoch = 0
      local reply = call(member, "join", 0, PARTIES, "", 1)
      epoch = before
      if not (old and old.seat) and seats(model) == PARTIES then
        same("refused", reply[1], "the answer")
        return
      elseif old and old.seat then
        fail(model, "b" .. name .. " has been restarted")
      end
      same("state", reply[1], "the answer")
      epoch = reply[2]
      member.known, member.belief, member.seat = reply[3], reply[3], true
      model.members[name] = member
    end

    local STEPS = {}
    function STEPS.arrive(member)
      -- A new number, or one that was sent before.
      local number = random(3) == 1 and member.last or member.last + 1
      local sent = member.sent[number]
      if number < member.low or sent and sent.withdraws then
        return
      end
      local open = false
      for _, counted in pairs(member.counted) do
        open = open or counted == model.generation
      end
      if not open and number > member.last and random(3) > 1 then
        member.low = number -- the others were answered
      end
      sent = sent or { belief = random(3) == 1 and member.belief or member.known }
      member.sent[number] = sent
      log.who = member.name .. number
      local reply = call(member, "wait", number, sent.belief)
      same_outcome(reply, arrive(model, member, number, sent.belief))
      member.known = math.max(member.known, reply[1] == "counted" and reply[3] or reply[3] + 1)
      member.belief = reply[1] == "counted" and member.belief or reply[3] + 1
    end
    function STEPS.withdraw(member)
      local target
      for number = member.last, member.low, -1 do
        target = target or member.sent[number] and not member.sent[number].withdraws and number
      end
      if not target then
        return
      end
      local number = random(4) == 1 and member.sent[member.last].withdraws and member.last
        or member.last + 1
      local sent = member.sent[number]
        or { withdraws = target, belief = member.sent[target].belief }
      member.sent[number] = sent
      log.who = member.name .. sent.withdraws
      for at, who in pairs(model.owners) do
        if who == log.who and at:match "%d+" == tostring(model.generation) then
          model.owners[at] = nil -- it is given back
        end
      end
      local reply = call(member, "withdraw", number, sent.belief, sent.withdraws, "wait")
      same_outcome(reply, withdraw(model, member, number, sent.withdraws, sent.belief))
    end
    function STEPS.abort(member)
      local number, reason = member.last + 1, "ass" .. #log
      member.last, member.sent[number] = number, { withdraws = 0, belief = 0 }
      same("done", call(member, "abort", number, reason)[1], "the answer")
      if not model.aborted then
        model.aborted = reason
        fail(model, reason)
      end
      if random(2) == 1 then -- it is sent again, and does nothing
        call(member, "abort", number, "asagain")
      end
    end
    function STEPS.reset(member)
      local number = member.last + 1
      member.last, member.sent[number] = number, { withdraws = 0, belief = 0 }
      same("done", call(member, "reset", number)[1], "the answer")
      if model.aborted then
        model.aborted = nil
        if model.after then
          fail(model, model.after)
          model.after = nil
        end
      elseif arrivals(model) > 0 then
        fail(model, "r")
      end
      if random(2) == 1 then
        call(member, "reset", number)
      end
    end
    function STEPS.leave(member)
      same("left", call(member, "leave", 0)[1], "the answer")
      model.members[member.name] = nil
      if seats(model) > 0 or arrivals(model) > 0 then
        fail(model, "b" .. member.name .. " has left")
      end
      same("left", call(member, "leave", 0)[1], "the answer when it has left")
    end
    function STEPS.beat(member)
      local reply = call(member, "beat", 0, 1)
      local absent = 0
      for name, other in pairs(model.members) do
        local there = false
        for arrival in pairs(model.arrived) do
          there = there or arrival:sub(1, 1) == name
        end
        absent = absent + (other.seat and not there and 1 or 0)
      end
      same(absent, reply[8], "the number of members that are missing")
      same(PARTIES - seats(model), reply[7], "the number of empty seats")
    end
    function STEPS.gap(member)
      same("join", call(member, "wait", member.last + 2, member.known)[1], "the answer to a gap")
    end
    local kinds = { "arrive", "arrive", "arrive", "arrive", "arrive", "arrive", "withdraw",
      "withdraw", "beat", "abort", "reset", "reset", "leave", "gap" }
    join "a"
    for _ = 1, length do
      local name = NAMES[random(#NAMES)]
      local member = model.members[name]
      if not member or random(25) == 1 then
        join(name)
      else
        STEPS[kinds[random(#kinds)]](member)
      end
      local held = command { "HMGET", key, "generation", "count", "failed" }
      same(tostring(model.generation), (held[1] or "0"):match "^%d+", "the generation")
      same(tostring(arrivals(model)), held[2], "the number that have arrived")
      same(tostring(model.failed), held[3], "the last that failed")
    end
    command { "DEL", key, key .. ":leases", key .. ":records" }
  end

  redis.it("does what the model does", function()
    for seed = 1, tonumber(os.getenv "REDIS_SEEDS") or (redis.thorough and 150 or 20) do
      check(seed, 60)
    end
  end)

  ---Calls of one member of a barrier for the spec.
  local function caller(name, member)
    local key = "barrier:{" .. name .. "}"
    local self = { key = key, epoch = 0, known = 0, low = 1, ttl = 900 }
    function self.call(request, number, ...)
      local reply = command { "EVALSHA", sha, 3, key, key .. ":leases", key .. ":records",
        member or "a", "i", self.ttl, request, self.epoch, self.known, number, self.low, ... }
      self.epoch = reply[1] == "state" and reply[2] or self.epoch
      return reply
    end
    return self
  end

  redis.it("does nothing again for what is sent again", function()
    local a = caller "again"
    a.call("join", 0, 3, "", 1)
    a.call("wait", 1, 0)
    a.call("reset", 2, 0)
    a.known = 1
    local counted = { "counted", a.epoch, 1, 0, 1, 1 }
    assert.are.same(counted, a.call("wait", 3, 1))
    assert.are.same({ "done" }, a.call("reset", 2, 0))
    assert.are.same(counted, a.call("wait", 3, 1))
    a.call("abort", 4, "as")
    a.call("reset", 5, 0)
    a.call("abort", 4, "as")
    assert.are.same({ "counted", a.epoch, 2, 0, 1, 1 }, a.call("wait", 6, 2))
    a.call("abort", 7, "as")
    a.call("reset", 5, 0)
    assert.are.equal(1, a.call("beat", 0, 0)[6])
  end)

  redis.it("notices without a new connection that the generation is an older one", function()
    local a = caller "older"
    local epoch = a.call("join", 0, 1, "", 1)[2]
    a.call("wait", 1, 0)
    a.known, a.low = 1, 2
    command { "HSET", a.key, "generation", 0 }
    assert.are.same({ "join" }, a.call("beat", 0, 0))
    local reply = a.call("join", 1, 1, "", 0)
    assert.is_true(reply[2] > epoch)
    assert.are.equal(2, reply[3])
    assert.are.same({ "failed", a.epoch, 1, "bRedis has lost the barrier" }, a.call("wait", 2, 1))
  end)

  redis.it("notices that it has forgotten a request within a generation", function()
    local a = caller "forgotten"
    local epoch = a.call("join", 0, 3, "", 1)[2]
    a.call("wait", 1, 0)
    local record = command { "HGET", a.key .. ":records", "a" }
    a.call("arrive", 2, 0)
    command { "HSET", a.key .. ":records", "a", record }
    assert.is_true(a.call("join", 2, 3, "", 0)[2] > epoch)
    for _, number in ipairs { 1, 3 } do -- 2 was answered
      assert.are.same({ "failed", a.epoch, 0, "bRedis has lost the barrier" },
        a.call("wait", number, 0))
    end
    assert.are.same({ "join" }, a.call("wait", 5, 0))
    command { "HDEL", a.key .. ":records", "a" }
    epoch = a.epoch
    assert.is_true(a.call("join", 4, 3, "", 0)[2] > epoch)
  end)

  redis.it("numbers on above all that any member has heard of, in a new epoch", function()
    local a, b = caller "epochs", caller("epochs", "b")
    a.call("join", 0, 2, "", 1)
    b.call("join", 0, 2, "", 1)
    a.known, b.known = 3, 5
    command { "DEL", a.key }
    assert.are.equal(4, a.call("join", 0, 2, "", 0)[3])
    assert.are.equal(6, b.call("join", 0, 2, "", 0)[3])
    assert.are.same({ "failed", b.epoch, 5, "bRedis has lost the barrier" }, b.call("wait", 1, 5))
  end)

  redis.it("gives no seat back to a member that is gone and refused", function()
    local a, b = caller "seats", caller("seats", "b")
    a.call("join", 0, 1, "", 1)
    command { "HSET", a.key .. ":records", "a", "-i 0" }
    command { "ZADD", a.key .. ":leases", -1e15, "a" }
    assert.are.equal("state", b.call("join", 0, 1, "", 1)[1])
    assert.are.same({ "refused", "all 1 seats are taken" }, a.call("join", 0, 1, "", 0))
    assert.are.equal(0, b.call("beat", 0, 0)[7])
  end)

  redis.it("knows which members have arrived, also if only the answer was wanted", function()
    local a = caller "silent"
    local function standing(reply)
      return { reply[4], reply[5], reply[8] } -- arrived, waiting, missing
    end
    a.call("join", 0, 3, "", 1)
    a.call("arrive", 1, 0)
    a.low = 2
    a.call("wait", 2, 0)
    assert.are.same({ 1, 0, 0 }, standing(a.call("withdraw", 3, 0, 2, "wait")))
    a.call("arrive", 4, 0)
    assert.are.same({ 1, 0, 0 }, standing(a.call("withdraw", 5, 0, 4, "arrive")))
  end)

  redis.it("keeps for a while which members of a crowd are missing", function()
    local members = {}
    for i = 1, 66 do
      members[i] = caller("crowd", "m" .. i)
      members[i].ttl = 100000
      members[i].call("join", 0, 66, "", 1)
    end
    local function absent()
      local standing = members[1].call("beat", 0, 1)
      assert.are.equal(9, #standing - 8)
      return standing[8]
    end
    command { "HINCRBY", members[1].key, "clock", 10000 } -- what joining has listed is old
    members[1].call("wait", 1, 0)
    assert.are.equal(65, absent())
    members[2].call("wait", 1, 0)
    assert.are.equal(65, absent())
    command { "HINCRBY", members[1].key, "clock", 10000 }
    assert.are.equal(64, absent())
  end)

  redis.it("moves the clock of the barrier by a third of ttl at most, and never back", function()
    local a = caller "clock"
    a.call("join", 0, 1, "", 1)
    local function clock_after(seen)
      local before = tonumber(command { "HGET", a.key, "clock" })
      command { "HSET", a.key, "seen", ("%.0f"):format(seen) }
      a.call("beat", 0, 0)
      return tonumber(command { "HGET", a.key, "clock" }) - before
    end
    local now = os.time() * 1000
    assert.are.equal(300, clock_after(now - 3600000))
    assert.are.equal(0, clock_after(now + 3600000))
  end)
end)
