-- Runs each block of Lua in README.md, and compares its output with the block of text
-- that follows. A comment before a block says what it needs besides luv.
local uv = require "luv"
local support = require "spec.support"

---Returns the blocks of Lua: code, line, what they need, and the output if it follows.
local function read_blocks(path)
  local blocks, number = {}, 0
  local open, needs, last -- the block being read; the comment and the block before it
  for line in io.lines(path) do
    number = number + 1
    if open then
      if line == "```" then
        open = nil
      else
        open[#open + 1] = line
      end
    elseif line == "```lua" then
      open = { line = number, needs = needs }
      blocks[#blocks + 1] = open
      last, needs = open, nil
    elseif line == "```text" and last then
      open = {}
      last.output, last = open, nil
    elseif line:find "^```" then
      open, last = {}, nil
    elseif line ~= "" then
      last, needs = nil, line:match "^<!%-%- needs: (.*) %-%->$"
    end
  end
  assert(not open, "a block in " .. path .. " has no end")
  return blocks
end

local function text(lines)
  return table.concat(lines, "\n") .. "\n"
end

local function without_addresses(s)
  return (s:gsub("0x%x+", "0x..."))
end

---Expects a process to have ended well.
local function check(block, result)
  assert.are.equal("", result.err)
  assert.are.equal(0, result.code)
  if block.output then
    assert.are.equal(without_addresses(text(block.output)), without_addresses(result.out))
  end
end

local function run(code)
  return support.spawn(support.interpreter, { "-e", code })
end

local function find_nvim()
  local program = os.getenv "NVIM_PROGRAM"
  if program then
    return program
  end
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    if uv.fs_access(folder .. "/nvim", "X") then
      return folder .. "/nvim"
    end
  end
end

-- Runs the file at $BLOCK until it has printed $LINES lines, or for 20 seconds.
local NVIM_DRIVER = [[
local printed = {}
function print(...)
  table.insert(printed, table.concat(vim.tbl_map(tostring, { ... }), "\t") .. "\n")
end
vim.notify = print
local ok, err = xpcall(assert(loadfile(vim.env.BLOCK)), debug.traceback)
if not ok then
  io.stderr:write(err)
  vim.cmd "cquit"
end
vim.wait(20000, function()
  return #printed >= tonumber(vim.env.LINES_WANTED)
end, 5)
vim.wait(20) -- catches an error that comes right afterwards
io.stdout:write(table.concat(printed))
io.stdout:flush()
]]

local function write_temporary(code)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(code)
  file:close()
  return path
end

local function run_in_nvim(nvim, code, lines)
  local block, driver = write_temporary(code), write_temporary(NVIM_DRIVER)
  local result = support.spawn(nvim, {
    "--headless", "-u", "NONE", "-i", "NONE", "-n", "--noplugin",
    "-c", "luafile " .. driver, "-c", "qa!",
  }, { env = { "BLOCK=" .. block, "LINES_WANTED=" .. lines } })
  os.remove(block)
  os.remove(driver)
  return result
end

-- Stand-ins for the frameworks. Each follows the protocol of the real one: who passes the
-- callback, as which argument, and what the call returns.
local FRAMEWORKS = [[
vim = {}
local unpack = table.unpack or unpack

local function run(f)
  local co = coroutine.create(f)
  local function step(...)
    local ok, start = coroutine.resume(co, ...)
    assert(ok, start)
    if coroutine.status(co) ~= "dead" then
      start(step)
    end
  end
  step()
end

local function await(position, f, ...)
  local args = { ... }
  return coroutine.yield(function(step)
    args[position] = step
    assert(f(unpack(args, 1, position)).close)
  end)
end

local function wrap(f, position)
  return function(...)
    return await(position, f, ...)
  end
end

local function callback_first(f, options)
  assert(options.on_cancel)
  return function(...)
    local args = { ... }
    return coroutine.yield(function(step)
      f(step, unpack(args))
    end)
  end
end

package.loaded["async"] = { run = run, await = await }
package.loaded["nio"] = { run = run, wrap = wrap }
package.loaded["plenary.async"] = { run = run, wrap = wrap }
package.loaded["coop"] = { spawn = run, cb_to_tf = callback_first }
]]

---These run a block that needs something. If they cannot, they return the reason.
local runners = {
  ["a pcall that can yield"] = function(block, code)
    if not support.pcall_yields then
      return "PUC Lua 5.1 cannot yield inside pcall"
    end
    check(block, run(code))
  end,

  nvim = function(block, code)
    local nvim = find_nvim()
    if not nvim then
      return "there is no Neovim here"
    elseif _VERSION ~= "Lua 5.1" then
      return "Neovim's Lua is 5.1"
    end
    check(block, run_in_nvim(nvim, code, #(block.output or {})))
  end,

  frameworks = function(_, code)
    local result = run(FRAMEWORKS .. code .. '\nrequire("luv").run()')
    assert.are.equal("", result.err)
    assert.are.equal(
      "async.nvim\tnil\t0\nnvim-nio\tnil\t1\nplenary\tnil\t2\ncoop\tnil\t3\n",
      result.out
    )
  end,
}

describe("README.md", function()
  local blocks = read_blocks "README.md"

  it("has blocks of every kind", function()
    local kinds = {}
    for _, block in ipairs(blocks) do
      local kind = block.needs or "nothing"
      kinds[kind] = (kinds[kind] or 0) + 1
      assert.is_truthy(runners[kind] or kind == "nothing", kind)
    end
    for kind in pairs(runners) do
      assert.is_truthy(kinds[kind], kind)
    end
    assert.is_true(kinds.nothing >= 7)
  end)

  for _, block in ipairs(blocks) do
    it("has code that works as stated in line " .. block.line, function()
      local code = text(block)
      assert((loadstring or load)(code, "@README.md"))
      if not block.needs then
        check(block, run(code))
        return
      end
      local reason = runners[block.needs](block, code)
      if reason then
        pending(reason)
      end
    end)
  end
end)
