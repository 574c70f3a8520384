local support = require "spec.support"

local report_of = support.report_of

local function count(text, what)
  return select(2, text:gsub(what, what))
end

describe("a coroutine that dies after it was resumed", function()
  it("stops no other party, and is reported with its traceback", function()
    local err, out = report_of [[
      local b = barrier.new(4)
      local function deep() error "boom" end
      for i = 1, 4 do
        coroutine.wrap(function()
          b:wait()
          if i == 1 then deep() end
          print(i)
        end)()
      end
      uv.run()
      print "not reached"
    ]]
    assert.are.equal("4\n2\n3\n", out)
    assert.is_truthy(err:find("boom", 1, true))
    assert.is_truthy(err:find("in %a* ?'?deep'?") or err:find("in upvalue 'deep'", 1, true), err)
  end)

  it("is reported together with all the others of the turn, of all barriers", function()
    local err = report_of [[
      for n = 1, 2 do
        local b = barrier.new(3)
        for i = 1, 3 do
          coroutine.wrap(function() b:wait() if i < 3 then error("boom " .. n .. i) end end)()
        end
      end
      uv.run()
    ]]
    for _, which in ipairs { "11", "12", "21", "22" } do
      assert.are.equal(1, count(err, "boom " .. which))
    end
  end)

  it("of an error table is reported as its tostring", function()
    local err = report_of [[
      local b = barrier.new(2)
      coroutine.wrap(function() b:wait() end)()
      b:abort "no disk"
      uv.run()
    ]]
    assert.is_truthy(err:find("BrokenBarrierError: barrier aborted: no disk\nstack traceback:", 1,
      true), err)
  end)

  it("is reported whatever the error is", function()
    for _, value in ipairs { "nil", "{}", "false", "12", "print",
      "setmetatable({}, { __tostring = function() error 'in tostring' end })" } do
      report_of("local b = barrier.new(2) coroutine.wrap(function() b:wait() error(" .. value
        .. ") end)() coroutine.wrap(function() b:wait() end)() uv.run()")
    end
  end)

  it("is reported even if its error has no text", function()
    local untellable = "setmetatable({}, { __tostring = function() error({}) end })"
    for _, wait in ipairs {
      "coroutine.wrap(function() b:wait() error(%s) end)()",
      "b:wait(function() error(%s) end)",
    } do
      local err, out = report_of("local b = barrier.new(2) " .. wait:format(untellable)
        .. " b:wait(function() print 'passed' end) uv.run()")
      assert.are.equal("passed\n", out)
      assert.is_truthy(err:find("Uncaught Error: .*table.*\nstack traceback:"), err)
    end
  end)

  support.it_in_c("is reported even if a hook makes the report itself fail", function()
    if jit then
      pending "LuaJIT calls no hook where C calls C"
    end
    local err, out = report_of [[
      local b, boom = barrier.new(3), {}
      debug.sethook(function()
        local _, argument = debug.getlocal(2, 1)
        if argument == boom then error {} end
      end, "c")
      for _ = 1, 2 do coroutine.wrap(function() b:wait() error(boom) end)() end
      b:wait(function() print "passed" end)
      uv.run()
    ]]
    assert.are.equal("passed\n", out)
    local both = "Uncaught Error: (error in error handling)\n(error in error handling)\n"
    assert.is_truthy(err:find(both, 1, true), err)
  end)

  it("is reported without a traceback if there is no debug library", function()
    local err = report_of [[
      local b = barrier.new(2)
      coroutine.wrap(function() b:wait() error("boom", 0) end)()
      b:wait(function() end)
      debug = nil
      uv.run()
    ]]
    assert.is_truthy(err:find("Uncaught Error: boom", 1, true), err)
  end)

  it("is reported for TimeoutError, but not for cancel's CancelledError", function()
    assert.is_truthy(report_of([[
      local b = barrier.new(2)
      local co = coroutine.create(function() b:wait() end)
      coroutine.resume(co)
      coroutine.resume(co)
      uv.run()
    ]]):find("CancelledError: wait cancelled: resumed by somebody else\nstack", 1, true))
    assert.is_truthy(report_of([[
      local b = barrier.new(2)
      coroutine.wrap(function() b:wait(1) end)()
      uv.run()
    ]]):find("TimeoutError: wait timed out after 1 ms, 1 of 2 had arrived\nstack", 1, true))
    assert.are.equal("goes on\n", support.output_of [[
      local b = barrier.new(2)
      local co = coroutine.create(function() b:wait() end)
      coroutine.resume(co)
      b:cancel(co)
      uv.run()
      print "goes on"
    ]])
  end)

  it("is reported for the error of an action that ran when it was let in", function()
    local err, out = report_of [[
      local calls = 0
      local b = barrier.new(2, { action = function()
        calls = calls + 1
        if calls == 2 then error("boom", 0) end
      end })
      for i = 1, 3 do b:wait(function(e, position) print(i, e and e.message or position) end) end
      coroutine.wrap(function() b:wait() end)()
      uv.run()
    ]]
    assert.are.equal("1\t0\n2\t1\n3\tbarrier aborted\n", out)
    assert.is_truthy(err:find("Uncaught Error: boom\nstack traceback:", 1, true), err)
  end)

  it("has its pending variables closed", function()
    if not coroutine.close then
      pending("this Lua has no to-be-closed variables")
      return
    end
    local err, out = report_of [=[
      local b = barrier.new(2)
      local body = load [[
        local b = ...
        local x <close> = setmetatable({}, { __close = function(_, e) print("closed", e) end })
        local y <close> = setmetatable({}, { __close = function() error("second", 0) end })
        b:wait()
        error("first", 0)
      ]]
      local co = coroutine.create(body)
      coroutine.resume(co, b)
      coroutine.wrap(function() b:wait() end)()
      local timer = uv.new_prepare()
      uv.run()
    ]=]
    assert.are.equal("closed\tsecond\n", out)
    assert.is_truthy(err:find("first", 1, true))
    assert.is_truthy(err:find("second", 1, true))
  end)
end)

describe("a callback that raises", function()
  it("stops no other party, and is reported with a traceback", function()
    local err, out = report_of [[
      local b = barrier.new(2)
      local function deep() error "boom" end
      b:wait(function() deep() end)
      b:wait(function() print "second" end)
      uv.run()
    ]]
    assert.are.equal("second\n", out)
    assert.is_truthy(err:find("boom\nstack traceback:", 1, true), err)
  end)
end)
