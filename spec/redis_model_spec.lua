-- The script that Redis runs, in lock step with a model of what it promises.
local redis = require "spec.redis_support"
local uv = require "luv"

require "barrier"
local protocol = require "barrier.redis_protocol"
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
    return type(reply) == "string" and protocol.outcome(reply) or reply
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
      return command { "EVALSHA", sha, 5, key, key .. ":leases", key .. ":arrivals", key .. ":free",
        key .. ":gone", member.name, member.instance, 100000, request, epoch, member.known, number,
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
    command { "DEL", key, key .. ":leases", key .. ":arrivals", key .. ":free", key .. ":gone" }
  end

  redis.it("does what the model does", function()
    for seed = 1, tonumber(os.getenv "REDIS_SEEDS") or (redis.thorough and 150 or 20) do
      check(seed, 60)
    end
  end)

  redis.it("moves the clock of the barrier by a third of ttl at most, and never back", function()
    local key = "barrier:{clock}"
    local function call(request, number, ...)
      return command { "EVALSHA", sha, 5, key, key .. ":leases", key .. ":arrivals", key .. ":free",
        key .. ":gone", "a", "i", 900, request, 0, 0, number, 1, ... }
    end
    local epoch = call("join", 0, 1, "", 1)[2]
    local function clock_after(seen)
      local before = tonumber(command { "HGET", key, "clock" })
      command { "HSET", key, "seen", ("%.0f"):format(seen) }
      command { "EVALSHA", sha, 5, key, key .. ":leases", key .. ":arrivals", key .. ":free",
        key .. ":gone", "a", "i", 900, "beat", epoch, 0, 0, 1, 0 }
      return tonumber(command { "HGET", key, "clock" }) - before
    end
    local now = os.time() * 1000
    assert.are.equal(300, clock_after(now - 3600000))
    assert.are.equal(0, clock_after(now + 3600000))
  end)
end)
