-- Groups inside Neovim, and the example plugin that uses them.
local barrier = require "barrier"
local support = require "spec.nvim.support"

local uv, co, add, wait_for = support.uv, support.co, support.add, support.wait_for
local in_fast_event = support.in_fast_event
local root = uv.cwd()

describe("in Neovim, a party that waits for a group", function()
  local buffer

  before_each(function()
    buffer = vim.api.nvim_create_buf(false, true)
  end)

  after_each(function()
    vim.api.nvim_buf_delete(buffer, { force = true })
  end)

  it("goes on where vim.api may be called, though the last job is done in a fast event", function()
    local group, told = barrier.group(), 0
    for i = 1, 3 do
      local done = group:add()
      in_fast_event(function()
        done(nil, "line " .. i)
      end)
    end
    co(function()
      local err, results = group:wait()
      assert.is_nil(err)
      vim.api.nvim_buf_set_lines(buffer, 0, -1, true, results)
      told = told + 1
    end)
    group:wait(function(_, results)
      assert.is_false(vim.in_fast_event())
      assert.are.same(results, vim.api.nvim_buf_get_lines(buffer, 0, -1, true))
      told = told + 1
    end)
    wait_for(function()
      return told == 2
    end)
    assert.are.same({ "line 1", "line 2", "line 3" },
      vim.api.nvim_buf_get_lines(buffer, 0, -1, true))
  end)

  it("may call wait in a fast event, add, pending and abort too", function()
    local log = {}
    in_fast_event(function()
      local group = barrier.group()
      local done = group:add "key"
      add(log, group:pending()[1])
      co(function()
        group:wait()
        add(log, vim.api.nvim_buf_is_valid(buffer))
      end)
      done()
      co(function() -- complete already
        group:wait()
        add(log, vim.api.nvim_buf_is_valid(buffer))
      end)
      group:wait(function(err)
        add(log, vim.api.nvim_buf_is_valid(buffer) and err == nil)
      end)
      local aborted = barrier.group()
      aborted:wait(function(err)
        add(log, vim.api.nvim_buf_is_valid(buffer) and tostring(err))
      end)
      aborted:abort "why"
    end)
    wait_for(function()
      return #log == 5
    end)
    table.sort(log, function(a, b)
      return tostring(a) < tostring(b)
    end)
    assert.are.same({ "BrokenBarrierError: group aborted: why", "key", true, true, true }, log)
  end)

  it("goes on there after a timeout and after the first error", function()
    local log = {}
    local slow = barrier.group()
    slow:add "slow"
    co(function()
      local err = slow:wait(1)
      add(log, vim.api.nvim_buf_is_valid(buffer) and err.pending[1])
    end)
    local failing = barrier.group { stop_on_error = true }
    failing:add "never"
    local done = failing:add "bad"
    in_fast_event(function()
      done "failed"
    end)
    co(function()
      local _, _, errors = failing:wait()
      add(log, vim.api.nvim_buf_is_valid(buffer) and errors.bad)
    end)
    wait_for(function()
      return #log == 2
    end)
    table.sort(log)
    assert.are.same({ "failed", "slow" }, log)
  end)
end)

describe("in Neovim, a group", function()
  local function wait_until_over(group)
    local over
    group:wait(function(err)
      over = { err = err }
    end)
    wait_for(function()
      return over
    end)
    return over.err
  end

  it("starts queued jobs where vim.api may be called", function()
    local group, seen = barrier.group { limit = 1 }, {}
    for i = 1, 3 do
      group:start(i, function(done)
        add(seen, vim.in_fast_event() and "fast" or vim.api.nvim_get_current_buf() and "safe")
        in_fast_event(done)
      end)
    end
    assert.is_nil(wait_until_over(group))
    assert.are.same({ "safe", "safe", "safe" }, seen)
  end)

  it("stops jobs at once, also in a fast event", function()
    local group, log = barrier.group { stop_on_error = true }, {}
    group:add("other", function()
      add(log, vim.in_fast_event())
    end)
    local done = group:add "bad"
    in_fast_event(function()
      done "failed"
      add(log, "after done")
    end)
    assert.are.equal("GroupError", wait_until_over(group).name)
    assert.are.same({ true, "after done" }, log)
  end)

  it("stops jobs of its timeout where vim.api may be called", function()
    local group, log = barrier.group { timeout = 5 }, {}
    group:add("slow", function()
      add(log, vim.in_fast_event())
    end)
    assert.are.equal("TimeoutError", wait_until_over(group).name)
    assert.are.same({ false }, log)
  end)

  it("is complete in vim.wait with fast_only if its schedule is false", function()
    local group, over = barrier.group { schedule = false }, false
    in_fast_event(group:add())
    group:wait(function()
      assert.is_true(vim.in_fast_event())
      over = true
    end)
    assert.is_true(vim.wait(20000, function()
      return over
    end, 5, true))
  end)

  it("reports the error of a stop", function()
    local output = support.chunk [[
      local group = barrier.group()
      group:add(1, function() error "in the stop" end)
      group:abort()
      vim.wait(100, function() return vim.v.errmsg ~= "" end)
      io.stdout:write(vim.v.errmsg)
    ]]
    assert.is_truthy(output:find("in the stop", 1, true), output)
  end)

  it("runs coroutines that may call vim.api after an await", function()
    local group = barrier.group()
    group:run("stat", function()
      local _, stat = barrier.await(uv.fs_stat, ".")
      return vim.api.nvim_get_current_buf() and stat.type
    end)
    local results
    group:wait(function(_, all)
      results = all
    end)
    wait_for(function()
      return results
    end)
    assert.are.equal("directory", results.stat)
  end)

  it("stops vim.system's object, or a process, with sigterm", function()
    local log, group = {}, barrier.group()
    group:add("system", { kill = function(_, signal) add(log, signal) end, wait = error,
      is_closing = error })
    group:abort()
    assert.are.same({ "sigterm" }, log)
  end)
end)

describe("in Neovim, barrier.run", function()
  it("runs Neovim's loop until main has ended", function()
    local _, stat = barrier.run(10000, function()
      local err, result = barrier.await(uv.fs_stat, ".")
      vim.api.nvim_get_current_buf()
      return err, result
    end)
    assert.are.equal("directory", stat.type)
  end)

  it("raises main's error, and one with the report of stuck when the time has passed", function()
    local ok, err = pcall(barrier.run, function()
      barrier.await(uv.fs_stat, ".")
      error "failed"
    end)
    assert.is_false(ok)
    assert.is_truthy(err:find(": failed\nstack traceback:", 1, true), err)
    local b = barrier.new(2)
    ok, err = pcall(barrier.run, 20, function()
      b:wait()
    end)
    assert.is_false(ok)
    assert.is_truthy(err:find("main has not ended after 20 ms\n<barrier.Barrier", 1, true), err)
    b:wait(function() end)
    support.idle()
  end)

  it("is refused in a fast event", function()
    local ok, err
    in_fast_event(function()
      ok, err = pcall(barrier.run, error)
    end)
    wait_for(function()
      return err
    end)
    assert.is_false(ok)
    assert.is_truthy(err:find("cannot run the loop in a fast event", 1, true), err)
  end)
end)

---vim.system of Neovim 0.10, as far as the example needs it, for an older Neovim.
local function system(command, options, callback)
  local chunks, streams = { "", "" }, { uv.new_pipe(false), uv.new_pipe(false) }
  local input, open, code, signal = uv.new_pipe(false), 3, nil, nil
  local process
  local function ended()
    open = open - 1
    if open == 0 then
      callback { code = code, signal = signal, stdout = chunks[1], stderr = chunks[2] }
    end
  end
  process = uv.spawn(command[1], {
    args = vim.list_slice(command, 2), stdio = { input, streams[1], streams[2] },
  }, function(...)
    code, signal = ...
    process:close()
    ended()
  end)
  if not process then
    error("ENOENT: no such file or directory: " .. command[1])
  end
  for i, stream in ipairs(streams) do
    stream:read_start(function(_, chunk)
      if chunk then
        chunks[i] = chunks[i] .. chunk
      else
        stream:close()
        ended()
      end
    end)
  end
  input:write(options.stdin, function()
    input:close()
  end)
  return process
end

for _, way in ipairs { "uv.spawn", "vim.system" } do
  describe("the plugin format_all with " .. way, function()
    local dir, format_all, messages
    local notify, vim_system = vim.notify, vim.system

    before_each(function()
      if way == "uv.spawn" then
        vim.system = nil
      else
        vim.system = vim_system or system
      end
      dir = support.folder()
      vim.o.runtimepath = vim.o.runtimepath .. "," .. root .. "/examples/neovim/format_all"
      vim.g.loaded_format_all = nil
      vim.cmd("source " .. vim.fn.fnameescape(root
        .. "/examples/neovim/format_all/plugin/format_all.lua"))
      package.loaded.format_all = nil
      format_all = require "format_all"
      messages = {}
      vim.notify = function(message)
        add(messages, message)
      end
      vim.cmd("edit " .. vim.fn.fnameescape(dir .. "/a.txt"))
      vim.bo.filetype = "text"
    end)

    after_each(function()
      vim.notify, vim.system = notify, vim_system
      vim.cmd "silent! %bwipeout!"
      vim.fn.delete(dir, "rf")
    end)

    local function get_lines()
      return vim.api.nvim_buf_get_lines(0, 0, -1, true)
    end

    local function set_lines(lines)
      vim.api.nvim_buf_set_lines(0, 0, -1, true, lines)
    end

    ---A formatter that is a shell script.
    local function shell(name, script)
      return { name = name, command = { "sh", "-c", script } }
    end

    ---A formatter that says in the file `started` that it runs, and never ends.
    local function endless(name)
      return shell(name, "echo $$ >" .. dir .. "/started; exec sleep 1000")
    end

    local function wait_until_started()
      local pid
      wait_for(function()
        pid = vim.fn.filereadable(dir .. "/started") == 1
          and tonumber(vim.fn.readfile(dir .. "/started")[1])
        return pid
      end)
      return pid
    end

    ---True if the process is gone, even if its status has not been read.
    local function wait_until_gone(pid)
      wait_for(function()
        return uv.kill(pid, 0) ~= 0
      end)
    end

    it("applies what each of them has changed", function()
      set_lines { "  one", "two ", "three", "four" }
      format_all.formatters.text = {
        shell("indent", "sleep 0.05; sed 's/^ *//'"),
        shell("trailing", "sed 's/ *$//'"),
        shell("insert", "awk 'NR == 3 { print \"inserted\" } { print }'"),
        shell("upper", "sed s/three/THREE/"),
        shell("delete", "sed /four/d"),
        { name = "nothing", command = { "cat" } },
      }
      vim.cmd "FormatAll"
      wait_for(function()
        return get_lines()[1] == "one" or messages[1]
      end)
      assert.are.same({ "one", "two", "inserted", "THREE" }, get_lines())
      assert.are.same({}, messages)
    end)

    it("lets the first of two win that change the same line, and names the other", function()
      set_lines { "one", "two" }
      format_all.formatters.text = {
        shell("slow", "sleep 0.05; sed s/one/slow/"),
        shell("fast", "sed s/one/fast/"),
        shell("same", "sed s/one/slow/"),
      }
      vim.cmd "FormatAll"
      wait_for(function()
        return messages[1]
      end)
      assert.are.same({ "slow", "two" }, get_lines())
      assert.are.same({ "format_all: fast: line 1 is slow's" }, messages)
    end)

    it("shows all errors once, with the names, and applies the others' results", function()
      set_lines { "one " }
      format_all.formatters.text = {
        shell("picky", "echo 'line 1 is bad' >&2; echo more >&2; exit 1"),
        shell("trailing", "sed 's/ *$//'"),
        { name = "missing", command = { dir .. "/no-such-program" } },
        shell("silent", "exit 3"),
        shell("killed", "kill -9 $$"),
      }
      vim.cmd "FormatAll"
      wait_for(function()
        return messages[1]
      end)
      support.idle()
      assert.are.same({ "one" }, get_lines())
      assert.are.equal(1, #messages)
      local lines = vim.split(messages[1], "\n")
      assert.are.equal("format_all: picky: line 1 is bad", lines[1])
      assert.is_truthy(lines[2]:find("^format_all: missing: .*ENOENT"), lines[2])
      assert.are.equal("format_all: silent: exit status 3", lines[3])
      assert.are.equal("format_all: killed: signal 9", lines[4])
      assert.are.equal(4, #lines)
    end)

    it("calls everything off when the buffer changes meanwhile", function()
      set_lines { "one " }
      format_all.formatters.text = { shell("trailing", "sed 's/ *$//'"), endless "endless" }
      vim.cmd "FormatAll"
      local pid = wait_until_started()
      set_lines { "changed " }
      wait_for(function()
        return messages[1]
      end)
      wait_until_gone(pid)
      support.idle()
      assert.are.same({ "format_all: called off, the buffer has changed" }, messages)
      assert.are.same({ "changed " }, get_lines())
    end)

    it("calls everything off when the buffer is closed", function()
      format_all.formatters.text = { endless "endless" }
      vim.cmd "FormatAll"
      local pid = wait_until_started()
      vim.cmd "bwipeout!"
      wait_for(function()
        return messages[1]
      end)
      wait_until_gone(pid)
      support.idle()
      assert.are.same({ "format_all: called off, the buffer was closed" }, messages)
    end)

    it("names the servers that do not answer in time, and stops them", function()
      set_lines { "one " }
      format_all.timeout = 100
      format_all.formatters.text = { endless "first", endless "second" }
      vim.cmd "FormatAll"
      wait_for(function()
        return messages[1]
      end)
      if vim.fn.filereadable(dir .. "/started") == 1 then
        wait_until_gone(wait_until_started())
      end
      assert.are.same({ "format_all: no answer within 100 ms from first, second" }, messages)
      assert.are.same({ "one " }, get_lines())
    end)

    it("does not mind a formatter that reads nothing, and a large buffer", function()
      local lines = {}
      for i = 1, 20000 do
        lines[i] = "line " .. i
      end
      set_lines(lines)
      lines[20000] = "the end"
      format_all.formatters.text = {
        shell("deaf", "exit 0"),
        shell("end", "sed '$s/.*/the end/'"),
      }
      vim.cmd "FormatAll"
      wait_for(function()
        return messages[1] or get_lines()[1] == ""
      end)
      assert.is_truthy((messages[1] or ""):find("end: line 20000 is deaf's", 1, true), messages[1])
      assert.are.same({ "" }, get_lines()) -- what `deaf` has made of it
    end)
  end)
end
