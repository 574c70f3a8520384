-- The fifth task of doc/by_hand.md; spec/by_hand_spec.lua has the others.
local support = require "spec.nvim.support"

local tasks = require "spec.by_hand" "doc/by_hand.md"

---Runs a block, then `use`, which calls `show` with a buffer, in a Neovim of its own, until the
---buffer changes, an error is shown, or the time is over. Returns what is in the buffer, and
---Neovim's own output.
local function run(block, use, milliseconds)
  local output = support.chunk(([[
    %s
    local buffer = vim.api.nvim_create_buf(false, true)
    %s
    local function get_lines()
      return vim.api.nvim_buf_get_lines(buffer, 0, -1, true)
    end
    vim.wait(%d, function()
      return get_lines()[1] ~= "" or vim.v.errmsg ~= ""
    end, 5)
    for i, line in ipairs(get_lines()) do
      io.stdout:write("[", i, " ", line, "]")
    end
  ]]):format(block, use, milliseconds or 20000))
  local lines = {}
  for line in output:gmatch "%[%d (.-)%]" do
    lines[#lines + 1] = line
  end
  return lines, output
end

describe("doc/by_hand.md, 5: answers in a buffer", function()
  local by_hand, with_group = tasks[5][1], tasks[5][2]

  it("works with a group, in the order of the servers", function()
    local lines, output = run(with_group, 'show({ "late", "bad", "b" }, buffer)')
    assert.are.same({ "answer of late", "bad has failed", "answer of b" }, lines, output)
  end)

  it("works by hand if the last answer does not come in a callback of luv", function()
    local lines, output = run(by_hand, 'show({ "at once", "at once, bad" }, buffer)')
    assert.are.same({ "answer of at once", "at once, bad has failed" }, lines, output)
  end)

  it("by hand fails if the last answer comes in a callback of luv", function()
    local lines, output = run(by_hand, 'show({ "at once", "b" }, buffer)')
    assert.are.same({ "" }, lines)
    local problem = "E5560: nvim_buf_set_lines must not be called"
    assert.is_truthy(output:find(problem, 1, true), output)
  end)

  it("by hand ends before its time if a server calls back twice", function()
    local use = 'show({ "at once, twice", "never" }, buffer)'
    assert.are.same({ "answer of at once, twice" }, (run(by_hand, use)))
    assert.are.same({ "" }, (run(with_group, use, 100)))
  end)

  it("leaves the buffer alone when it is closed, both ways", function()
    for _, block in ipairs { by_hand, with_group } do
      local lines, output = run(block, 'show({ "a", "b" }, buffer):close()', 100)
      assert.are.same({ "" }, lines)
      assert.is_nil(output:find("E%d+:"), output)
    end
  end)
end)
