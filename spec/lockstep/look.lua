---What can be seen of barriers, in words: methods of lockstep.Run.
local CROWDED = 20 -- a list of waiters that is not looked at after every change

---@class lockstep.Run
local Run = {}

---An error of the module's classes, each of which goes to one place only.
local function is_right(run, slot, err)
  return getmetatable(err) == run.barrier[err.name]
    and rawequal(err.barrier, slot.weak[1])
    and err.message == tostring(err):sub(#err.name + 3, #err.name + 2 + #err.message)
    and not run.errors[err]
end

---An error in words.
function Run:error_of(slot, err)
  if type(err) == "table" and getmetatable(err) then
    if not is_right(self, slot, err) then
      self:fail("an error with a wrong class, barrier or message, or an old one: %s",
        tostring(err))
    end
    self.errors[err] = true
  end
  return tostring(err)
end

---How a wait ended, in words.
function Run:outcome_of(party, err, result)
  if err ~= nil then
    return self:error_of(party.slot, err)
  end
  return (party.watches and "generation " or "position ") .. tostring(result)
end

---The lines of a report that name errors, not what follows in their tracebacks.
function Run.errors_of(report)
  local list = {}
  for line in (report .. "\n"):gmatch("([^\n]*)\n") do
    if line ~= "" and line ~= "stack traceback:" and line:sub(1, 1) ~= "\t" then
      list[#list + 1] = line
    end
  end
  return table.concat(list, "; ")
end

---The parties in waiters(), in words.
function Run:waiters_of(slot)
  local list = slot.real:waiters()
  for i, waiter in ipairs(list) do
    local id = self.ids[waiter]
    if not id and slot.entering then -- its `wait` has not returned
      id = slot.entering.id
      slot.entering.waiter, self.ids[waiter] = waiter, id
    end
    if type(waiter) ~= "thread" and waiter:is_closing() then
      self:fail("a Waiter in waiters() is closing")
    end
    list[i] = tostring(id)
  end
  return table.concat(list, ",")
end

---Notes what has changed, as far as tostring and the generation show it; the waiters now and then,
---too.
function Run:look_at(slot)
  local b, crowded = slot.real, #slot.parties > CROWDED
  if crowded and self.chances % 8 ~= 0 then
    return
  end
  local shown, generation = tostring(b), b.generation
  local changed = shown ~= slot.shown or generation ~= slot.generation
  if changed then
    slot.shown, slot.generation = shown, generation
    self:note("barrier %d: %s, %d waiting, %d arrived, generation %d, %d parties, %s, %s",
      slot.number, b.state, b.n_waiting, b.n_arrived, generation, b.parties,
      b.broken and "broken" or "whole", shown:match "^<barrier%.Barrier object at %w+ (.*)>$")
  end
  if changed and not crowded or self.chances % (crowded and 64 or 8) == 0 then
    self:note("waiters of barrier %d: %s", slot.number, self:waiters_of(slot))
  end
end

---Looks at everything.
function Run:look()
  for _, slot in ipairs(self.slots) do
    self:look_at(slot)
  end
end

---Looks as often as the script says.
function Run:compare()
  self.chances = self.chances + 1
  if not self.over and self.every > 0 and self.chances % self.every == 0 then
    self:look()
  end
end

---What the report of stuck() says of this barrier; nil: nothing.
local function section(report, real)
  local from = report:find(tostring(real), 1, true)
  if from then
    local to = report:find("\n<barrier.Barrier", from, true)
    return report:sub(from, to and to - 1)
  end
end

---How many coroutines the section of a barrier names: equal ones are one entry.
local function count_coroutines(text)
  local count = 0
  for line in text:gmatch "[^\n]+" do
    local n = line:match "^  (%w+) coroutines? [aw]%a+.*:$"
    count = count + (n == "a" and 1 or tonumber(n) or 0)
  end
  return count
end

---Notes who is stuck.
function Run:look_at_stuck()
  local report = self.barrier.stuck()
  for _, slot in ipairs(self.slots) do
    local text = report and section(report, slot.real)
    self:note("stuck at barrier %d: %s", slot.number, text and ("%d coroutines, %s missing"):format(
      count_coroutines(text), text:match "(%-?%d+) missing" or "none") or "nobody")
  end
end

return Run
