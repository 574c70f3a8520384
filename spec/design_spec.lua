-- The names that doc/design.md speaks of are there.
local uv = require "luv"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

---The names of the files in a folder, and their texts in one.
local function folder(path, names, texts)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(path)) do
    if name:find "%.[ch]$" or name:find "%.lua$" then
      names[name] = true
      texts[#texts + 1] = read(path .. "/" .. name)
    end
  end
end

-- What luv, libuv, Neovim and Lua have, and words that are no names.
local OTHERS = {}
for name in ([[
  uv.async_send uv.now vim.wait gcc coroutine.close coroutine.wrap luaL_checkudata lua_yield
  lua_next :noautocmd v:exiting __gc __index __tostring __close false nil barrier.new b:wait
]]):gmatch "%S+" do
  OTHERS[name] = true
end

describe("doc/design.md", function()
  it("speaks of nothing that is not in src", function()
    local names, texts = {}, {}
    for _, path in ipairs { "src", "src/host", "src/barrier", "src/shared", "test",
      "lua/barrier" } do
      folder(path, names, texts)
    end
    local text = table.concat(texts, "\n")
    local missing = {}
    for name in read("doc/design.md"):gsub("```.-```", ""):gmatch "`([%w_.:/]+)[^`\n]*`" do
      local base = name:match "[^/]+$" or name
      local found = OTHERS[name] or names[base] or uv.fs_stat(name)
        or text:find("%f[%w_]" .. base:gsub("%p", "%%%0") .. "%f[^%w_]")
      if not found then missing[#missing + 1] = name end
    end
    assert.are.same({}, missing)
  end)
end)
