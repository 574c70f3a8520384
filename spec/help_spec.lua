-- doc/barrier.txt: its tags, and that it has every message that the library can print.
local uv = require "luv"
local support = require "spec.support"

local read = support.read

local help = read "doc/barrier.txt"

---Words are separated by one space, wherever the lines end.
local function squeeze(s)
  return (s:gsub("%s+", " "))
end

describe(":help barrier", function()
  it("has no tag twice, and no link to a tag that is not there", function()
    local tags = {}
    for tag in help:gmatch "%*([%w._:()-]+)%*" do
      assert.is_nil(tags[tag], tag)
      tags[tag] = true
    end
    for link in help:gmatch "|([%w._:()-]+)|" do
      if link:find "barrier" then
        assert.is_true(tags[link] or false, link)
      end
    end
  end)

  it("is no wider than 78 columns", function()
    for line in help:gmatch "([^\n]*)\n" do
      local column = 0
      for c in line:gmatch "." do
        column = c == "\t" and column - column % 8 + 8 or column + 1
      end
      assert.is_true(column <= 78, line)
    end
  end)
end)

-- Texts of the sources that are no message, or only a word in one.
local NO_MESSAGES = {
  "zig cc", "not found", "timed out", " or false", "(for generator)", "luv-barrier ",
  "Nn]o such file", "' file not found", "barrier%.core built for", "barrier.core built for",
  " is loaded", "luv is Neovim's own (", "a barrier trips in Neovim's loop", " object at ",
  ", this is ", "was built for", ", and this is", "  winget install", " install luv",
  "in a folder of", "LOADING BUSY", "unknown command", "<barrier.Group ", "callback, defined at ",
  "call of arrive at ", "parties that wait:", "no party waits",
}

local function is_message(literal)
  for _, text in ipairs(NO_MESSAGES) do
    if literal:find(text, 1, true) then
      return false
    end
  end
  return literal:find "%a+ %a" ~= nil
end

---Calls a function with each string literal of a source file.
local function each_literal(path, f)
  local source = read(path)
  if path:find "%.lua$" then
    source = source:gsub("%-%-[^\n]*", ""):gsub('"%s*%.%.%s*"', "")
  else
    source = source:gsub("/%*.-%*/", ""):gsub('"%s*"', "")
  end
  for literal in source:gsub('\\"', "\1"):gmatch '"([^"\n]*)"' do
    f((literal:gsub("\1", '"')))
  end
end

---Calls a function with each part of a message that is always the same. What comes in further
---lines is advice.
local function each_part(message, f)
  for part in (message:gsub("\\n.*", "") .. "%s"):gmatch "(.-)%%[sdp]" do
    local words = squeeze(part):match "^[ ,;.)]*(.-)[ ('%[]*$"
    if #words >= 8 then
      f(words)
    end
  end
end

describe("the table of messages", function()
  local first = help:find("*barrier-messages*", 1, true)
  local messages = squeeze(help:sub(first, help:find("*barrier-neovim*", first, true)))

  it("has every message of the sources", function()
    local missing, count = {}, 0
    for _, folder in ipairs { "src/host", "src/barrier", "src/shared", "lua/barrier",
      "lua/barrier/lua_core" } do
      local entries = assert(uv.fs_scandir(folder))
      for name in uv.fs_scandir_next, entries do
        local path = folder .. "/" .. name
        if name ~= "stuck.lua" and (name:find "%.[ch]$" or name:find "%.lua$") then
          each_literal(path, function(literal)
            each_part(is_message(literal) and literal or "", function(part)
              count = count + 1
              if not messages:find(part, 1, true) then
                missing[#missing + 1] = path .. ": " .. part
              end
            end)
          end)
        end
      end
    end
    assert.are.same({}, missing)
    assert.is_true(count > 60)
  end)
end)
