-- Runs each block of Lua in README.md and the pages in doc, and compares its output with the
-- block of text that follows. A comment before a block says what it needs besides luv.
-- Links between the documents have to lead somewhere.
local uv = require "luv"
local support = require "spec.support"
local redis = require "spec.redis_support"

local read = support.read
local unpack = table.unpack or unpack

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
    return program ~= "no" and program or nil
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

local function run_in_nvim(nvim, code, lines, prelude)
  local block, driver = write_temporary(code), write_temporary((prelude or "") .. NVIM_DRIVER)
  local result = support.spawn(nvim, {
    "--headless", "-u", "NONE", "-i", "NONE", "-n", "--noplugin",
    "-c", "luafile " .. driver, "-c", "qa!",
  }, { env = { "BLOCK=" .. block, "LINES_WANTED=" .. lines } })
  os.remove(block)
  os.remove(driver)
  return result
end

-- Stand-ins for the frameworks. Each follows the protocol of the real one: which side passes the
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

-- Neovim has vim.system from 0.10 on. This stand-in does what the blocks need of it.
local VIM_SYSTEM = [[
vim.system = vim.system or function(command, _, on_exit)
  local uv, out, text, status, process, problem = vim.loop, vim.loop.new_pipe(false), "", nil
  local function check()
    if status and out:is_closing() then
      on_exit { code = status, signal = 0, stdout = text }
    end
  end
  process, problem = uv.spawn(command[1], {
    args = vim.list_slice(command, 2),
    stdio = { nil, out },
  }, function(code)
    process:close()
    status = code
    check()
  end)
  if not process then
    error(problem)
  end
  out:read_start(function(_, chunk)
    if chunk then
      text = text .. chunk
    else
      out:close()
      check()
    end
  end)
end
]]

-- A plugin manager that has installed what it is asked for.
local VIM_PACK = [[vim = { pack = { add = function(list) print(list[1]) end } }]] .. "\n"

---Runs a block inside Neovim, or returns why it cannot.
local function run_block_in_nvim(block, code, prelude)
  local nvim = find_nvim()
  if not nvim then
    return "there is no Neovim here"
  elseif _VERSION ~= "Lua 5.1" then
    return "Neovim's Lua is 5.1"
  end
  check(block, run_in_nvim(nvim, code, #(block.output or {}), prelude))
end

---These run a block that needs something. If they cannot, they return the reason.
local runners = {
  ["a pcall that can yield"] = function(block, code)
    if not support.pcall_yields then
      return "PUC Lua 5.1 cannot yield inside pcall"
    end
    check(block, run(code))
  end,

  ["programs of Unix"] = function(block, code)
    if package.config:sub(1, 1) == "\\" then
      return "there is no echo and no false here"
    end
    check(block, run(code))
  end,

  busted = function(_, code)
    if not support.pcall_yields then
      return "PUC Lua 5.1 cannot yield inside pcall"
    end
    local path = write_temporary('require "busted.runner" { output = "TAP" }\n' .. code)
    local result = support.script(path)
    os.remove(path)
    assert.are.equal(0, result.code, result.out .. result.err)
    assert.is_truthy(result.out:find("ok 1 - two parties meet", 1, true), result.out)
  end,

  ["lazy.nvim"] = function(_, code)
    local spec = assert((loadstring or load)(code:find "^return" and code or "return " .. code))()
    assert.are.equal("luv-barrier/luv-barrier", (spec.dependencies or spec)[1])
  end,

  ["vim.pack"] = function(_, code)
    local result = run(VIM_PACK .. code)
    assert.are.equal("", result.err)
    assert.are.equal("https://github.com/luv-barrier/luv-barrier\n", result.out)
  end,

  ["a Redis server at $REDIS_URL"] = function(block, code)
    if not redis.has_redis then
      return "there is no redis-server"
    end
    local server = redis.server()
    check(block, redis.run_out(redis.lua({ REDIS_URL = server.url }, "-e", code)))
    server:close()
  end,

  -- spec/redis_faults_spec.lua does it.
  ["a Redis server with TLS"] = function(_, code)
    assert((loadstring or load)(code))
  end,

  nvim = run_block_in_nvim,

  ["vim.system"] = function(block, code)
    return run_block_in_nvim(block, code, VIM_SYSTEM)
  end,

  frameworks = function(_, code)
    local result = run(FRAMEWORKS .. code .. '\nrequire("luv").run()')
    assert.are.equal("", result.err)
    assert.are.equal(
      "group\tnil\tresult\nnvim-nio\tnil\t0\nplenary\tnil\t1\ncoop\tnil\t2\nasync.nvim\tnil\t3\n",
      result.out
    )
  end,
}

---Describes the blocks of a document, and counts those of each kind.
local function describe_blocks(path, kinds)
  for _, block in ipairs(read_blocks(path)) do
    local kind = block.needs or "nothing"
    kinds[kind] = (kinds[kind] or 0) + 1
    local code = text(block)
    local threads = code:find("new_thread", 1, true) and ", in another thread" or ""
    local it_shares = code:find "%.shared" and support.it_in_c or it
    it_shares("has code that works as stated in line " .. block.line .. threads, function()
      if kind == "nothing" then
        check(block, run(code))
        return
      end
      local runner = assert(runners[kind], "nothing knows how to run what needs " .. kind)
      local reason = runner(block, code)
      if reason then
        pending(reason)
      end
    end)
  end
end

---The pages in doc.
local pages = {}
for name in uv.fs_scandir_next, assert(uv.fs_scandir "doc") do
  if name:find "%.md$" then
    pages[#pages + 1] = "doc/" .. name
  end
end
table.sort(pages)

describe("the documents", function()
  local kinds = {}
  for _, path in ipairs { "README.md", unpack(pages) } do
    if path ~= "doc/by_hand.md" then -- spec/by_hand_spec.lua runs its blocks
      describe(path, function()
        describe_blocks(path, kinds)
      end)
    end
  end

  it("have blocks of every kind", function()
    for kind in pairs(runners) do
      assert.is_truthy(kinds[kind], kind)
    end
    assert.is_true(kinds.nothing >= 12)
  end)
end)

---The anchors that a forge gives to the headings of a document.
local function anchors_of(content)
  local anchors = {}
  for heading in ("\n" .. content:gsub("\n```.-\n```", "")):gmatch "\n#+ ([^\n]+)" do
    local anchor = heading:lower():gsub("[^%w%- ]", ""):gsub(" ", "-")
    local name, n = anchor, 0
    while anchors[name] do
      n = n + 1
      name = anchor .. "-" .. n
    end
    anchors[name] = true
  end
  return anchors
end

describe("the documents", function()
  for _, path in ipairs { "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md",
    "spec/README.md", unpack(pages) } do
    it("have no link that leads nowhere: " .. path, function()
      local content = read(path)
      local folder = path:match "^(.*/)" or ""
      for target in content:gmatch "%]%(([^)]*)%)" do
        local file, anchor = target:match "^([^#]*)#?(.*)$"
        if not target:find "^https?:" then
          local linked = file == "" and path or folder .. file
          linked = linked:gsub("[^/]+/%.%./", "")
          assert.is_truthy(uv.fs_stat(linked), target)
          if anchor ~= "" then
            assert.is_true(anchors_of(read(linked))[anchor] or false, target)
          end
        end
      end
    end)
  end

  it("speak of the version that this is", function()
    local version = require("barrier")._VERSION
    assert.is_truthy(read("doc/barrier.txt"):find(version, 1, true))
    for _, path in ipairs { "README.md", "doc/barrier.txt", unpack(pages) } do
      for other in read(path):gmatch "luv%-barrier[ -]%d+%.%d+%.%d+" do
        assert.are.equal(version, (other:gsub("^luv%-barrier.", "luv-barrier ")), path)
      end
    end
  end)
end)
