---cqueues' condition variable as a barrier: lua cqueues_condition.lua PARTIES TRIPS
local cqueues = require "cqueues"
local condition = require "cqueues.condition"

local parties, trips = tonumber(arg[1]), tonumber(arg[2])
local loop = cqueues.new()
local all_there = condition.new()
local count, generation = 0, 0

for _ = 1, parties do
  loop:wrap(function()
    for _ = 1, trips do
      count = count + 1
      if count == parties then
        count, generation = 0, generation + 1
        all_there:signal()
      else
        local mine = generation
        repeat
          all_there:wait()
        until generation ~= mine
      end
    end
  end)
end

local start = os.clock()
assert(loop:loop())
print(string.format("%.2f", (os.clock() - start) / parties / trips * 1e9))
