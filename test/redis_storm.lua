---Processes that meet at a barrier of barrier.redis, while members are killed, stopped and
---restarted, connections cut, and Redis is paused, killed and started again. Every member that
---learns what a generation came to has to learn the same.
---
---    lua test/redis_storm.lua [SECONDS [PARTIES]]
local uv = require "luv"
local redis = require "spec.redis_support"

local TTL = 1500

local Storm = {}
Storm.__index = Storm

function Storm:start(i)
  local member = redis.lua({}, "test/redis_member.lua", self.server.url, "storm", self.parties,
    "m" .. i, TTL)
  member.at = 1
  self.members[i] = member
end

---Notes the outcomes that the members have printed since.
function Storm:read()
  for i, member in pairs(self.members) do
    for line, after in member.out:sub(member.at):gmatch "([^\n]*)\n()" do
      local key, rest = line:match "^(%S+) (.*)$"
      local position = tonumber(rest)
      if position or not rest:find "Redis has not answered" and not rest:find "seats are taken"
        and not rest:find "another process" then
        self.checker:note("m" .. i, key, position, rest)
      end
      member.read = after - 1
    end
    member.at, member.read = member.at + (member.read or 0), nil
    if member.err ~= "" then
      self.checker:problem("m" .. i, member.err)
    end
  end
end

local FAULTS = {}

function FAULTS:kill(i)
  self.members[i].process:kill "sigkill"
  self:read()
  redis.run_out(self.members[i])
  self:read()
  redis.run_for(math.random(0, 2 * TTL))
  self:start(i)
end

---Restarted before the others can know that it is dead.
function FAULTS:restart(i)
  local old = self.members[i]
  self:read()
  self:start(i)
  redis.run_for(200)
  old.process:kill "sigkill"
  redis.run_out(old)
end

function FAULTS:stop(i)
  self.members[i].process:kill "sigstop"
  redis.run_for(math.random(TTL / 2, 3 * TTL))
  self.members[i].process:kill "sigcont"
end

function FAULTS:cut()
  self.server:cli("client", "kill", "type", "pubsub")
end

function FAULTS:pause()
  self.server:cli("client", "pause", tostring(math.random(100, 2 * TTL)))
end

function FAULTS:crash()
  self.server:kill()
  redis.run_for(math.random(0, 500))
  self.server:start()
end

local KINDS = { "kill", "restart", "stop", "cut", "cut", "cut", "pause", "crash" }

---@return table checker
---@return table<string, integer> counts of faults
local function storm(seconds, parties)
  local self = setmetatable({
    parties = parties, members = {}, checker = redis.checker(parties),
    server = redis.server { "--appendonly", "yes", "--appendfsync", "always" },
  }, Storm)
  for i = 1, parties do
    self:start(i)
  end
  local counts = {}
  local till = uv.hrtime() + seconds * 1e9
  while uv.hrtime() < till do
    redis.run_for(math.random(50, 600))
    local kind = KINDS[math.random(#KINDS)]
    counts[kind] = (counts[kind] or 0) + 1
    FAULTS[kind](self, math.random(parties))
    self:read()
  end
  local passed = self.checker.passed
  redis.run_until(function()
    uv.run "once"
    self:read()
    return self.checker.passed >= passed + 3 * parties
  end, "all go on meeting after the storm")
  for _, member in pairs(self.members) do
    member.process:kill "sigkill"
    redis.run_out(member)
  end
  self.server:close()
  return self.checker, counts
end

if not (arg and tostring(arg[0]):find "redis_storm") then
  return storm
end

math.randomseed(os.time())
local checker, counts = storm(tonumber(arg[1] or 300), tonumber(arg[2] or 20))
local faults = {}
for kind, n in pairs(counts) do
  faults[#faults + 1] = n .. " " .. kind
end
table.sort(faults)
print(("%d passed, %d failed; faults: %s"):format(checker.passed, checker.failed,
  table.concat(faults, ", ")))
for i = 1, math.min(20, #checker.problems) do
  print("PROBLEM", checker.problems[i])
end
os.exit(#checker.problems == 0 and checker.passed > 0 and 0 or 1)
