-- Runs each block of Lua in README.md, and compares its output with the block of text
-- that follows.
local support = require "spec.support"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

---Blocks of Lua with their line, the output that follows, if any, and whether they
---need Neovim.
local function blocks()
  local list, block, output, number, marked, last = {}, nil, nil, 0, false, nil
  for line in read("README.md"):gmatch("([^\n]*)\n") do
    number = number + 1
    if line == "```lua" then
      block = { line = number, nvim = marked, code = {} }
      marked = false
    elseif line == "```text" and last then
      output = {}
    elseif line == "```" then
      if block then
        list[#list + 1], last, block = block, block, nil
      elseif output then
        last.output, last, output = table.concat(output, "\n") .. "\n", nil, nil
      end
    elseif block then
      table.insert(block.code, line)
    elseif output then
      output[#output + 1] = line
    elseif line == "<!-- needs: nvim -->" then
      marked = true
    elseif line ~= "" then
      last = nil
    end
  end
  return list
end

describe("README.md", function()
  local list = blocks()

  it("has blocks to run", function()
    assert.is_true(#list >= 6)
  end)

  for _, block in ipairs(list) do
    it("runs as it says, line " .. block.line, function()
      local code = table.concat(block.code, "\n")
      if block.nvim then
        assert((loadstring or load)(code))
        return
      end
      local result = support.spawn(require("luv").exepath(), { "-e", code })
      assert.are.equal("", result.err)
      assert.are.equal(0, result.code)
      if block.output then
        assert.are.equal(block.output, result.out)
      end
    end)
  end
end)
