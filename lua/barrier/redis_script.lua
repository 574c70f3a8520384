---What Redis runs for each call of a member: it keeps a barrier, and decides. The key is a hash.
---Its field '' is the state; a member's is "INSTANCE LEASE TTL LAST N:GENERATION:POSITION ...":
---when its lease ends on the barrier's clock, or after a minus when that was noticed; the number of
---its last request; and what was counted of its arrivals.
---
---ARGV: member, instance, ttl, parties, run; "PURPOSE EPOCH GENERATION ANSWERED LOW": call, beat or
---leave; what it has last heard of, or 0; the highest number that has an answer, and the lowest
---without an outcome; and "NUMBER KIND SILENT ARGUMENT" of each request, in order.
---
---A member without a seat takes one. What is not above LAST was sent before, and is not done again.
---The answer is an array of strings: "refused" or, for good, "replaced" and the reason; or how the
---barrier stands (see `standing`), "WORD GENERATION POSITION|REASON" of each request, and names.
return [=[
local KEY, FIRST, call = KEYS[1], 7, redis.call
local me, instance, parties = ARGV[1], ARGV[2], tonumber(ARGV[4])
local purpose, epoch, known, answered, low = ARGV[6]:match('^(%a+) (%d+) (%d+) (%d+) (%d+)$')
epoch, known, answered, low = tonumber(epoch), tonumber(known), tonumber(answered), tonumber(low)

local found = call('HMGET', KEY, '', me)
local owner, lease, last, counted = (found[2] or ''):match('^(%S+) (%S+) %d+ (%d+)(.*)$')
lease, last, counted = tonumber(lease or -1), tonumber(last or 0), counted or ''
local is_seated = owner == instance and lease >= 0

-- The state begins with what the usual call needs: epoch, generation, failed, count, silent, and 1
-- unless it is broken or has free positions. Then all of it follows, as the last call left it that
-- was not usual.
local HEAD = '>dddddd'

-- The usual call has to be fast: one party arrives and is counted, what was counted before has
-- passed, and there is nothing else to do.
if is_seated and found[1] and purpose == 'call' and #ARGV == FIRST then
  local at, generation, failed, count, silent, is_plain, rest = struct.unpack(HEAD, found[1])
  local number, quiet, belief = ARGV[FIRST]:match('^(%d+) wait (%d) (%d+)$')
  local before, passed = counted:match('^ (%d+):(%d+):%d+$')
  if number and is_plain == 1 and epoch == at and known <= generation and answered <= last
    and tonumber(number) > last and tonumber(belief) > failed and (counted == ''
      or before and tonumber(before) < low and tonumber(passed) < generation) then
    local word, answer = 'counted', (' %d %d'):format(generation, count)
    counted = (' %s:%d:%d'):format(number, generation, count)
    count, silent = count + 1, silent + quiet
    if count == parties then
      call('PUBLISH', KEY, ('%.0f %d '):format(at, generation))
      word, generation, count, silent = 'passed', generation + 1, 0, 0
    end
    call('HSET', KEY, me, ('%s %d %s %s%s'):format(instance, lease, ARGV[3], number, counted), '',
      struct.pack(HEAD, at, generation, failed, count, silent, 1) .. found[1]:sub(rest))
    return { ('%.0f %d %d %d 0'):format(at, generation, count, count - silent), word .. answer }
  end
end

local ttl, run = tonumber(ARGV[3]), ARGV[5]
local s
if found[1] then
  local _, generation, _, count, silent, _, rest = struct.unpack(HEAD, found[1])
  s = cmsgpack.unpack(found[1]:sub(rest))
  s.outcome = generation > s.generation and 'o' or s.outcome -- those in between have passed
  s.generation, s.count, s.silent = generation, count, silent
end

local function save(member, holder, till, rest)
  call('HSET', KEY, member, ('%s %d%s'):format(holder, till, rest))
end

-- Calls f for each member that is recorded.
local function each(f)
  local all = call('HGETALL', KEY)
  for i = 1, #all, 2 do
    if all[i] ~= '' then
      local holder, till, rest = all[i + 1]:match('^(%S+) (%S+)(.*)$')
      f(all[i], holder, tonumber(till), rest)
    end
  end
end

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The generation under way is over: it has failed for a reason, or passed.
local function next_generation(reason)
  call('PUBLISH', KEY, s.epoch .. ' ' .. s.generation .. ' ' .. (reason or ''))
  s.outcome = s.members > 0 and (reason or 'o') or s.outcome
  s.generation, s.count, s.silent, s.free = s.generation + 1, 0, 0, ''
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
  if s.count > 0 then
    each(function(member, holder, till, rest)
      local without, n = rest:gsub(arrival, '')
      if n > 0 then
        save(member, holder, till, without)
      end
    end)
  end
  counted = counted:gsub(arrival, '')
  s.generation = math.max(s.generation, at or 0)
  s.failed, s.reason = s.generation, reason
  next_generation(reason)
end

-- The barrier's clock follows the server's, but never far at a time. At `due` a lease may have run
-- out: then all are looked at. After a long silence it is in doubt who is still there.
local function tick()
  local time = now()
  local passed = time - s.seen
  s.clock = s.clock + math.max(0, math.min(passed, math.floor(s.ttl / 3)))
  s.seen, s.doubt = time, passed > s.ttl and s.clock + s.ttl or s.doubt
  if s.clock < s.due then
    return
  end
  local dead, shortest = {}, nil
  s.due = s.clock + s.ttl
  each(function(member, holder, till, rest)
    if till > s.clock then
      local its = tonumber(rest:match('%d+'))
      s.due, shortest = math.min(s.due, till), math.min(shortest or its, its)
    elseif till >= 0 and member ~= me then
      dead[#dead + 1] = member
      save(member, holder, -1 - s.clock, rest)
    elseif till < 0 and -till < s.clock - 20 * s.ttl then
      call('HDEL', KEY, member)
    end
  end)
  local n = #dead
  s.members, s.ttl = s.members - n, shortest or s.ttl
  table.sort(dead)
  if n > 0 then
    local others = n > 9 and n - 8 .. ' others' or dead[n]
    fail('b' .. (n == 1 and dead[1] .. ' is gone' or table.concat(dead, ', ', 1,
      math.min(n - 1, 8)) .. ' and ' .. others .. ' are gone'))
  end
end

-- Says why a member gets no seat, unless those that have theirs may all have died.
local function refuse(reason)
  return s.clock < s.doubt and { err = 'TRYAGAIN ' .. reason } or { 'refused', reason }
end

-- Gives this member a seat, or says why not.
local function take_seat()
  local leased = lease >= 0
  local others = s.members - (leased and 1 or 0)
  if owner and owner ~= instance and epoch > 0 then
    return { 'replaced', 'another process is ' .. me .. ' now' }
  elseif others > 0 and parties ~= s.parties then
    return refuse(('parties is %d for the others, not %d'):format(s.parties, parties))
  elseif others > 0 and run ~= s.run then
    local other = s.run == '' and 'a run without a name' or 'run ' .. s.run
    return refuse(other .. ' is under way')
  elseif others >= parties and not leased then
    return refuse('all ' .. parties .. ' seats are taken')
  elseif others == 0 and run == s.run and run ~= '' and s.outcome ~= '' and not leased then
    return { 'refused', s.outcome:match('^b(.*)$') or 'run ' .. run .. ' is over' }
  elseif leased and owner ~= instance then
    fail('b' .. me .. ' has been restarted')
  end
  s.outcome, s.ttl = run == s.run and s.outcome or '', others > 0 and math.min(s.ttl, ttl) or ttl
  s.parties, s.run, s.members = parties, run, others + 1
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

-- What becomes of a request, by its kind: a word, a generation, and a position or reason; or
-- nothing. `belief` is the generation that the member takes for the one under way.
local REQUESTS = {}

function REQUESTS.wait(number, silent, belief, is_new)
  if is_new and s.broken == 0 and tonumber(belief) > s.failed then
    local position, free = s.free:match('^(%d+),(.*)$')
    counted = ('%s %d:%d:%d'):format(counted, number, s.generation, position or s.count)
    s.free, s.count, s.silent = free or '', s.count + 1, s.silent + silent
    if s.count == parties then
      next_generation()
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

REQUESTS.cancel = REQUESTS.withdraw -- `serve` does not let it arrive

function REQUESTS.abort(_, _, reason, is_new)
  if is_new and s.broken == 0 then
    fail(reason)
    s.broken = 1
  end
end

function REQUESTS.reset(_, _, _, is_new)
  local reason = s.broken == 1 and s.after or s.count > 0 and 'r' or ''
  if is_new then
    s.broken, s.after = 0, ''
    if reason ~= '' then
      fail(reason)
    end
  end
end

-- The number of others that have not arrived, and nine names; of a crowd these are kept a while.
local function absent()
  local list, mark = s.absent, ':' .. s.generation .. ':'
  if not list or list[1] ~= s.generation or s.clock - list[2] >= s.ttl / 10 then
    list = { s.generation, s.clock, 0 }
    each(function(member, _, till, rest)
      if till >= 0 and not rest:find(mark, 1, true) then
        list[3] = list[3] + 1
        list[#list + 1] = #list < 12 and member or nil
      end
    end)
    s.absent = s.members > 64 and list or nil
  end
  return math.max(0, list[3] - (counted:find(mark, 1, true) and 0 or 1)), unpack(list, 4)
end

-- How the barrier stands: "EPOCH GENERATION ARRIVED WAITING BROKEN"; of a beat also "EMPTY ABSENT",
-- the numbers of empty seats and of others that have not arrived, and names after the requests.
local function standing(answer, is_beat)
  answer[1] = table.concat({ s.epoch, s.generation, s.count, s.count - s.silent, s.broken }, ' ')
  if is_beat then
    local names = { absent() }
    answer[1] = answer[1] .. ' ' .. s.parties - s.members .. ' ' .. names[1]
    for i = 2, #names do
      answer[#answer + 1] = names[i]
    end
    call('PEXPIRE', KEY, math.max(20 * s.ttl, 7200000)) -- by Redis' own clock, which may jump
  end
  return answer
end

local function serve(is_beat)
  local answer = { '' }
  for pass = 1, 2 do -- the second one tells waits what those after them have brought about
    for i = FIRST, #ARGV do
      local number, kind, silent, argument = ARGV[i]:match('^(%d+) (%a+) (%d) (.*)$')
      number = tonumber(number)
      if pass == 1 or kind == 'wait' then
        answer[i - FIRST + 2] = table.concat({ REQUESTS[kind](number, silent, argument,
          number > last and kind ~= 'cancel') }, ' ')
      end
      last = math.max(last, number)
    end
  end
  counted = counted:gsub(' (%d+):(%d+):%d+', function(number, generation)
    return tonumber(number) < low and tonumber(generation) < s.generation and '' or nil
  end)
  if purpose == 'leave' then
    call('HDEL', KEY, me)
    s.members = s.members - 1
    if s.members > 0 or s.count > 0 then
      fail('b' .. me .. ' has left')
    end
    return { 'left' }
  end
  s.due = math.min(s.due, s.clock + ttl)
  save(me, instance, s.clock + ttl, (' %d %d%s'):format(ttl, last, counted))
  return standing(answer, is_beat)
end

local is_beat = purpose == 'beat' or not is_seated
if purpose == 'leave' and not is_seated then
  return { 'left' }
elseif not s then
  call('DEL', KEY)
  s = { epoch = math.max(now(), epoch + 1), generation = 0, failed = -1, count = 0, silent = 0,
    free = '', broken = 0, after = '', reason = '', outcome = '', parties = parties, run = run,
    members = 0, clock = 0, seen = now(), doubt = 0, due = 0, ttl = ttl }
end
if is_beat then
  tick()
end
local answer = not is_seated and take_seat()
if not answer then
  compare()
  answer = serve(is_beat)
end
call('HSET', KEY, '', struct.pack(HEAD, s.epoch, s.generation, s.failed, s.count, s.silent,
  s.broken == 0 and s.free == '' and 1 or 0) .. cmsgpack.pack(s))
return answer
]=]
