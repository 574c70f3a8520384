---What Redis runs for each request of a member: it keeps a barrier, and decides.
---
---    KEYS  the state (a hash)
---          the leases (a sorted set): member, the end of its lease on the barrier's clock; of one
---          that is gone when that was seen, less GONE
---          the records (a hash): member, "INSTANCE LAST N:GENERATION:POSITION ...", after a minus
---          if it is gone; LAST is the number of its last request, each N that of an arrival
---    ARGV  member, instance, ttl, request, epoch, generation, number, low, and more
---
---`generation` is the highest that the member has heard of. A request that changes something has
---the number 1, 2, 3 ...: a number that is known already changes nothing again. The member has the
---outcomes of all numbers below `low`.
return [=[
local KEY, LEASES, RECORDS = unpack(KEYS)
local me, instance, ttl, request = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local known, number, low = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local GONE = 1e15
local call = redis.call

-- The state. The fields after `free` are texts, and are read where they are needed.
local FIELDS = { 'generation', 'failed', 'parties', 'count', 'silent', 'clock', 'seen', 'ttl',
  'broken', 'epoch', 'free' }
local s = {}
for i, value in ipairs(call('HMGET', KEY, unpack(FIELDS))) do
  s[FIELDS[i]] = i < 10 and tonumber(value) or value
end

local function text(field)
  return call('HGET', KEY, field) or ''
end

local function set(...)
  call('HSET', KEY, ...)
  for i = 1, select('#', ...), 2 do
    local field, value = select(i, ...)
    s[field] = value
  end
end

-- What is recorded of this member.
local record = call('HGET', RECORDS, me) or ''
local gone, owner, last, entries = record:match('^(%-?)(%S+) (%d+)(.*)$')
last = tonumber(last)

if request ~= 'join' and not (owner == instance and gone == '' and ARGV[5] == s.epoch
    and known <= s.generation and number <= last + 1) then
  if s.epoch and owner and owner ~= instance then
    return { 'replaced' }
  end
  return { request == 'leave' and 'left' or 'join' }
end

local function members()
  return call('ZCOUNT', LEASES, 0, '+inf')
end

local function save()
  call('HSET', RECORDS, me, instance .. ' ' .. last .. entries)
end

local function publish(generation, reason)
  call('PUBLISH', KEY, s.epoch .. ' ' .. generation .. reason)
end

-- The generation under way fails, or all up to `at`. While the barrier is broken there is none: the
-- first one after the reset fails.
local function fail(reason, at)
  if s.broken == 1 then
    set('after', reason)
    if not at then
      return
    end
    reason = text('reason')
  end
  if s.count > 0 then
    local all, pattern = call('HGETALL', RECORDS), ' %d+:' .. s.generation .. ':%d+'
    for i = 1, #all, 2 do
      local rest, n = all[i + 1]:gsub(pattern, '')
      if n > 0 then
        call('HSET', RECORDS, all[i], rest)
      end
    end
    entries = (entries or ''):gsub(pattern, '')
  end
  local failed = math.max(s.generation, at or 0)
  set('failed', failed, 'reason', reason, 'generation', failed + 1, 'count', 0, 'silent', 0,
    'free', '')
  if members() > 0 then
    set('outcome', reason)
  end
  publish(failed, ' ' .. reason)
end

-- What number n has come to, counted or not.
local function outcome(n)
  local generation, position = entries:match(' ' .. n .. ':(%d+):(%d+)')
  generation, position = tonumber(generation), tonumber(position)
  local epoch = tonumber(s.epoch)
  if not generation then
    return { 'failed', epoch, s.failed, text('reason') }
  elseif generation < s.generation then
    return { 'passed', epoch, generation, position }
  end
  return { 'counted', epoch, generation, position, s.count, s.count - s.silent }
end

local new = request ~= 'join' and number == last + 1
if new then
  last = number
end
if low > 1 and entries then
  entries = entries:gsub(' (%d+):(%d+):%d+', function(n, generation)
    return tonumber(n) < low and tonumber(generation) < s.generation and '' or nil
  end)
end
local belief = tonumber(ARGV[9]) -- which generation the member takes for the one under way

if request == 'wait' or request == 'arrive' then
  if new and s.broken == 0 and belief > s.failed then
    local free, position = s.free:match('^(.*) (%d+)$')
    entries = entries .. ' ' .. number .. ':' .. s.generation .. ':' .. (position or s.count)
    if s.count + 1 == s.parties then
      publish(s.generation, '')
      set('generation', s.generation + 1, 'count', 0, 'silent', 0, 'outcome', 'o')
    else
      set('count', s.count + 1)
      if free then
        set('free', free)
      end
      if request == 'arrive' then
        set('silent', s.silent + 1)
      end
    end
  end
  save()
  return outcome(number)
end

-- Fails it for those whose leases have run out.
local function expire()
  local dead = call('ZRANGEBYSCORE', LEASES, 0, s.clock)
  for _, member in ipairs(dead) do
    call('ZADD', LEASES, s.clock - GONE, member)
    call('HSET', RECORDS, member, '-' .. (call('HGET', RECORDS, member) or ''))
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', s.clock - GONE - 20 * s.ttl)) do
    call('ZREM', LEASES, member)
    call('HDEL', RECORDS, member)
  end
  local n = #dead
  if n == 1 then
    fail('b' .. dead[1] .. ' is gone')
  elseif n > 1 then
    local more = n > 8 and n - 8 .. (n == 9 and ' other' or ' others') or dead[n]
    fail('b' .. table.concat(dead, ', ', 1, math.min(n - 1, 8)) .. ' and ' .. more .. ' are gone')
  end
end

local function renew()
  call('ZADD', LEASES, s.clock + ttl, me)
end

-- The barrier's clock follows the server's, but never far at a time.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function tick()
  local step = math.min(now - s.seen, math.floor(s.ttl / 3))
  set('clock', s.clock + math.max(step, 0), 'seen', now)
  if owner == instance and gone == '' then
    renew()
  end
  expire()
end

-- The members that have not arrived: after two more items their number, and nine of them. For a
-- crowd that is kept for a while.
local function missing()
  local kept = text('missing')
  local list = kept ~= '' and cmsgpack.unpack(kept)
  if list and list[1] == s.generation and s.clock - list[2] < s.ttl / 10 then
    return list
  end
  list = { s.generation, s.clock, 0 }
  local mark = ':' .. s.generation .. ':'
  local all = call('ZRANGEBYSCORE', LEASES, 0, '+inf')
  for from = 1, #all, 1000 do
    local some = { unpack(all, from, math.min(from + 999, #all)) }
    for i, found in ipairs(call('HMGET', RECORDS, unpack(some))) do
      if not (found and found:find(mark, 1, true)) then
        list[3] = list[3] + 1
        list[#list + 1] = #list < 12 and some[i] or nil
      end
    end
  end
  if #all > 64 then
    set('missing', cmsgpack.pack(list))
  end
  return list
end

local function standing(kind, wanted)
  for _, key in ipairs(KEYS) do -- by Redis' own clock, which may jump
    call('PEXPIRE', key, math.max(20 * s.ttl, 7200000))
  end
  return { kind, tonumber(s.epoch), s.generation, s.count, s.count - s.silent, s.broken,
    s.parties - members(), unpack(wanted and missing() or { 0, 0, 0 }, 3) }
end

-- {=== joining ===

local function new_epoch()
  return string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(ARGV[5]) + 1))
end

local function refusal(parties, run, others, leased)
  if others == 0 then
    local ended = run ~= '' and run == text('run') and not leased and text('outcome') or ''
    return ended ~= '' and (ended:match('^b(.*)$') or 'run ' .. run .. ' is over')
  elseif parties ~= s.parties then
    return ('parties is %d for the others, not %d'):format(s.parties, parties)
  elseif run ~= text('run') then
    local other = text('run')
    return (other == '' and 'a run without a name' or 'run ' .. other) .. ' is under way'
  end
  return not leased and others >= s.parties and 'all ' .. s.parties .. ' seats are taken'
end

if request == 'join' then
  local parties, run, first = tonumber(ARGV[9]), ARGV[10], ARGV[11] == '1'
  if not s.epoch then
    call('DEL', KEY, LEASES, RECORDS)
    set('epoch', new_epoch(), 'generation', 0, 'failed', -1, 'parties', 0, 'count', 0, 'silent', 0,
      'clock', 0, 'seen', now, 'ttl', ttl, 'broken', 0, 'free', '')
    owner = nil
  end
  tick()
  local leased = tonumber(call('ZSCORE', LEASES, me) or -1) >= 0
  local others = members() - (leased and 1 or 0)
  if owner and owner ~= instance and not first then
    return { 'replaced' }
  end
  local refused = refusal(parties, run, others, leased)
  if refused then
    return { 'refused', refused }
  elseif others == 0 then
    set('ttl', ttl, 'outcome', run == text('run') and text('outcome') or '')
  end
  set('parties', parties, 'run', run, 'ttl', math.min(s.ttl, ttl))
  if leased and owner ~= instance then
    fail('b' .. me .. ' has been restarted')
  end
  local epoch = tonumber(ARGV[5])
  local behind = epoch > tonumber(s.epoch) or ARGV[5] == s.epoch and (known > s.generation
    or not first and (not owner or last < number))
  if behind then
    set('epoch', new_epoch())
  end
  if behind or epoch > 0 and ARGV[5] ~= s.epoch and known > s.failed then
    fail('bRedis has lost the barrier', known)
  end
  last = math.max(owner == instance and last or 0, number) -- the highest that was answered
  entries = owner == instance and entries or ''
  renew()
  save()
  return standing('state', true)
end

-- }===

if request == 'beat' then
  tick()
  return standing('state', ARGV[9] == '1')

elseif request == 'withdraw' then
  local n = ARGV[10]
  local result = outcome(n)
  if result[1] == 'counted' then
    entries = entries:gsub(' ' .. n .. ':%d+:%d+', '')
    set('count', s.count - 1, 'free', s.free .. ' ' .. result[4])
    if ARGV[11] == 'arrive' then
      set('silent', s.silent - 1)
    end
  elseif result[1] == 'passed' or s.failed >= belief then
    save()
    return result
  end
  save()
  return standing('withdrawn', true)

elseif request == 'abort' then
  if new and s.broken == 0 then
    fail(ARGV[9])
    set('broken', 1)
  end

elseif request == 'reset' then
  local after = text('after')
  if new and s.broken == 1 then
    set('broken', 0, 'after', '')
    if after ~= '' then
      fail(after)
    end
  elseif new and s.count > 0 then
    fail('r')
  end

elseif request == 'leave' then
  call('ZREM', LEASES, me)
  call('HDEL', RECORDS, me)
  if members() > 0 or s.count > 0 then
    fail('b' .. me .. ' has left')
  end
  return { 'left' }
end
save()
return { 'done' }
]=]
