-- The example plugins, on a real repository; :checkhealth; :help.
local support = require "spec.nvim.support"

local uv, wait_for = support.uv, support.wait_for
local root = uv.cwd()

local function source(path)
  vim.cmd("source " .. vim.fn.fnameescape(root .. "/examples/neovim/" .. path))
end

describe("the plugin project-report", function()
  local dir, notify, messages

  before_each(function()
    dir = support.folder()
    local _, status = support.system { "git", "-C", dir, "init", "-q" }
    assert.are.equal(0, status)
    support.write(dir .. "/a.txt", "one\ntwo\n")
    support.write(dir .. "/b.txt", "three\n")
    support.system { "git", "-C", dir, "add", "a.txt" }
    local author = { "-c", "user.name=n", "-c", "user.email=e@example.org" }
    support.system(vim.list_extend(vim.list_extend({ "git", "-C", dir }, author),
      { "commit", "-q", "-m", "the first" }))
    vim.o.runtimepath = vim.o.runtimepath .. "," .. root .. "/examples/neovim/project-report"
    vim.g.loaded_project_report = nil
    source "project-report/plugin/project_report.lua"
    messages, notify = {}, vim.notify
    vim.notify = function(message)
      support.add(messages, message)
    end
    vim.cmd("edit " .. vim.fn.fnameescape(dir .. "/a.txt"))
  end)

  after_each(function()
    vim.notify = notify
    vim.cmd "silent! %bwipeout!"
    vim.fn.delete(dir, "rf")
  end)

  it("shows the three results in order", function()
    local file = vim.api.nvim_get_current_buf()
    vim.cmd "ProjectReport"
    wait_for(function()
      return vim.api.nvim_get_current_buf() ~= file or messages[1]
    end)
    assert.are.same({}, messages)
    local text = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), "\n")
    local status, log, lines =
      text:match("^== git status ==\n(.*)\n== git log ==\n(.*)\n== lines ==\n(.*)$")
    assert.is_truthy(status, text)
    assert.is_truthy(status:find("?? b.txt", 1, true))
    assert.is_truthy(log:find("the first", 1, true))
    assert.is_truthy(lines:find("2 a.txt", 1, true))
    assert.is_truthy(lines:find("3 total", 1, true))
  end)

  it("says why when a program fails", function()
    vim.fn.delete(dir .. "/.git", "rf")
    vim.cmd "ProjectReport"
    wait_for(function()
      return messages[1]
    end)
    assert.is_truthy(messages[1]:find("project-report: git ", 1, true), messages[1])
    assert.is_truthy(messages[1]:find("not a git repository", 1, true), messages[1])
  end)

  it("says why when a program is missing", function()
    local path = vim.env.PATH
    vim.env.PATH = dir
    vim.cmd "ProjectReport"
    vim.env.PATH = path
    wait_for(function()
      return messages[1]
    end)
    assert.is_truthy(messages[1]:find("ENOENT", 1, true), messages[1])
  end)
end)

describe("the three plugins of rendezvous", function()
  it("set up their commands when all of them have started", function()
    local dir = support.folder()
    assert.are.equal(0, select(2, support.system { "git", "-C", dir, "init", "-q" }))
    local output, status = support.chunk(([[
      local plugins = %q .. "/examples/neovim/rendezvous/plugin/"
      vim.cmd("cd " .. vim.fn.fnameescape(%q))
      local function there()
        return vim.fn.exists ":Branch" + vim.fn.exists ":GitVersion" + vim.fn.exists ":Files"
      end
      vim.cmd("source " .. plugins .. "branch.lua")
      vim.cmd("source " .. plugins .. "version.lua")
      vim.wait(100, function() return there() > 0 end)
      print("before", there())
      vim.cmd("source " .. plugins .. "files.lua")
      wait_for(function() return there() >= 4 end)
      print("after")
    ]]):format(root, dir))
    vim.fn.delete(dir, "rf")
    assert.are.equal(0, status, output)
    assert.is_truthy(output:find("before%s+0"), output)
    assert.is_truthy(output:find("after", 1, true), output)
  end)

  it("start without one that is missing, name it, and let it start when it comes", function()
    local dir = support.folder()
    assert.are.equal(0, select(2, support.system { "git", "-C", dir, "init", "-q" }))
    local output, status = support.chunk(([[
      local plugins = %q .. "/examples/neovim/rendezvous/plugin/"
      vim.cmd("cd " .. vim.fn.fnameescape(%q))
      local messages = {}
      vim.notify = function(message) messages[#messages + 1] = message end
      vim.g.rendezvous_timeout = 20
      vim.cmd("source " .. plugins .. "branch.lua")
      vim.cmd("source " .. plugins .. "files.lua")
      wait_for(function()
        return vim.fn.exists ":Branch" + vim.fn.exists ":Files" == 4
      end)
      print(table.concat(messages, "\n"))
      vim.g.rendezvous_timeout = 20000
      vim.cmd("source " .. plugins .. "version.lua")
      wait_for(function() return vim.fn.exists ":GitVersion" == 2 end)
      print(#messages .. " messages")
    ]]):format(root, dir))
    vim.fn.delete(dir, "rf")
    assert.are.equal(0, status, output)
    assert.is_truthy(output:find("branch: wait timed out after 20 ms, %d of 3 jobs were done, "
      .. "pending: [%a, ]*version"), output)
    assert.is_truthy(output:find("files: wait timed out after 20 ms, %d of 3 jobs were done, "
      .. "pending: [%a, ]*version"), output)
    assert.is_truthy(output:find("2 messages", 1, true), output)
  end)

  it("may be sourced in any order, and again", function()
    local dir = support.folder()
    assert.are.equal(0, select(2, support.system { "git", "-C", dir, "init", "-q" }))
    local output, status = support.chunk(([[
      local plugins = %q .. "/examples/neovim/rendezvous/plugin/"
      vim.cmd("cd " .. vim.fn.fnameescape(%q))
      local messages = {}
      vim.notify = function(message) messages[#messages + 1] = message end
      local function there()
        return vim.fn.exists ":Branch" + vim.fn.exists ":GitVersion" + vim.fn.exists ":Files"
      end
      for _, name in ipairs { "version", "files", "version", "branch" } do
        vim.cmd("source " .. plugins .. name .. ".lua")
      end
      wait_for(function() return there() == 6 end)
      vim.cmd "delcommand Branch"
      vim.cmd("source " .. plugins .. "branch.lua")
      wait_for(function() return there() == 6 end)
      vim.cmd "Branch"
      print(table.concat(messages, "\n"))
    ]]):format(root, dir))
    vim.fn.delete(dir, "rf")
    assert.are.equal(0, status, output)
    assert.is_truthy(output:find("^%s*on %w+%s*$"), output)
  end)
end)

describe(":checkhealth barrier", function()
  it("finds everything in place", function()
    vim.o.runtimepath = vim.o.runtimepath .. "," .. root
    vim.cmd "checkhealth barrier"
    local text = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), "\n")
    assert.is_truthy(text:find("luv%-barrier [%w.]+ is loaded"), text)
    assert.is_truthy(text:find("libuv %d"), text)
    assert.is_truthy(text:find("a barrier trips in Neovim's loop", 1, true), text)
    assert.is_nil(text:find("ERROR", 1, true))
    vim.cmd "silent! %bwipeout!"
  end)

  it("has a command that says the same where the module is not on 'runtimepath'", function()
    local output, status = support.chunk [[require("barrier.health").report()]]
    assert.are.equal(0, status, output)
    assert.is_truthy(output:find("OK luv%-barrier [%w.]+ is loaded"), output)
    assert.is_truthy(output:find("OK a barrier trips in Neovim's loop", 1, true), output)
  end)

  it("is about a plugin's copy, if it is called for that, where no C core is no fault", function()
    local dir = support.folder()
    vim.fn.mkdir(dir .. "/lua/myplugin", "p")
    support.system { "cp", "-R", root .. "/lua/barrier", dir .. "/lua/myplugin/barrier" }
    os.remove(dir .. "/lua/myplugin/barrier/core.so")
    local output = support.chunk(([[
      vim.env.BARRIER_CORE = nil
      package.preload.barrier = function() error "another barrier" end
      package.loaded.barrier = nil
      vim.o.runtimepath = vim.o.runtimepath .. ",%s"
      vim.cmd "checkhealth myplugin.barrier"
      io.stdout:write(table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), "\n"))
    ]]):format(dir))
    vim.fn.delete(dir, "rf")
    assert.is_truthy(output:find("OK:? the core in Lua is used"), output)
    assert.is_truthy(output:find("OK:? a barrier trips in Neovim's loop"), output)
    assert.is_truthy(output:find("its C core is not installed", 1, true), output)
    assert.is_nil(output:find("WARNING", 1, true), output)
  end)

  it("shows the reason again after a require that failed", function()
    local output = support.chunk [[
      package.loaded.barrier, package.loaded["barrier.core"] = nil, nil
      package.preload["barrier.core"] = function() error "the reason" end
      package.cpath, vim.o.runtimepath = "", vim.env.VIMRUNTIME
      vim.env.BARRIER_CORE = "c"
      print(select(2, pcall(require, "barrier")))
      print "again"
      require("barrier.health").report()
      print "Lua's mark"
      package.loaded.barrier = vim.NIL -- what Lua 5.1 leaves there while it loads a module
      require("barrier.health").report()
    ]]
    local first, again, mark = output:match "^(.*)again(.*)Lua's mark(.*)$"
    for _, text in ipairs { first, again, mark } do
      assert.is_truthy(text:find("the reason", 1, true), output)
      assert.is_nil(text:find("loop or previous", 1, true), output)
    end
  end)
end)

describe('require "barrier"', function()
  it("loads the core when something of it is first used", function()
    for _, use in ipairs { "barrier.new(1)", "return barrier.TimeoutError", "barrier.group()",
      "barrier.stuck()", "barrier.close()", "return barrier.implementation" } do
      assert.are.equal("false true", (support.chunk(([[
        local function is_loaded()
          return tostring(package.loaded["barrier.environment"] ~= nil)
        end
        local before = is_loaded();
        (function() %s end)()
        io.stdout:write(before, " ", is_loaded())
      ]]):format(use))), use)
    end
  end)
end)

describe(":help barrier", function()
  it("has a tag for each link", function()
    local doc = support.folder()
    local file = assert(io.open(root .. "/doc/barrier.txt"))
    local text = file:read("*a")
    file:close()
    support.write(doc .. "/barrier.txt", text)
    vim.cmd("helptags " .. vim.fn.fnameescape(doc))
    local tags = "\n" .. table.concat(vim.fn.readfile(doc .. "/tags"), "\n")
    local own = 0
    for link in text:gmatch("|([^|%s]+)|") do
      if link:find("arrier") or link:find("Error$") then
        own = own + 1
        assert.is_truthy(tags:find("\n" .. link .. "\t", 1, true), link)
      end
    end
    assert.is_true(own > 3)
    vim.fn.delete(doc, "rf")
  end)
end)

describe("an error that a resumed coroutine does not catch", function()
  it("is shown by Neovim with its traceback", function()
    local output = support.chunk [[
      local b = barrier.new(2)
      local function deep() error "boom" end
      for i = 1, 2 do
        coroutine.wrap(function() b:wait() if i == 1 then deep() end end)()
      end
      wait_for(function() return vim.v.errmsg ~= "" end)
      print(vim.v.errmsg)
    ]]
    assert.is_truthy(output:find("boom", 1, true), output)
    assert.is_truthy(output:find("deep", 1, true), output)
  end)
end)
