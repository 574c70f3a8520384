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
  return { generation = 0, members = {}, arrived = {}, outcomes = {}, reason = "", failed = -1 }
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
  if number > member.last then
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

---The time has passed: it arrives, if it has not yet, and waits no longer.
local function withdraw(model, member, number, belief)
  local kind, generation, reason = arrive(model, member, number, belief)
  if kind == "counted" then
    model.arrived[member.name .. number], member.counted[number] = nil, nil
  elseif kind == "passed" or model.failed >= belief then
    return kind, generation, reason
  end
  return "withdrawn"
end

---It has left, perhaps before it arrived.
local function cancel(model, member, number, belief)
  member.last = math.max(member.last, number)
  return withdraw(model, member, number, belief)
end

-- }===

-- {=== a connection ===

---What the script returns for one request at most: what has become of that, its generation, its
---position or reason; or a word and a reason. `standing` and `names` are how the barrier stands.
local function read(reply, has_request)
  local standing = {}
  for n in reply[1]:gmatch "%-?%d+" do
    standing[#standing + 1] = tonumber(n)
  end
  if not standing[5] then
    return reply
  end
  local word, generation, value = (has_request and reply[2] or "standing"):match(
    "^(%a*) ?(%-?%d*) ?(.*)$")
  return {
    word, tonumber(generation), tonumber(value) or value, standing = standing,
    names = #reply - (has_request and 2 or 1),
  }
end

local function connect(server)
  local tcp, replies = uv.new_tcp(), {}
  local connected
  local buffer = ""
  tcp:connect(redis.LOOPBACK, server.port, function(err)
    assert(not err, err)
    connected = true
  end)
  redis.run_until(function()
    return connected
  end)
  tcp:read_start(function(_, data)
    buffer = buffer .. (data or "")
    local rest, value = protocol.parse(buffer, 1, 1)
    while rest do
      buffer = buffer:sub(rest)
      replies[#replies + 1] = value
      rest, value = protocol.parse(buffer, 1, 1)
    end
  end)
  return function(words)
    if not words then
      return tcp:close()
    end
    for i, word in ipairs(words) do
      words[i] = type(word) == "number" and ("%.0f"):format(word) or word
    end
    tcp:write(protocol.encode(words))
    redis.run_until(function()
      return replies[1] ~= nil
    end)
    local reply = table.remove(replies, 1)
    if type(reply) == "table" and reply.error then
      error(reply.error, 0)
    end
    return tonumber(reply) or reply
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

  local FIELD = [=[
    local packed = redis.call('HGET', KEYS[1], '')
    local head = { struct.unpack('>dddddd', packed) }
    local s = cmsgpack.unpack(packed:sub(head[7]))
    s.generation, s.count, s.silent = head[2], head[4], head[5]
    s[ARGV[1]] = tonumber(ARGV[2] or s[ARGV[1]])
    head[2], head[4] = s.generation, s.count
    redis.call('HSET', KEYS[1], '', struct.pack('>dddddd', unpack(head, 1, 6)) .. cmsgpack.pack(s))
    return tostring(s[ARGV[1]])
  ]=]

  ---A number of the state; `value` changes it.
  local function field(key, name, value)
    return tonumber(command { "EVAL", FIELD, 1, key, name, value })
  end

  ---Runs a random script of a seed: the answers, and after each step the state, are the model's.
  local function check(seed, length)
    local state = seed
    local function random(n)
      state = (state * 1103515245 + 12345) % 2 ^ 31
      return math.floor(state / 65536) % n + 1
    end
    local key, model, epoch = "barrier:{model " .. seed .. "}", new_model(), 0
    local log = {}
    local function call(member, purpose, request)
      log[#log + 1] = table.concat({ member.name, purpose, request }, " ")
      return read(command { "EVALSHA", sha, 1, key,
        member.name, member.instance, 100000, PARTIES, "",
        ("%s %.0f %d %d %d"):format(purpose, epoch, member.known, member.low - 1, member.low),
        request }, request)
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
        same(generation, reply[2], "the generation")
        same(reason, kind == "failed" and reply[3] or nil, "the reason")
      end
      if kind == "passed" or kind == "counted" then
        local at = generation .. ":" .. reply[3]
        local owner = model.owners[at]
        same(true, reply[3] >= 0 and reply[3] < PARTIES, "a good position")
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
      local reply = call(member, "call")
      epoch = before
      if not (old and old.seat) and seats(model) == PARTIES then
        same("refused", reply[1], "the answer")
        return
      elseif old and old.seat then
        fail(model, "b" .. name .. " has been restarted")
      end
      same("standing", reply[1], "the answer")
      epoch = reply.standing[1]
      member.known, member.belief, member.seat = reply.standing[2], reply.standing[2], true
      model.members[name] = member
    end

    local STEPS = {}
    function STEPS.arrive(member)
      -- A new number, or one that was sent before.
      local number = random(3) == 1 and member.last or member.last + random(2)
      local sent = member.sent[number]
      if number < member.low or number <= member.last and not sent then
        return
      end
      local open = false
      for _, counted in pairs(member.counted) do
        open = open or counted == model.generation
      end
      if not open and number > member.last and random(3) > 1 then
        member.low = member.last + 1 -- the others were answered
      end
      sent = sent or { belief = random(3) == 1 and member.belief or member.known }
      member.sent[number] = sent
      log.who = member.name .. number
      local reply = call(member, "call", number .. " wait 0 " .. sent.belief)
      same_outcome(reply, arrive(model, member, number, sent.belief))
      member.known = reply.standing[2]
      member.belief = reply[1] == "counted" and member.belief or reply[2] + 1
    end
    local function take_out(member, kind, change)
      local number = random(4) == 1 and member.last + 1 or member.last
      local sent = member.sent[number]
      if number < member.low or number <= member.last and not sent then
        return
      end
      sent = sent or { belief = member.known }
      member.sent[number] = sent
      log.who = member.name .. number
      for at, who in pairs(model.owners) do
        if who == log.who and at:match "%d+" == tostring(model.generation) then
          model.owners[at] = nil -- it is given back
        end
      end
      local reply = call(member, "beat", number .. " " .. kind .. " 0 " .. sent.belief)
      same_outcome(reply, change(model, member, number, sent.belief))
    end
    function STEPS.withdraw(member)
      take_out(member, "withdraw", withdraw)
    end
    function STEPS.cancel(member)
      take_out(member, "cancel", cancel)
    end
    function STEPS.abort(member)
      local number, reason = member.last + 1, "ss" .. #log
      member.last = number
      same("", call(member, "call", number .. " abort 0 " .. reason)[1], "the answer")
      if not model.aborted then
        model.aborted = reason
        fail(model, reason)
      end
      if random(2) == 1 then -- it is sent again, and does nothing
        call(member, "call", number .. " abort 0 sagain")
      end
    end
    function STEPS.reset(member)
      local number = member.last + 1
      member.last = number
      same("", call(member, "call", number .. " reset 0 ")[1], "the answer")
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
        call(member, "call", number .. " reset 0 ")
      end
    end
    function STEPS.leave(member)
      same("left", call(member, "leave")[1], "the answer")
      model.members[member.name] = nil
      if seats(model) > 0 or arrivals(model) > 0 then
        fail(model, "b" .. member.name .. " has left")
      end
      same("left", call(member, "leave")[1], "the answer when it has left")
    end
    function STEPS.beat(member)
      local reply = call(member, "beat")
      local absent, all = 0, 0
      for name, other in pairs(model.members) do
        local there = false
        for arrival in pairs(model.arrived) do
          there = there or arrival:sub(1, 1) == name
        end
        all = all + (other.seat and not there and 1 or 0)
        absent = absent + (other.seat and not there and name ~= member.name and 1 or 0)
      end
      same(absent, reply.standing[7], "the number of other members that are missing")
      same(all, reply.names, "the number of names")
      same(PARTIES - seats(model), reply.standing[6], "the number of empty seats")
    end
    local kinds = { "arrive", "arrive", "arrive", "arrive", "arrive", "arrive", "withdraw",
      "cancel", "beat", "abort", "reset", "reset", "leave" }
    join "a"
    for _ = 1, length do
      local name = NAMES[random(#NAMES)]
      local member = model.members[name]
      if not member or random(25) == 1 then
        join(name)
      else
        STEPS[kinds[random(#kinds)]](member)
      end
      same(model.generation, field(key, "generation"), "the generation")
      same(arrivals(model), field(key, "count"), "the number that have arrived")
      same(model.failed, field(key, "failed"), "the last that failed")
    end
    command { "DEL", key }
  end

  redis.it("does what the model does", function()
    for seed = 1, tonumber(os.getenv "REDIS_SEEDS") or (redis.thorough and 150 or 20) do
      check(seed, 60)
    end
  end)

  ---Calls of one member of a barrier for the spec.
  local function caller(name, member, parties)
    local key = "barrier:{" .. name .. "}"
    local self = { key = key, epoch = 0, known = 0, answered = 0, low = 1, ttl = 900 }
    function self.call(request, purpose)
      local reply = read(command { "EVALSHA", sha, 1, key,
        member or "a", "i", self.ttl, parties or 3, "", ("%s %.0f %d %d %d"):format(
          purpose or "call", self.epoch, self.known, self.answered, self.low), request }, request)
      self.epoch = reply.standing and reply.standing[1] or self.epoch
      self.generation = reply.standing and reply.standing[2]
      return reply
    end
    function self.outcome(request)
      local reply = self.call(request)
      return { reply[1], reply[2], reply[3] }
    end
    ---What Redis holds of the member, without its lease.
    function self.record()
      return (command { "HGET", key, member or "a" }:gsub("^i %d+", "i"))
    end
    function self.beat()
      return self.call(nil, "beat").standing
    end
    return self
  end

  redis.it("does nothing again for what is sent again", function()
    local a = caller "again"
    a.call()
    a.call "1 wait 0 0"
    a.call "2 reset 0 "
    local counted = { "counted", 1, 0 }
    assert.are.same(counted, a.outcome "3 wait 0 1")
    assert.are.equal("", a.call("2 reset 0 ")[1])
    assert.are.same(counted, a.outcome "3 wait 0 1")
    a.call "4 abort 0 s"
    a.call "5 reset 0 "
    a.call "4 abort 0 s"
    assert.are.same({ "counted", 2, 0 }, a.outcome "6 wait 0 2")
    a.call "7 abort 0 s"
    a.call "5 reset 0 "
    assert.are.equal(1, a.beat()[5])
  end)

  redis.it("does not count what has left before it came", function()
    local a = caller("late", "a", 1)
    a.call()
    assert.are.same({ "withdrawn", nil, "" }, a.outcome "1 cancel 0 0")
    assert.are.same({ "failed", -1, "" }, a.outcome "1 wait 0 0") -- of a connection that was lost
    assert.are.equal(0, a.generation)
    assert.are.same({ "passed", 0, 0 }, a.outcome "2 withdraw 0 0") -- the last to arrive
  end)

  redis.it("notices without a new connection that the generation is an older one", function()
    local a = caller("older", "a", 1)
    a.call()
    local epoch = a.epoch
    a.call "1 wait 0 0"
    a.known, a.answered = 1, 1
    field(a.key, "generation", 0)
    assert.are.same({ "failed", 1, "bRedis has lost the barrier" }, a.outcome "2 wait 0 1")
    assert.is_true(a.epoch > epoch)
    assert.are.equal(2, a.generation)
  end)

  redis.it("notices that it has forgotten a request within a generation", function()
    local a = caller "forgotten"
    a.call()
    local epoch = a.epoch
    a.call "1 wait 0 0"
    local record = command { "HGET", a.key, "a" }
    a.call "2 wait 1 0"
    a.answered = 2
    command { "HSET", a.key, "a", record }
    for _, request in ipairs { "1 wait 0 0", "3 wait 0 0" } do
      assert.are.same({ "failed", 0, "bRedis has lost the barrier" }, a.outcome(request))
    end
    assert.is_true(a.epoch > epoch)
    epoch, a.answered = a.epoch, 3
    command { "HDEL", a.key, "a" }
    a.call()
    assert.is_true(a.epoch > epoch)
  end)

  redis.it("numbers on above all that any member has heard of, in a new epoch", function()
    local a, b = caller("epochs", "a", 2), caller("epochs", "b", 2)
    a.call()
    b.call()
    a.known, b.known = 3, 5
    command { "DEL", a.key }
    a.call()
    assert.are.equal(4, a.generation)
    b.call()
    assert.are.equal(6, b.generation)
    assert.are.same({ "failed", 5, "bRedis has lost the barrier" }, b.outcome "1 wait 0 5")
  end)

  redis.it("gives no seat back to a member that is gone and refused", function()
    local a, b = caller("seats", "a", 1), caller("seats", "b", 1)
    a.call()
    command { "HSET", a.key, "a", "i -1 900 0" }
    field(a.key, "members", 0)
    assert.are.equal("standing", b.call()[1])
    assert.are.same({ "refused", "all 1 seats are taken" }, a.call())
    assert.are.equal(0, b.beat()[6])
  end)

  redis.it("knows which members have arrived, also if only the answer was wanted", function()
    local a, b = caller("silent", "a"), caller("silent", "b")
    local function standing()
      local s = b.beat()
      return { s[3], s[4], s[7] } -- arrived, waiting, missing
    end
    a.call()
    a.call "1 wait 1 0"
    a.answered = 1
    a.call "2 wait 0 0"
    a.call "2 withdraw 0 0"
    assert.are.same({ 1, 0, 0 }, standing())
    a.call "4 wait 1 0"
    a.call "4 cancel 1 0"
    assert.are.same({ 1, 0, 0 }, standing())
    a.call "1 cancel 1 0"
    assert.are.same({ 0, 0, 1 }, standing())
  end)

  redis.it("forgets what has become of a request once the member knows, not before", function()
    local a = caller("known", "a", 1)
    a.call()
    for number = 1, 9 do
      a.outcome(number .. " wait 0 " .. number - 1)
    end
    assert.are.same({ "passed", 0, 0 }, a.outcome "1 wait 0 0")
    a.answered, a.low = 9, 9
    a.outcome "9 wait 0 8"
    assert.are.equal("i 900 9 9:8:0", a.record())
  end)

  redis.it("keeps for a while which members of a crowd are missing", function()
    local members = {}
    for i = 1, 66 do
      members[i] = caller("crowd", "m" .. i, 66)
      members[i].ttl = 100000
      members[i].call()
    end
    local function absent()
      local reply = members[1].call(nil, "beat")
      assert.are.equal(9, reply.names)
      return reply.standing[7]
    end
    local function pass_time()
      field(members[1].key, "clock", field(members[1].key, "clock") + 10000)
    end
    pass_time() -- what joining has listed is old
    members[1].call "1 wait 0 0"
    assert.are.equal(65, absent())
    members[2].call "1 wait 0 0"
    assert.are.equal(65, absent())
    pass_time()
    assert.are.equal(64, absent())
  end)

  redis.it("looks at the leases when the first of them may have run out", function()
    local a, b = caller("due", "a", 2), caller("due", "b", 2)
    a.ttl, b.ttl = 900000, 100000
    a.call()
    b.call()
    local clock = field(a.key, "clock")
    field(a.key, "clock", clock + 50000)
    assert.are.equal(0, a.beat()[6])
    field(a.key, "clock", clock + 100000)
    assert.are.equal(1, a.beat()[6])
    assert.are.same({ "failed", 0, "bb is gone" }, a.outcome "1 wait 0 0")
  end)

  redis.it("tells each request of a call what those after it have brought about", function()
    local a = caller("batch", "a", 2)
    a.call()
    local function answers(...)
      local reply = command { "EVALSHA", sha, 1, a.key, "a", "i", 900, 2, "",
        ("call %.0f 0 0 1"):format(a.epoch), ... }
      table.remove(reply, 1)
      return reply
    end
    assert.are.same({ "passed 0 0", "passed 0 1", "counted 1 0" },
      answers("1 wait 0 0", "2 wait 0 0", "3 wait 0 0"))
    assert.are.same({ "passed 1 1", "failed 2 r", "" },
      answers("4 wait 0 1", "5 wait 0 2", "6 reset 0 "))
  end)

  redis.it("takes nothing for usual that is more than an arrival", function()
    local function joined(name)
      local a = caller(name)
      a.call()
      return a
    end
    local beats = joined "usual beat"
    assert.are.equal(0, beats.call("1 wait 0 0", "beat").standing[7])
    local gone = joined "usual gone"
    command { "HSET", gone.key, "a", "i -1 900 0" }
    field(gone.key, "members", 0)
    assert.are.equal(2, gone.call("1 wait 0 0").standing[6])
    local lost = { "failed", 0, "bRedis has lost the barrier" }
    local other = joined "usual epoch"
    other.epoch = other.epoch + 5
    assert.are.same(lost, other.outcome "1 wait 0 0")
    local forgotten = joined "usual answer"
    forgotten.answered, forgotten.low = 1, 2
    assert.are.same(lost, forgotten.outcome "2 wait 0 0")
    local older = joined "usual generation"
    older.known, lost[2] = 3, 3
    assert.are.same(lost, older.outcome "1 wait 0 3")
    local silent = joined "usual silent"
    silent.call "1 wait 1 0"
    silent.answered, silent.low = 1, 2
    silent.call "2 wait 0 0"
    assert.are.equal("i 900 2 1:0:0 2:0:1", silent.record())
  end)

  redis.it("goes by the shortest ttl of those that are there", function()
    local a, b = caller("ttls", "a", 2), caller("ttls", "b", 2)
    a.ttl, b.ttl = 900000, 300
    a.call()
    b.call()
    assert.are.equal(300, field(a.key, "ttl"))
    b.call(nil, "leave")
    field(a.key, "clock", field(a.key, "clock") + 300)
    a.beat()
    assert.are.equal(900000, field(a.key, "ttl"))
  end)

  redis.it("forgets a member long after it is gone", function()
    local a = caller("purge", "a", 2)
    a.call()
    command { "HSET", a.key, "b", "i -1000 900 7" }
    for _, more in ipairs { 0, 2000 } do
      field(a.key, "clock", 20 * 300 + more)
      field(a.key, "ttl", 300)
      field(a.key, "due", 0)
      a.beat()
      assert.are.equal(more == 0 and 1 or 0, command { "HEXISTS", a.key, "b" })
    end
  end)

  redis.it("refuses nobody while all that have seats may have died", function()
    local a, b = caller("doubt", "a", 1), caller("doubt", "b", 1)
    local function refusal()
      local ok, err = pcall(b.call)
      return ok and err[1] or err
    end
    a.ttl, b.ttl = 900000, 900000
    a.call()
    local now = os.time() * 1000
    field(a.key, "seen", now - 899000)
    assert.are.equal("refused", refusal()) -- a beat may come late
    field(a.key, "seen", now - 902000)
    assert.are.equal("TRYAGAIN all 1 seats are taken", refusal())
    assert.are.equal("TRYAGAIN all 1 seats are taken", refusal())
    field(a.key, "clock", field(a.key, "doubt"))
    a.beat()
    assert.are.equal("refused", refusal()) -- it is alive
    field(a.key, "seen", now - 902000)
    assert.are.equal("TRYAGAIN all 1 seats are taken", refusal())
    field(a.key, "clock", field(a.key, "doubt"))
    assert.are.equal("standing", refusal())
  end)

  redis.it("moves the clock of the barrier by a third of ttl at most, and never back", function()
    local a = caller("clock", "a", 1)
    a.call()
    local function clock_after(seen)
      local before = field(a.key, "clock")
      field(a.key, "seen", seen)
      a.beat()
      return field(a.key, "clock") - before
    end
    local now = os.time() * 1000
    assert.are.equal(300, clock_after(now - 3600000))
    assert.are.equal(0, clock_after(now + 3600000))
  end)
end)
