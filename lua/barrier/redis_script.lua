---What Redis runs for each call of a member: it keeps a barrier, and decides.
---
---    KEYS  a hash: the state (JSON), and of each member "INSTANCE LAST N:GENERATION:POSITION ...",
---          the number of its last request, and what was counted of its arrivals
---          the absent and the present (sorted sets): the members that have not arrived in the
---          generation under way, and those that have, by the end of their leases on the barrier's
---          clock; members that are gone are among the absent, by when that was seen less GONE
---    ARGV  member, instance, ttl, parties, run; "PURPOSE EPOCH GENERATION ANSWERED": call, beat or
---          leave, what it has last heard of, or 0, and the highest number that has an answer; and
---          "NUMBER KIND SILENT ARGUMENT" of each request without an outcome, in order
---
---A member without a seat takes one. What is not above LAST was sent before, and is not done again.
---The answer is an array of strings: "refused" or, for good, "replaced" and the reason; or how the
---barrier stands (see `standing`), "WORD GENERATION POSITION|REASON" of each request, and names.
return [=[
local KEY, ABSENT, PRESENT = unpack(KEYS)
local me, instance, ttl, parties = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local run, FIRST, GONE, call = ARGV[5], 7, 1e15, redis.call
local purpose, epoch, known, answered = ARGV[6]:match('^(%a+) (%d+) (%d+) (%d+)$')
epoch, known, answered = tonumber(epoch), tonumber(known), tonumber(answered)

local found = call('HMGET', KEY, '', me)
local s = found[1] and cjson.decode(found[1])
local owner, last, counted = (found[2] or ''):match('^(%S+) (%d+)(.*)$')
last, counted = tonumber(last or 0), counted or ''
local record = {} -- what is to be saved of it

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function members()
  return call('ZCARD', PRESENT) + call('ZCOUNT', ABSENT, 0, '+inf')
end

local function has_lease()
  return tonumber(call('ZSCORE', ABSENT, me) or call('ZSCORE', PRESENT, me) or -1) >= 0
end

local function is_present()
  return counted:find(':' .. s.generation .. ':', 1, true) ~= nil
end

local function renew()
  local from, to = PRESENT, ABSENT
  if is_present() then
    from, to = to, from
  end
  call('ZREM', from, me)
  call('ZADD', to, s.clock + ttl, me)
end

-- The generation under way is over.
local function next_generation(outcome, message)
  s.outcome = members() > 0 and outcome or s.outcome
  call('ZUNIONSTORE', ABSENT, 2, ABSENT, PRESENT)
  call('DEL', PRESENT)
  s.generation, s.count, s.silent, s.free = s.generation + 1, 0, 0, ''
  call('PUBLISH', KEY, message)
end

-- The generation under way fails, or all up to `at`. While the barrier is broken there is none: the
-- first one after the reset fails.
local function fail(reason, at)
  if s.broken == 1 then
    s.after = reason
    if not at then
      return
    end
    reason = s.reason
  end
  local arrival = ' %d+:' .. s.generation .. ':%d+'
  for _, member in ipairs(call('ZRANGE', PRESENT, 0, -1)) do
    call('HSET', KEY, member, (call('HGET', KEY, member):gsub(arrival, '')))
  end
  counted = counted:gsub(arrival, '')
  s.generation = math.max(s.generation, at or 0)
  s.failed, s.reason = s.generation, reason
  next_generation(reason, 'failed')
end

-- The barrier's clock follows the server's, but never far at a time. Leases run out.
local function tick()
  local time = now()
  s.clock = s.clock + math.max(0, math.min(time - s.seen, math.floor(s.ttl / 3)))
  s.seen = time
  local dead = call('ZRANGEBYSCORE', ABSENT, 0, s.clock)
  for _, member in ipairs(call('ZRANGEBYSCORE', PRESENT, 0, s.clock)) do
    dead[#dead + 1] = member
  end
  local n = #dead
  if n > 0 then
    local others = n > 9 and n - 8 .. ' others' or dead[n]
    fail('b' .. (n == 1 and dead[1] .. ' is gone' or table.concat(dead, ', ', 1,
      math.min(n - 1, 8)) .. ' and ' .. others .. ' are gone'))
  end
  for _, member in ipairs(dead) do
    call('ZADD', ABSENT, s.clock - GONE, member)
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', ABSENT, '-inf', s.clock - GONE - 20 * s.ttl)) do
    call('ZREM', ABSENT, member)
    call('HDEL', KEY, member)
  end
end

-- Gives this member a seat, or says why not.
local function take_seat()
  local leased = has_lease()
  local others = members() - (leased and 1 or 0)
  if owner and owner ~= instance and epoch > 0 then
    return { 'replaced', 'another process is ' .. me .. ' now' }
  elseif others > 0 and parties ~= s.parties then
    return { 'refused', ('parties is %d for the others, not %d'):format(s.parties, parties) }
  elseif others > 0 and run ~= s.run then
    local other = s.run == '' and 'a run without a name' or 'run ' .. s.run
    return { 'refused', other .. ' is under way' }
  elseif others >= parties and not leased then
    return { 'refused', 'all ' .. parties .. ' seats are taken' }
  elseif others == 0 and run == s.run and run ~= '' and s.outcome ~= '' and not leased then
    return { 'refused', s.outcome:match('^b(.*)$') or 'run ' .. run .. ' is over' }
  elseif leased and owner ~= instance then
    fail('b' .. me .. ' has been restarted')
  end
  s.outcome, s.ttl = run == s.run and s.outcome or '', others > 0 and math.min(s.ttl, ttl) or ttl
  s.parties, s.run = parties, run
  if owner ~= instance then
    last, counted = 0, ''
  end
end

-- Fails the generation if Redis has lost what this member knows, or was lost since then.
local function compare()
  local lost = epoch > s.epoch or epoch == s.epoch and (known > s.generation or last < answered)
  local is_older = epoch > 0 and epoch ~= s.epoch and known > s.failed
  s.epoch = lost and math.max(now(), epoch + 1) or s.epoch
  if lost or is_older then
    fail('bRedis has lost the barrier', known)
  end
  last = math.max(last, answered)
end

-- What becomes of a request, by its kind: a word, a generation, and a position or reason. `belief`
-- is the generation that the member takes for the one under way.
local REQUESTS = {}

function REQUESTS.wait(number, silent, belief, is_new)
  if is_new and s.broken == 0 and tonumber(belief) > s.failed then
    local position, free = s.free:match('^(%d+),(.*)$')
    counted = ('%s %d:%d:%d'):format(counted, number, s.generation, position or s.count)
    s.free, s.count, s.silent = free or '', s.count + 1, s.silent + silent
    if s.count == parties then
      next_generation('o', s.epoch .. ' ' .. s.generation)
    end
  end
  local generation, position = counted:match(' ' .. number .. ':(%d+):(%d+)')
  if not generation then
    return 'failed', s.failed, s.reason
  end
  return tonumber(generation) < s.generation and 'passed' or 'counted', generation, position
end

-- Its time has passed: it waits no longer, unless it has been the last to arrive.
function REQUESTS.withdraw(number, silent, belief, is_new)
  local word, generation, value = REQUESTS.wait(number, silent, belief, is_new)
  if word == 'passed' or word == 'failed' and s.failed >= tonumber(belief) then
    return word, generation, value
  elseif word == 'counted' then
    counted = counted:gsub(' ' .. number .. ':%d+:%d+', '')
    s.count, s.silent, s.free = s.count - 1, s.silent - silent, s.free .. value .. ','
  end
  return 'withdrawn'
end

function REQUESTS.cancel(number, silent, belief)
  return REQUESTS.withdraw(number, silent, belief)
end

function REQUESTS.abort(_, _, reason, is_new)
  if is_new and s.broken == 0 then
    fail(reason)
    s.broken = 1
  end
  return 'done'
end

function REQUESTS.reset(_, _, _, is_new)
  local reason = s.broken == 1 and s.after or s.count > 0 and 'r' or ''
  if is_new then
    s.broken, s.after = 0, ''
    if reason ~= '' then
      fail(reason)
    end
  end
  return 'done'
end

local function leave()
  call('ZREM', ABSENT, me)
  call('ZREM', PRESENT, me)
  call('HDEL', KEY, me)
  if members() > 0 or s.count > 0 then
    fail('b' .. me .. ' has left')
  end
  return { 'left' }
end

-- How the barrier stands: "EPOCH GENERATION ARRIVED WAITING BROKEN", and for a beat " EMPTY ABSENT",
-- the numbers of empty seats and of other members that have not arrived, and names after the rest.
local function standing(answer, is_beat)
  answer[1] = table.concat({ s.epoch, s.generation, s.count, s.count - s.silent, s.broken }, ' ')
  if is_beat then
    local absent = call('ZCOUNT', ABSENT, 0, '+inf')
    answer[1] = answer[1] .. ' ' .. s.parties - absent - call('ZCARD', PRESENT) .. ' '
      .. (is_present() and absent or absent - 1)
    for _, name in ipairs(call('ZRANGEBYSCORE', ABSENT, 0, '+inf', 'LIMIT', 0, 9)) do
      answer[#answer + 1] = name
    end
  end
  return answer
end

local function serve(is_seated, is_beat)
  if is_seated and is_beat then
    renew()
  end
  if is_beat then
    tick()
  end
  local refused = not is_seated and take_seat()
  if refused then
    return refused
  end
  compare()
  local answer, low = { '' }, answered + 1
  for i = FIRST, #ARGV do
    local number, kind, silent, argument = ARGV[i]:match('^(%d+) (%a+) (%d) (.*)$')
    number = tonumber(number)
    answer[#answer + 1] = table.concat({ REQUESTS[kind](number, silent, argument, number > last) }, ' ')
    last, low = math.max(last, number), math.min(low, number)
  end
  if purpose == 'leave' then
    return leave()
  end
  counted = counted:gsub(' (%d+):(%d+):%d+', function(number, generation)
    return tonumber(number) < low and tonumber(generation) < s.generation and '' or nil
  end)
  record = { me, ('%s %d%s'):format(instance, last, counted) }
  renew()
  return standing(answer, is_beat)
end

local is_seated = owner == instance and has_lease()
if purpose == 'leave' and not is_seated then
  return { 'left' }
elseif not s then
  call('DEL', unpack(KEYS))
  s = { epoch = math.max(now(), epoch + 1), generation = 0, failed = -1, parties = parties, run = run,
    count = 0, silent = 0, free = '', broken = 0, after = '', reason = '', outcome = '',
    clock = 0, seen = 0, ttl = ttl }
end
local is_beat = purpose == 'beat' or not is_seated
local answer = serve(is_seated, is_beat)
call('HSET', KEY, '', cjson.encode(s), unpack(record))
if is_beat or s.count < 2 then
  for _, key in ipairs(KEYS) do -- by Redis' own clock, which may jump
    call('PEXPIRE', key, math.max(20 * s.ttl, 7200000))
  end
end
return answer
]=]
