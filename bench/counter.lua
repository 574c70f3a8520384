---What one writes by hand in place of `arrive`, `register`, `deregister` and `await_trip`: no
---errors, no state, and nobody who watches may leave.
local uv = require "luv"

local Counter = {}
Counter.__index = Counter

local function new(parties)
  return setmetatable({ parties = parties, arrived = 0, generation = 0, watching = {},
    timer = uv.new_timer() }, Counter)
end

local function trip(self)
  local watching = self.watching
  self.arrived = 0
  self.generation = self.generation + 1
  if #watching > 0 then
    self.watching = {}
    self.timer:start(0, 0, function()
      for i = 1, #watching do
        coroutine.resume(watching[i], self.generation)
      end
    end)
  end
end

function Counter:arrive()
  self.arrived = self.arrived + 1
  if self.arrived >= self.parties then
    trip(self)
  end
  return true
end

function Counter:register()
  self.parties = self.parties + 1
end

function Counter:deregister()
  self.parties = self.parties - 1
  if self.arrived >= self.parties then
    trip(self)
  end
  return true
end

function Counter:await_trip()
  self.watching[#self.watching + 1] = coroutine.running()
  return coroutine.yield()
end

return { new = new }
