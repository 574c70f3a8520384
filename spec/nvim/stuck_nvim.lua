-- What barrier.stuck says inside Neovim, and in :checkhealth barrier.
local barrier = require "barrier"
local support = require "spec.nvim.support"

---What a function prints.
local function printed_by(f, ...)
  local lines, print = {}, _G.print
  _G.print = function(text)
    lines[#lines + 1] = text
  end
  local ok, err = pcall(f, ...)
  _G.print = print
  assert.is_true(ok, err)
  return table.concat(lines, "\n")
end

---Runs a program of examples/; what it printed.
local function run(name)
  local text = printed_by(dofile, "examples/" .. name .. ".lua")
  barrier.debug(false)
  return text
end

describe("inside Neovim", function()
  it("the example stuck shows which party is missing, and where it hangs", function()
    local out = run "stuck"
    assert.is_truthy(out:find("waiters:5/6%]>, 1 missing\n  missing since the previous phase: "
      .. "a coroutine, suspended:\n    examples/stuck%.lua:%d+: in [^\n]*cached"), out)
    assert.is_truthy(out:find("4 coroutines wait, for ", 1, true), out)
  end)

  it("the example missing_client shows the client that has not attached", function()
    local out = run "missing_client"
    assert.is_truthy(out:find("%[1/2 done%]>, pending: efm\n  pending, for %d+ ms: efm, added at "
      .. "examples/missing_client%.lua:%d+\n  a coroutine waits"), out)
  end)

  it("a traceback begins where the user's code called the module", function()
    local b, group = barrier.new(3), barrier.group()
    group:add "never"
    local function place()
      b:wait()
    end
    local cos = { support.co(place), support.co(function()
      group:wait()
    end), support.co(function()
      group:wait(100000)
    end) }
    local report = barrier.stuck(b) .. "\n" .. barrier.stuck(group)
    assert.is_truthy(report:find "waits:\n    [^\n]*stuck_nvim%.lua:%d+: in function [^\n]*\n<",
      report)
    assert.is_nil(report:find("[C]", 1, true), report)
    assert.is_nil(report:find("barrier/%a+%.lua"), report)
    b:cancel(cos[1])
    group:abort()
    support.idle()
  end)

  it("the health check shows the report", function()
    local b = barrier.new(7)
    local waiter = b:wait(function() end)
    local text = printed_by(require("barrier.health").report)
    assert.is_truthy(text:find("INFO parties that wait:\n", 1, true), text)
    assert.is_truthy(text:find("waiters:1/7", 1, true), text)
    assert.is_truthy(text:find("a callback waits: ", 1, true), text)
    waiter:close()
  end)
end)
