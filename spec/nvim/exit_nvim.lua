-- How Neovim exits when the module has something to do: at once, with the status that it would
-- have had. While it exits it runs the loop until no handle is left, so a handle that is started
-- then keeps it running forever, or for two seconds and with status 1.
local support = require "spec.nvim.support"

local HANGS = 10000 -- milliseconds: a Neovim that still runs is killed

-- What the programs have. `later` calls a function in a callback that comes while Neovim exits.
local PRELUDE = [[
local uv = vim.uv or vim.loop
local nobody = function() end
local function later(f, n)
  n = n or 300
  uv.fs_stat(".", function()
    if n > 1 then later(f, n - 1) else f() end
  end)
end
local function on(event, f)
  vim.api.nvim_create_autocmd(event, { callback = f })
end
local function co(f) coroutine.wrap(f)() end
local function say(text) io.stderr:write(text, "\n") end
]]

-- The same without the module.
local CONTROL = "later(nobody)"

local ways = {
  [":qa!"] = { "-c", "luafile %s", "-c", "qa!" },
  [":cq"] = { "-c", "luafile %s", "-c", "cquit 3" },
  [":noautocmd qa!"] = { "-c", "luafile %s", "-c", "noautocmd qa!" },
  ["an error at startup"] = { "-es", "-c", "luafile %s", "-c", "lua error 'why'", "-c", "qa!" },
}
if vim.fn.has "nvim-0.9" == 1 then
  ways["-l"] = { "-l", "%s" }
end

local programs = {
  ["a job ends that a group waits for"] = [[
    local group = require "barrier".group()
    later(group:add "job")
    later(group:add "short", 1)
    group:wait(nobody)
    group:wait(60000, nobody)
    co(function() group:wait() end)
  ]],
  ["the last party of a barrier arrives"] = [[
    local barrier = require "barrier"
    for _, options in ipairs { {}, { schedule = false }, { action = nobody } } do
      local b = barrier.new(3, options)
      co(function() b:wait() end)
      b:wait(60000, nobody)
      b:await_trip(nobody)
      later(function() b:arrive() end)
    end
  ]],
  ["waits begin"] = [[
    local barrier = require "barrier"
    local b = barrier.new(2)
    later(function()
      b:wait(60000, nobody)
      co(function() b:wait() end)
      co(function() b:wait(60000) end)
      barrier.new(1):wait(nobody)
      barrier.group { stop_on_error = true }:wait(nobody)
      local group = barrier.group()
      group:add "never"
      group:wait(60000, nobody)
    end)
  ]],
  ["waits begin, and the module was not used before"] = [[
    local barrier = require "barrier"
    later(function()
      barrier.new(1):wait(60000, nobody)
      barrier.new(1):wait(nobody)
    end)
  ]],
  ["timeouts are pending"] = [[
    local barrier = require "barrier"
    barrier.new(2):wait(60000, nobody)
    barrier.new(2, { timeout = 60000 }):arrive()
    barrier.new(2):wait(0, nobody)
  ]],
  ["a wait is closed in VimLeavePre"] = [[
    local b = require "barrier".new(2)
    local waiters = { b:wait(nobody), b:wait(60000, nobody), b:await_trip(nobody) }
    on("VimLeavePre", function()
      for _, waiter in ipairs(waiters) do waiter:close(nobody) end
    end)
  ]],
  ["barriers are aborted, reset and left"] = [[
    local b = require "barrier".new(9)
    local waiter = b:wait(60000, nobody)
    local party = coroutine.create(function() b:wait() end)
    coroutine.resume(party)
    later(function()
      waiter:close(nobody)
      b:cancel(party)
      b:wait(nobody)
      b:reset()
      b:wait(nobody)
      b:abort()
      b:wait(nobody)
      b:register()
      b:deregister()
    end)
  ]],
  ["the handles are closed in VimLeave"] = [[
    local barrier = require "barrier"
    barrier.new(1):wait(nobody)
    on("VimLeave", function() barrier.close() end)
    later(function() barrier.new(1):wait(nobody) barrier.close() end)
  ]],
  ["the handles were closed before"] = [[
    local barrier = require "barrier"
    barrier.close()
    later(function() barrier.new(1):wait(nobody) end, 1)
  ]],
  ["waits begin in VimLeave"] = [[
    local b
    on("VimLeave", function()
      b:wait(60000, nobody)
      require "barrier".new(1):wait(nobody)
    end)
    b = require "barrier".new(2)
    on("VimLeave", function()
      b:wait(60000, nobody)
      require "barrier".new(1, { schedule = false }):wait(function() say "resumed" end)
    end)
  ]],
  ["the module is loaded in VimLeavePre and VimLeave"] = [[
    local function use() require "barrier".new(1):wait(60000, nobody) end
    on("VimLeavePre", use)
    on("VimLeave", function()
      package.loaded["barrier"], package.loaded["barrier.neovim"] = nil, nil
      use()
    end)
    later(use)
  ]],
  ["the module is loaded meanwhile"] = [[
    later(function()
      local b = require "barrier".new(2)
      b:wait(nobody)
      b:wait(60000, nobody)
    end)
  ]],
  ["the module was loaded in a fast event"] = [[
    local barrier
    local timer = uv.new_timer()
    timer:start(0, 0, function()
      timer:close()
      barrier = require "barrier"
      later(function()
        barrier.new(1):wait(60000, nobody)
        barrier.new(1, { schedule = false }):wait(nobody)
      end)
    end)
    vim.wait(20000, function() return barrier end, 1)
  ]],
  ["states share a barrier"] = [[
    local shared = require "barrier".shared("exit", 2)
    local other = require "barrier".shared("other", 2)
    local waiter = shared:wait(60000, nobody)
    on("VimLeavePre", function() waiter:close(nobody) end)
    other:wait(nobody)
    later(function()
      other:arrive()
      shared:wait(60000, nobody):close(nobody)
      co(function() shared:wait() end)
      require "barrier".shared("third", 1):wait(nobody)
    end)
  ]],
  ["a shared barrier is made"] = [[
    local barrier = require "barrier"
    later(function() barrier.shared("late", 2):wait(60000, nobody) end)
  ]],
}

---Runs a program in a Neovim of its own, which exits in this way. Returns its status, -1 if it had
---to be killed, and everything that it wrote.
local function run(dir, program, way)
  local path = dir .. "/program.lua"
  support.write(path, PRELUDE .. program)
  local command = { "sh", "-c", 'exec "$@" >output 2>&1', "sh", vim.v.progpath, "--headless",
    "-u", "NONE", "-i", "NONE", "-n", "--noplugin" }
  if vim.env.BARRIER_CHECKOUT then
    -- Neovim 0.7 does not look into its runtimepath in a fast event.
    vim.list_extend(command, { "--cmd", "set runtimepath^=" .. vim.env.BARRIER_CHECKOUT,
      "--cmd", "lua package.path = vim.env.BARRIER_CHECKOUT .. '/lua/?/init.lua;' .. "
        .. "vim.env.BARRIER_CHECKOUT .. '/lua/?.lua;' .. package.path" })
  end
  for _, part in ipairs(way) do
    command[#command + 1] = part:format(path)
  end
  local job = vim.fn.jobstart(command, { cwd = dir })
  local status = vim.fn.jobwait({ job }, HANGS)[1]
  if status == -1 then
    vim.fn.jobstop(job)
  end
  return status, table.concat(vim.fn.readfile(dir .. "/output"), "\n")
end

describe("Neovim exits at once, as it does without the module, by", function()
  local dir

  before_each(function()
    dir = support.folder()
  end)

  after_each(function()
    vim.fn.delete(dir, "rf")
  end)

  for name, way in pairs(ways) do
    for what, program in pairs(programs) do
      local in_c = require("barrier").implementation == "C" or not program:find "%.shared"
      local it = in_c and it or function(title) -- luacheck: ignore 431
        pending(title .. " (left out: only the C core promises it)")
      end
      it(name .. " when " .. what, function()
        local expected = { run(dir, CONTROL, way) }
        assert.are_not.equal(-1, expected[1])
        assert.are.same(expected, { run(dir, program, way) })
      end)
    end
  end
end)

describe("before VimLeave", function()
  it("parties are still let out, of a module that is loaded in VimLeavePre too", function()
    local dir = support.folder()
    for _, load in ipairs { "require 'barrier'", "" } do
      local status, output = run(dir, load .. [[
        on("VimLeavePre", function()
          local group, told = require "barrier".group(), nil
          for i = 1, 3 do later(group:add(i)) end
          group:wait(function() told = vim.api.nvim_get_current_buf() end)
          vim.wait(20000, function() return told end, 1)
          say("told " .. tostring(told))
        end)
      ]], ways[":qa!"])
      assert.are.same({ 0, "told 1" }, { status, output })
    end
    vim.fn.delete(dir, "rf")
  end)

  it("a VimLeave that somebody else triggers is not the end", function()
    local output = support.chunk [[
      vim.cmd "doautocmd VimLeave"
      local told
      barrier.new(1):wait(function() told = true end)
      wait_for(function() return told end)
      io.stderr:write "told"
    ]]
    assert.are.equal("told", output)
  end)
end)

describe("from VimLeave on", function()
  it("no party is resumed, also where its turn was scheduled before", function()
    local dir = support.folder()
    local status, output = run(dir, [[
      local barrier = require "barrier"
      local keep = {}
      local b = barrier.new(1, { schedule = function(drain) keep[#keep + 1] = drain end })
      b:wait(function() say "resumed" end)
      vim.wait(20000, function() return keep[1] end, 1)
      on("VimLeave", function()
        vim.schedule(function() say "scheduled" keep[1]() end)
        barrier.new(1):wait(function() say "resumed" end)
      end)
    ]], ways[":qa!"])
    assert.are.same({ 0, "scheduled" }, { status, output })
    vim.fn.delete(dir, "rf")
  end)

  it("no timer runs", function()
    local dir = support.folder()
    local status, output = run(dir, [[
      local new_timer, made = uv.new_timer, {}
      uv.new_timer = function()
        made[#made + 1] = new_timer()
        return made[#made]
      end
      require "barrier".new(2):wait(60000, nobody)
      on("VimLeave", function()
        uv.new_timer = new_timer
        for i, timer in ipairs(made) do made[i] = tostring(timer:is_closing()) end
        say(table.concat(made, " "))
      end)
    ]], ways[":qa!"])
    assert.are.same({ 0, "true true" }, { status, output })
    vim.fn.delete(dir, "rf")
  end)

  it("no party is resumed in a fast event, wherever the module was loaded", function()
    local dir = support.folder()
    for _, load in ipairs { "use()", "on('VimLeavePre', use)", [[
      local timer, loaded = uv.new_timer(), false
      timer:start(0, 0, function()
        timer:close()
        use()
        vim.schedule(function() loaded = true end)
      end)
      vim.wait(20000, function() return loaded end, 1)
    ]], [[
      local timer = uv.new_timer()
      timer:start(0, 0, function() timer:close() use() end)
      vim.wait(20000, function() return barrier end, 1, true) -- nothing scheduled runs
    ]] } do
      local status, output = run(dir, [[
        local barrier
        local function wait()
          say "waits"
          barrier.new(1, { schedule = false }):wait(function() say "resumed" end)
        end
        on("VimLeave", function() wait() end)
        local function use() barrier = require "barrier" end
      ]] .. load .. [[
        on("VimLeave", wait)
        vim.cmd "qa!"
      ]], ways[":qa!"])
      assert.are.same({ 0, "waits\nwaits" }, { status, output })
    end
    vim.fn.delete(dir, "rf")
  end)
end)
