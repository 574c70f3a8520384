---What barrier.stuck says.
local prefix = (...):gsub("[^.]+$", "")
local frames = require(prefix .. "frames")

local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local VERBS = {
  wait = { "waits", "wait" },
  join = { "joins", "join" },
  watch = { "awaits the trip", "await the trip" },
  await = { "awaits", "await" },
}

---@return string
local function text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and type(text) == "string" and text or type(value)
end

---@class barrier.stuck.Party
---@field verb string a key of VERBS
---@field b barrier.Barrier
---@field party thread|barrier.Waiter

---@class barrier.stuck.Entry
---@field subject any a barrier, a group, or the module of await
---@field title string
---@field parties barrier.stuck.Party[]
---@field counts? boolean whether parties can be missing from it

-- {=== which parties there are ===

local function is_group(value)
  return type(value) == "table" and getmetatable(value) == "barrier.Group"
end

local function is_redis(value)
  return type(value) == "table" and getmetatable(value) == "barrier.Redis"
end

---What a group needs the barrier for: "wait" or "join", or nil for something else.
local function purpose_of(group, b)
  for name, value in pairs(group) do
    if value == b and type(name) == "string" then
      return name:match "^_(wait)%d*$" or name:match "^_(join)%d*$"
    end
  end
end

---@return string
local function title_of_group(group)
  local keys = group:pending()
  for i, key in ipairs(keys) do
    keys[i] = text_of(key)
  end
  return tostring(group) .. ", pending: " .. table.concat(keys, ", ")
end

---@return string
local function title_of_barrier(b)
  local missing = not b.broken and (b.state or "filling") == "filling"
    and math.max(b.parties - b.n_arrived, 0)
  return tostring(b) .. (missing and (", %d missing"):format(missing) or "")
end

---What the barrier is for: what is shown in its place, its title, and the verb of its waits.
---Nothing if it has no parties of the user's.
local function subject_of(core, b)
  local owner = core.owners and core.owners[b]
  if is_redis(owner) then
    return owner, require(prefix .. "redis").describe(owner), "wait"
  elseif is_group(owner) then
    local purpose = purpose_of(owner, b)
    return purpose and owner, purpose and title_of_group(owner), purpose
  elseif owner then
    return owner, "barrier.await", "await"
  end
  return b, title_of_barrier(b), "wait"
end

---@return barrier.stuck.Entry[]
local function entries_of(core)
  local entries, by_subject = {}, {}
  for _, b in ipairs(core.barriers()) do
    local subject, title, verb = subject_of(core, b)
    local entry = subject and by_subject[subject]
    if subject and not entry then
      entry = { subject = subject, title = title, parties = {}, counts = subject == b }
      by_subject[subject], entries[#entries + 1] = entry, entry
    end
    if entry then
      for _, party in ipairs((core.waiters or b.waiters)(b)) do
        table.insert(entry.parties, { verb = verb, b = b, party = party })
      end
      local is_watched = getmetatable(b) == "barrier.Barrier" and not is_redis(subject)
      for _, party in ipairs(is_watched and core.watchers(b) or {}) do
        local watches = subject == b and "watch" or verb
        table.insert(entry.parties, { verb = watches, b = b, party = party })
      end
    end
  end
  return entries
end

-- }===

-- {=== what is said of a party ===

---The upvalues of a function that a file of this module has made, by name.
---@return table<string, any>
local function own_upvalues(f)
  local upvalues = {}
  if type(f) == "function" and frames.is_own(debug.getinfo(f, "S").source) then
    local i, name, value = 1, debug.getupvalue(f, 1)
    while name do
      upvalues[name] = value
      i = i + 1
      name, value = debug.getupvalue(f, i)
    end
  end
  return upvalues
end

---What the user gave, where a file of this module has wrapped that: the callback, the coroutine
---that goes on, or the job of a group whose `done` it is.
---@return any callback
---@return thread? co
---@return string? job
local function unwrap(core, callback)
  local upvalues = own_upvalues(callback)
  local inner = upvalues.f or upvalues.callback
  while inner ~= nil do
    callback, upvalues = inner, own_upvalues(inner)
    inner = upvalues.f or upvalues.callback
  end
  if upvalues.own ~= nil then -- see await.lua, on Lua 5.1
    return callback, core.watchers(upvalues.own)[1]
  elseif is_group(upvalues.group) and upvalues.number then
    local key = upvalues.group._keys[upvalues.number]
    return callback, nil, ("the job %s of %s"):format(text_of(key), text_of(upvalues.group))
  end
  return callback
end

---@return string lines of its traceback, each after a newline
local function text_of_coroutine(co)
  return "\n    " .. table.concat(frames.traceback(co), "\n    ")
end

---@param record? barrier.debug.Wait
---@return string noun
---@return string text
local function describe(core, party, record)
  local callback, co, job = party, party, nil
  if type(party) ~= "thread" then
    callback, co, job = unwrap(core, core.callback_of(party))
  end
  if co then
    return "coroutine", text_of_coroutine(co)
  end
  local text = job or frames.definition(callback)
  local where = record and record.where ~= text and ", given to the call at " .. record.where or ""
  return "callback", " " .. text .. where
end

-- }===

-- {=== how it is shown ===

---@param ms number
---@return string
local function duration(ms)
  return ms < 1000 and ("%.0f ms"):format(ms) or ("%.1f s"):format(ms / 1000)
end

---@param ages number[] milliseconds
---@return string
local function text_of_ages(ages)
  if not ages[1] then
    return ""
  end
  local shortest, longest = duration(math.min(unpack(ages))), duration(math.max(unpack(ages)))
  return ", for " .. (shortest == longest and longest or shortest .. " to " .. longest)
end

---@return string "a coroutine waits", "3 coroutines wait"
local function sentence(n, noun, verbs)
  return n == 1 and ("a %s %s"):format(noun, verbs[1]) or ("%d %ss %s"):format(n, noun, verbs[2])
end

---Adds lines for things with a key, of which equal ones are one line.
local function collect(list, key, new)
  local entry = list[key]
  if not entry then
    entry = new
    list[key], list[#list + 1] = entry, entry
  end
  return entry
end

---@param parties barrier.stuck.Party[]
local function add_parties(lines, core, parties)
  local equals, debugging = {}, core.debugging
  for _, one in ipairs(parties) do
    local record = debugging and debugging.wait_of(one.b, one.party)
    local noun, text = describe(core, one.party, record)
    local same = collect(equals, one.verb .. noun .. text, { n = 0, ages = {} })
    same.noun, same.text, same.verbs, same.n = noun, text, VERBS[one.verb], same.n + 1
    same.ages[#same.ages + 1] = record and debugging.age_of(record)
  end
  for _, same in ipairs(equals) do
    lines[#lines + 1] = ("  %s%s:%s"):format(sentence(same.n, same.noun, same.verbs),
      text_of_ages(same.ages), same.text)
  end
end

---Adds the parties of the previous phase that are absent.
local function add_absent(lines, core, b)
  local equals = {}
  for _, absent in ipairs(core.debugging.absent(b)) do
    local noun, state, text = absent.key, "", ""
    if type(absent.key) == "thread" then
      noun, state = "coroutine", ", " .. coroutine.status(absent.key)
      text = ":" .. text_of_coroutine(absent.key)
    end
    local same = collect(equals, noun .. state .. text, { n = 0 })
    same.noun, same.state, same.text, same.n = noun, state, text, same.n + absent.n
  end
  for _, same in ipairs(equals) do
    lines[#lines + 1] = ("  missing since the previous phase: %sa %s%s%s"):format(
      same.n > 1 and same.n .. " times " or "", same.noun, same.state, same.text)
  end
end

---Adds where the pending jobs of a group were added.
local function add_jobs(lines, core, group)
  local equals = {}
  for _, job in ipairs(core.debugging.jobs_of(group)) do
    local text = ", added at " .. job.where
    if job.co and coroutine.status(job.co) ~= "dead" then
      text = (", in a coroutine, %s%s:%s"):format(coroutine.status(job.co), text,
        text_of_coroutine(job.co))
    end
    local same = collect(equals, text, { text = text, keys = {}, ages = {} })
    table.insert(same.keys, text_of(job.key))
    table.insert(same.ages, core.debugging.age_of(job))
  end
  for _, same in ipairs(equals) do
    lines[#lines + 1] = ("  pending%s: %s%s"):format(text_of_ages(same.ages),
      table.concat(same.keys, ", "), same.text)
  end
end

---@param entry barrier.stuck.Entry
local function add_entry(lines, core, entry)
  lines[#lines + 1] = entry.title
  if core.debugging and is_group(entry.subject) then
    add_jobs(lines, core, entry.subject)
  elseif core.debugging and entry.counts then
    add_absent(lines, core, entry.subject)
  end
  add_parties(lines, core, entry.parties)
end

-- }===

---True if `what` names the entry: its barrier or group, or a coroutine or Waiter in it.
local function is_about(entry, what)
  local found = rawequal(entry.subject, what)
  for _, one in ipairs(entry.parties) do
    found = found or rawequal(one.party, what)
  end
  return found
end

---@return boolean # can parties be in it, or is it one?
local function is_subject(what)
  local metatable = (type(what) == "table" or type(what) == "userdata") and getmetatable(what)
  local name = type(metatable) == "table" and rawget(metatable, "__name") or metatable
  return type(what) == "thread" or type(name) == "string" and name:find "^barrier%." ~= nil
end

---@return string? report
return function(core, what)
  local lines = {}
  if what ~= nil and not is_subject(what) then
    error(("bad argument #1 to '%s' (%s, got %s)"):format("stuck",
      "barrier, group or coroutine expected", type(what)), 3)
  end
  for _, entry in ipairs(entries_of(core)) do
    if entry.parties[1] and (what == nil or is_about(entry, what)) then
      add_entry(lines, core, entry)
    end
  end
  return lines[1] and table.concat(lines, "\n")
end
