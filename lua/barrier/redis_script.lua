---What Redis runs for each request of a member: it keeps a barrier, and decides.
---
---    KEYS  the state (a hash), the leases (a sorted set: member, end of its lease), the arrivals
---          (a hash: member, "instance last number:generation:position ..."), the positions that
---          were given back (a list), the members that are gone (a sorted set: member, when)
---    ARGV  member, instance, ttl, request, epoch, generation, number, low, and more
---
---`generation` is the highest that the member has heard of. Requests that change something have
---the numbers 1, 2, 3 ...: a number that is known already is not counted again. The member needs
---no outcome of a number below `low` any more.
return [[
local KEY, LEASES, ARRIVALS, FREE, GONE = unpack(KEYS)
local me, instance, ttl, request = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local epoch, known = tonumber(ARGV[5]), tonumber(ARGV[6])
local number, low = tonumber(ARGV[7]), tonumber(ARGV[8])
local call = redis.call
local NUMBERS = { 'epoch', 'generation', 'failed', 'parties', 'count', 'freed', 'silent', 'clock',
  'seen', 'touched', 'earliest', 'ttl', 'broken' }

local function text(n)
  return type(n) == 'number' and string.format('%.0f', n) or n
end

-- The state. The texts in it are read when they are needed.
local before, s = {}, {}
local read = call('HMGET', KEY, unpack(NUMBERS))
for i = 1, #NUMBERS do
  local field, value = NUMBERS[i], tonumber(read[i] or nil)
  before[field], s[field] = value, value
end
setmetatable(s, { __index = function(_, field)
  local value = call('HGET', KEY, field) or ''
  before[field], s[field] = value, value
  return value
end })
if s.epoch == '' and request ~= 'join' then
  return { 'join' }
end

-- The barrier's clock follows the server's, but never far at a time.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if s.epoch == '' then
  call('DEL', KEY, LEASES, ARRIVALS, FREE, GONE)
  s = { epoch = math.max(time[1] * 1000000 + time[2], epoch + 1), generation = 0, failed = -1,
    parties = 0, count = 0, freed = 0, silent = 0, clock = 0, seen = now, touched = 0,
    earliest = 0, ttl = ttl, broken = 0, reason = '', aborted = '', after = '', run = '',
    outcome = '', list = '', listed = '0' }
end
local step = now - s.seen
if step < 0 or step >= 5 then
  s.clock = s.clock + math.max(0, math.min(step, math.floor(s.ttl / 3)))
  s.seen = now
end

-- What is recorded of this member; `last` is nil if it has no seat.
local record, last = call('HGET', ARRIVALS, me) or '', nil
local owner, numbered, entries = record:match('^(%S+) (%d+)(.*)$')
local leased = call('ZSCORE', LEASES, me)
if owner == instance then
  last = tonumber(numbered)
end
if request ~= 'join' then
  if owner and owner ~= instance then
    return { 'replaced' }
  elseif not last or not leased or epoch ~= s.epoch or known > s.generation then
    return { request == 'leave' and 'left' or 'join' }
  end
end

-- The usual arrival, where nothing else is to be done: it takes half the time of what follows.
if request == 'wait' and number == last + 1 and low == number and step >= 0 and step < 5
  and s.broken == 0 and s.freed == 0 and tonumber(ARGV[9]) > s.failed and s.clock < s.earliest
  and tonumber(leased) >= s.clock + ttl * 0.95 and math.abs(now - s.touched) <= s.ttl
  and not entries:find(':' .. read[2] .. ':', 1, true) then
  local position, count = string.format('%d', s.count), string.format('%d', s.count + 1)
  local where = ARGV[5] .. ' ' .. read[2]
  call('HSET', ARRIVALS, me, table.concat({ instance, ' ', ARGV[7], ' ', ARGV[7], ':', read[2], ':',
    position }))
  if count == read[4] then
    call('HSET', KEY, 'generation', text(s.generation + 1), 'count', 0, 'silent', 0, 'outcome', 'o')
    call('PUBLISH', KEY, where)
    return 'passed ' .. where .. ' ' .. position
  end
  call('HSET', KEY, 'count', count)
  return table.concat({ 'counted', where, position, count, s.count + 1 - s.silent }, ' ')
end

local LOST = 'bRedis has lost the barrier'
local news = {} -- what is published

-- By Redis' own clock, which may jump an hour: two hours at least.
local function expire_later(key)
  call('PEXPIRE', key, text(math.max(20 * s.ttl, 7200000)))
end

-- The generation under way fails, or all up to `at`. While the barrier is broken there is none:
-- the first fails after the reset.
local function fail(reason, at)
  if s.broken == 1 and reason ~= s.aborted then
    s.after, reason = reason, at and s.aborted
    if not reason then
      return
    end
  end
  if s.count > 0 then
    local all, pattern = call('HGETALL', ARRIVALS), ' %d+:' .. text(s.generation) .. ':%d+'
    for i = 1, #all, 2 do
      local rest, n = all[i + 1]:gsub(pattern, '')
      if n > 0 then
        call('HSET', ARRIVALS, all[i], rest)
      end
    end
    entries = entries and entries:gsub(pattern, '')
    call('DEL', FREE)
  end
  s.failed, s.reason = math.max(s.generation, at or 0), reason
  s.generation, s.count, s.freed, s.silent = s.failed + 1, 0, 0, 0
  if call('ZCARD', LEASES) > 0 then
    s.outcome = reason
  end
  news[#news + 1] = text(s.epoch) .. ' ' .. text(s.failed) .. ' ' .. reason
end

-- Fails it for those whose leases have run out.
local function expire()
  if s.clock < s.earliest then
    return
  end
  local dead = call('ZRANGEBYSCORE', LEASES, '-inf', text(s.clock))
  s.earliest = tonumber(call('ZRANGE', LEASES, #dead, #dead, 'WITHSCORES')[2] or s.clock)
  if #dead == 0 then
    return
  end
  for _, member in ipairs(dead) do
    call('ZREM', LEASES, member)
    call('ZADD', GONE, text(s.clock), member)
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', GONE, '-inf', text(s.clock - 20 * s.ttl))) do
    call('ZREM', GONE, member)
    call('HDEL', ARRIVALS, member)
  end
  expire_later(GONE)
  local n, names = #dead, table.concat(dead, ', ', 1, math.min(#dead, 8))
  if n > 8 then
    names = names .. ' and ' .. n - 8 .. (n == 9 and ' other' or ' others')
  elseif n > 1 then
    names = table.concat(dead, ', ', 1, n - 1) .. ' and ' .. dead[n]
  end
  fail('b' .. names .. (n == 1 and ' is gone' or ' are gone'))
end

-- At most once in a twentieth of it.
local function renew()
  if not leased or tonumber(leased) < s.clock + ttl * 0.95 then
    call('ZADD', LEASES, text(s.clock + ttl), me)
    s.earliest = math.min(s.earliest, s.clock + ttl)
  end
end

-- Writes what has changed, then publishes.
local function finish(reply)
  if math.abs(now - s.touched) > s.ttl then
    s.touched = now
  end
  if last then
    call('HSET', ARRIVALS, me, instance .. ' ' .. text(last) .. entries)
  end
  local changes = {}
  for field, value in pairs(s) do
    if value ~= before[field] then
      changes[#changes + 1], changes[#changes + 2] = field, text(value)
    end
  end
  if #changes > 0 then
    call('HSET', KEY, unpack(changes))
  end
  if s.touched == now then
    for _, key in ipairs(KEYS) do
      expire_later(key)
    end
  end
  for _, message in ipairs(news) do
    call('PUBLISH', KEY, message)
  end
  return reply
end

-- The members that have not arrived: their number, and nine of them. For a crowd that is kept
-- for a while.
local function missing()
  local members = call('ZCARD', LEASES)
  local list = s.list ~= '' and cmsgpack.unpack(s.list)
  if list and members > 64 and list[1] == s.generation and now >= tonumber(s.listed)
    and now - tonumber(s.listed) < s.ttl / 10 then
    return list
  end
  list = { s.generation, 0 }
  local mark = ':' .. text(s.generation) .. ':'
  for from = 0, members - 1, 1000 do
    local some = call('ZRANGE', LEASES, from, from + 999)
    for i, found in ipairs(call('HMGET', ARRIVALS, unpack(some))) do
      local arrived = found
      if some[i] == me then
        arrived = entries
      end
      if not (arrived and arrived:find(mark, 1, true)) then
        list[2] = list[2] + 1
        list[#list + 1] = #list < 11 and some[i] or nil
      end
    end
  end
  s.list, s.listed = members > 64 and cmsgpack.pack(list) or '', text(now)
  return list
end

local function standing(kind, wanted)
  local list = wanted and missing() or { 0, 0 }
  return finish({ kind, s.epoch, s.generation, s.count, s.count - s.silent, s.broken, s.parties
    - call('ZCARD', LEASES), list[2], unpack(list, 3) })
end

-- What number n, counted already or not, has come to: as one string, which is read fast; the kind
-- of it; and the position, if that can be given back.
local function outcome(n)
  local generation, position = entries:match(' ' .. text(n) .. ':(%d+):(%d+)')
  if not generation then
    return table.concat({ 'failed', text(s.epoch), text(s.failed), s.reason }, ' '), 'failed'
  elseif tonumber(generation) < s.generation then
    return table.concat({ 'passed', text(s.epoch), generation, position }, ' '), 'passed'
  end
  return table.concat({ 'counted', text(s.epoch), generation, position, s.count,
    s.count - s.silent }, ' '), 'counted', position
end

-- {=== joining ===

local function refusal(parties, run, others)
  if others == 0 then
    if run ~= '' and run == s.run and s.outcome ~= '' and not leased then
      return s.outcome:match('^b(.*)$') or 'run ' .. run .. ' is over'
    end
  elseif parties ~= s.parties then
    return 'parties is ' .. text(s.parties) .. ' for the others, not ' .. text(parties)
  elseif run ~= s.run then
    return (s.run == '' and 'a run without a name' or 'run ' .. s.run) .. ' is under way'
  elseif not leased and others >= s.parties then
    return 'all ' .. text(s.parties) .. ' seats are taken'
  end
end

if request == 'join' then
  local parties, run, first = tonumber(ARGV[9]), ARGV[10], ARGV[11] == '1'
  local highest = number -- of the requests that were answered
  if last and leased then
    renew()
  end
  expire()
  leased = call('ZSCORE', LEASES, me)
  local others = call('ZCARD', LEASES) - (leased and 1 or 0)
  local replaced = owner and owner ~= instance and not first
  local refused = not replaced and refusal(parties, run, others)
  if replaced or refused then
    last = nil
    return finish({ replaced and 'replaced' or 'refused', refused or nil })
  end
  if others == 0 then
    s.ttl, s.outcome = ttl, run == s.run and s.outcome or ''
  end
  s.parties, s.run, s.ttl = parties, run, math.min(s.ttl, ttl)
  if leased and not last then
    fail('b' .. me .. ' has been restarted')
  end
  local behind = epoch > s.epoch or epoch == s.epoch and (known > s.generation
    or last and last < highest or not first and not owner)
  if behind then
    s.epoch = math.max(time[1] * 1000000 + time[2], epoch + 1)
  end
  if behind or epoch > 0 and epoch < s.epoch and known > s.failed then
    fail(LOST, known)
  end
  if not last or last < low - 1 then
    last = low - 1
  end
  entries = owner == instance and entries or ''
  renew()
  call('ZREM', GONE, me)
  s.touched = now
  return standing('state', true)
end

-- }===

renew()
expire()

-- Beyond the next number: one before it was lost on the way.
if number > last + 1 then
  return finish({ 'join' })
end
local new = number == last + 1
if new then
  last = number
end
if low > 1 then
  entries = entries:gsub(' (%d+):(%d+):%d+', function(n, generation)
    return tonumber(n) < low and tonumber(generation) < s.generation and '' or nil
  end)
end

local belief = tonumber(ARGV[9]) -- which generation the member takes for the one under way

if request == 'beat' then
  return standing('state', ARGV[9] == '1')

elseif request == 'wait' or request == 'arrive' then
  if new and s.broken == 0 and belief > s.failed then
    local position = s.count
    if s.freed > 0 then
      position, s.freed = call('LPOP', FREE), s.freed - 1
      if not position then -- it was evicted
        fail(LOST)
        return finish((outcome(number)))
      end
    end
    entries = entries .. ' ' .. text(number) .. ':' .. text(s.generation) .. ':' .. text(position)
    s.count = s.count + 1
    s.silent = s.silent + (request == 'arrive' and 1 or 0)
    if s.count == s.parties then
      news[1 + #news] = text(s.epoch) .. ' ' .. text(s.generation)
      s.generation, s.count, s.silent = s.generation + 1, 0, 0
      s.outcome = 'o'
    end
  end
  return finish((outcome(number)))

elseif request == 'withdraw' then
  local n = tonumber(ARGV[10])
  local result, kind, position = outcome(n)
  if position then
    entries = entries:gsub(' ' .. text(n) .. ':%d+:%d+', '')
    s.count = s.count - 1
    s.silent = s.silent - (ARGV[11] == 'arrive' and 1 or 0)
    s.freed = s.freed + 1
    call('LPUSH', FREE, position)
    expire_later(FREE)
  elseif kind == 'passed' or s.failed >= belief then
    return finish(result)
  end
  return standing('withdrawn', true)

elseif request == 'abort' then
  if new and s.broken == 0 then
    s.broken, s.aborted = 1, ARGV[9]
    fail(ARGV[9])
  end

elseif request == 'reset' then
  if new and s.broken == 1 then
    s.broken, s.aborted = 0, ''
    if s.after ~= '' then
      fail(s.after)
      s.after = ''
    end
  elseif new and s.count > 0 then
    fail('r')
  end

elseif request == 'leave' then
  last = nil
  call('ZREM', LEASES, me)
  if call('ZCARD', LEASES) > 0 or s.count > 0 then
    fail('b' .. me .. ' has left')
  end
  call('HDEL', ARRIVALS, me)
  return finish({ 'left' })
end
return finish({ 'done' })
]]
