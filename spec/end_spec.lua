-- How a program ends whose Lua state is closed while something is under way: as it ends without
-- the module. When a state closes, Lua calls all finalizers, that of luv's loop too, which runs the
-- loop once more: the callbacks that are due come when the barriers are gone.
local support = require "spec.support"

-- What the programs have. `last` calls a function in a callback that comes while the state closes.
local PRELUDE = [[
  io.stdout:setvbuf "no"
  local uv = require "luv"
  local function nobody() end
  local function never() print "never" end
  local function last(f)
    uv.fs_stat(".", function(...)
      f(...)
      print "called"
    end)
  end
  local function co(f)
    local c = coroutine.create(f)
    coroutine.resume(c)
    return c
  end
  local function finalize(f)
    local function finalizer()
      local ok, err = pcall(f)
      if not ok then print(err) end
    end
    if newproxy then
      local p = newproxy(true)
      getmetatable(p).__gc = finalizer
      return p
    end
    return setmetatable({}, { __gc = finalizer })
  end
]]

-- The same without the module.
local CONTROL = "last(nobody)"

local programs = {
  ["jobs of groups"] = [[
    local barrier = require "barrier"
    local group = barrier.group()
    last(group:add "job")
    group:wait(never)
    group:wait(1000000, never)
    co(function() group:wait() never() end)
  ]],
  ["jobs of a group that has no other reference"] = [[
    last(require "barrier".group { stop_on_error = true }:add "job")
  ]],
  ["the last arrivals"] = [[
    local barrier = require "barrier"
    local list = {}
    for _, options in ipairs { {}, { action = never }, { timeout = 1000000 },
        { schedule = function(drain) drain() end } } do
      local b = barrier.new(4, options)
      list[#list + 1] = b
      co(function() b:wait() never() end)
      b:wait(1000000, never)
      b:wait(never)
      b:await_trip(never)
    end
    last(function()
      for _, b in ipairs(list) do assert(b:arrive() == true) end
    end)
  ]],
  ["waits"] = [[
    local b = require "barrier".new(2)
    last(function()
      local waiter = b:wait(never)
      assert(not waiter:is_closing())
      waiter:close(never)
      b:wait(1000000, never):close()
      b:await_trip(never):close()
      co(function() b:wait() never() end)
      co(function() b:wait(1000000) never() end)
      co(function() b:await_trip() never() end)
      co(function() b:with(never) never() end)
    end)
  ]],
  ["everything else"] = [[
    local barrier = require "barrier"
    local b = barrier.new(3)
    local waiter = b:wait(never)
    local party = co(function() b:wait() end)
    last(function()
      b:register()
      b:register(3)
      b:deregister()
      b:deregister(2)
      b:cancel(party)
      b:reset()
      waiter:close()
      waiter:close(never)
      b:abort()
      b:abort "why"
      b:waiters()
      barrier.stuck()
      barrier.close()
      tostring(b)
      assert(b.n_waiting + b.n_arrived + b.generation == 0 and b.parties and b.state)
      assert(not b.broken)
    end)
  ]],
  ["new barriers"] = [[
    local barrier = require "barrier"
    last(function()
      local b = barrier.new(2, { timeout = 1000000 })
      b:wait(1000000, never)
      co(function() b:wait() end)
      b:reset()
      barrier.new(1):wait(never)
      local broken = barrier.new(1)
      broken:abort()
      broken:wait(never)
      co(function() broken:wait() end)
      local group = barrier.group()
      group:add "never"
      group:wait(1000000, never)
      barrier.close()
    end)
  ]],
  ["timeouts, and parties that are about to go on"] = [[
    local barrier = require "barrier"
    local b = barrier.new(2)
    b:wait(1000000, nobody)
    b:wait(1000000, nobody)
    b:wait(0, nobody)
    barrier.new(3, { timeout = 0 }):arrive()
    local c = barrier.new(3)
    c:wait(0, nobody)
    last(function() b:arrive() c:abort() end)
  ]],
  ["finalizers"] = [[
    local done, b, group
    local early = finalize(function() done() b:wait(never) b:wait(5, never) b:abort() end)
    local barrier = require "barrier"
    local old = barrier.new(1) -- older than the handles, and finalized after them
    local before = finalize(function()
      done(true)
      b:arrive()
      b:wait(5, never)
      old:wait(never)
      old:wait(5, never):close(never)
      old:abort()
      barrier.close()
    end)
    b, group = barrier.new(2), barrier.group()
    done = group:add "job"
    group:wait(never)
    barrier.new(2):wait(1000000, never)
    local after = finalize(function() done() b:arrive() b:wait(never) b:wait(5, never) end)
    last(function() return early, before, after end)
    keep = { early, before, after, function() return uv, barrier end }
  ]],
  ["the handles are closed"] = [[
    local barrier = require "barrier"
    assert(barrier.close())
    local b = barrier.new(2)
    b:wait(never)
    last(function() b:wait(never) barrier.new(1):wait(never) end)
  ]],
}

local ways = {
  ["the loop is never run"] = "%s",
  ["an error is raised"] = "%s error('why', 0)",
  ["os.exit closes the state"] = "%s os.exit(3, true)",
  ["a thread ends"] = [[
    local uv = require "luv"
    local path, cpath = package.path, package.cpath
    uv.new_thread(string.dump(function(path, cpath, code)
      package.path, package.cpath = path, cpath
      assert((loadstring or load)(code))()
    end), path, cpath, %q):join()
  ]],
  ["os.exit closes the state in a callback"] = [[
    %s
    uv.new_timer():start(0, 0, function() os.exit(3, true) end)
    uv.run()
  ]],
}

---How a program ends, and what it prints. Of a report the first line counts.
local function run(program, way)
  local result = support.spawn(support.interpreter, { "-e", way:format(PRELUDE .. program) })
  local out = result.out:gsub("\r\n", "\n")
  local err = result.err:match "[^\n]*"
  return { code = result.code, signal = result.signal, out = out, err = err }
end

describe("a program with something under way ends as it does without the module if", function()
  for name, way in pairs(ways) do
    for what, program in pairs(programs) do
      it(name .. ": " .. what, function()
        local result = run(program, way)
        local control = run(CONTROL, way)
        assert.are.same(control, result)
      end)
    end
  end
end)

-- What Neovim's end looks like to the core: spec/nvim has it in a real Neovim.
describe("once the core knows that the end has come", function()
  local PARTIES = [[
    local barrier = require "barrier"
    local core = require "barrier.environment".core()
    local function count_handles()
      local n = 0
      uv.walk(function(handle) n = n + (handle:is_closing() and 0 or 1) end)
      return n
    end
    local old = barrier.new(2)
    local shared = barrier.implementation == "C" and barrier.shared("end", 2)
    local function come()
      barrier.new(1):wait(never)
      for _, b in ipairs { old, barrier.new(2, { timeout = 0 }), shared or nil } do
        local w = b:wait(never)
        b:wait(0, never)
        co(function() b:wait() never() end)
        w:close(never)
        b:abort()
        b:arrive()
      end
      uv.run()
      return count_handles()
    end
  ]]

  it("no party goes on, and no handle is made: leave", function()
    assert.are.equal("true\t0\t0\n", support.output_of(PRELUDE .. PARTIES .. [[
      old:wait(0, never)
      old:wait(never) -- they are about to go on
      core.leave()
      io.write(tostring(core.has_left()), "\t", count_handles(), "\t", come(), "\n")
    ]]))
  end)

  it("no party goes on, and no handle is made: the loop has been closed", function()
    assert.are.equal("passed\nfalse\ntrue\t0\n", support.output_of(PRELUDE .. PARTIES .. [[
      local exits = false
      core.watch_exit(function() return exits end)
      barrier.new(1):wait(function() print "passed" end)
      uv.run()
      print(core.has_left())
      assert(barrier.close())
      uv.run()
      exits = true
      local n = come()
      io.write(tostring(core.has_left()), "\t", n, "\n")
    ]]))
  end)
end)
