-- What doc/c-module.md names is there: files, functions, lines of code, specs.
local uv = require "luv"
local support = require "spec.support"

local read = support.read

local PAGE = "doc/c-module.md"

---True if the name, or what follows the last slash or dot of it, is a word of the text.
local function has_word(text, name)
  return text:find("%f[%w_]" .. name:gsub("%p", "%%%0") .. "%f[^%w_]") ~= nil
end

-- What Lua, luv and Neovim have.
local OTHERS = {}
for name in ([[
  coroutine.close coroutine.wrap uv.walk vim.wait lua_close lua_isyieldable lua_yield lua_resume
  lua_toclose luaL_ref
]]):gmatch "%S+" do
  OTHERS[name] = true
end

---The page without its blocks of code, in one line.
local function prose()
  return (read(PAGE):gsub("\n```.-\n```", ""):gsub("%s+", " "))
end

---All files in which the page's names may be.
local function sources()
  local texts = {}
  for _, folder in ipairs { "src/host", "src/barrier", "src/shared", "lua/barrier" } do
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
      if name:find "%." then
        texts[#texts + 1] = read(folder .. "/" .. name)
      end
    end
  end
  return table.concat(texts, "\n")
end

describe("doc/c-module.md", function()
  it("has twelve rules, and for each a spec that notices when it is broken", function()
    local n = 0
    for section in read(PAGE):gsub("\n## ", "\1"):gmatch "\1([^\1]+)" do
      if section:find "^%d" then
        n = n + 1
        assert.are.equal(tostring(n), section:match "^%d+")
        assert.is_truthy(section:find("\n```c\n", 1, true), n)
        assert.is_truthy(section:find "\nBreak it: .*`spec/[%w_]+%.lua`:%s\"", n)
      end
    end
    assert.are.equal(12, n)
  end)

  it("names nothing that is not there", function()
    local text, missing = sources(), {}
    for name in prose():gmatch "`([^`]+)`" do
      if name:find "^[%w_./:]+$" and not OTHERS[name] and not uv.fs_stat(name)
        and not has_word(text, name) then
        missing[#missing + 1] = name
      end
    end
    assert.are.same({}, missing)
  end)

  it("says in which file each function is", function()
    local n = 0
    for name, path in prose():gmatch "`([%w_]+)` in `([%w_.]+/[%w_./]+)`" do
      n = n + 1
      assert.is_true(has_word(read(path), name), name .. " is not in " .. path)
    end
    assert.is_true(n >= 24)
  end)

  it("quotes code as it is", function()
    local n = 0
    for path, code in read(PAGE):gmatch "\n<!%-%- from (%S+) %-%->\n```c\n(.-)\n```" do
      n = n + 1
      assert.is_truthy(read(path):find("\n" .. code .. "\n", 1, true), path .. "\n" .. code)
    end
    assert.are.equal(3, n)
  end)

  it("quotes the names of specs as they are", function()
    local n = 0
    for path, name in prose():gmatch "`(spec/[%w_]+%.lua)`: \"([^\"]+)\"" do
      n = n + 1
      assert.is_truthy(read(path):find('"' .. name, 1, true), path .. ": " .. name)
    end
    assert.is_true(n >= 12)
  end)
end)
