-- barrier.redis in Neovim: what comes after a wait may call vim.api.
local barrier = require "barrier"
local support = require "spec.nvim.support"

local function free_port()
  local socket = support.uv.new_tcp()
  socket:bind("127.0.0.1", 0)
  local port = socket:getsockname().port
  socket:close()
  return port
end

describe("barrier.redis in Neovim", function()
  it("lets coroutines and callbacks go on where vim.api may be called", function()
    if vim.fn.executable "redis-server" == 0 then
      return pending "there is no redis-server"
    end
    local port = free_port()
    local job = vim.fn.jobstart { "redis-server", "--port", tostring(port), "--save", "" }
    local url = "redis://127.0.0.1:" .. port
    local a = barrier.redis("nvim", 2, { url = url })
    local b = barrier.redis("nvim", 2, { url = url })
    local fast, names = {}, {}
    coroutine.wrap(function()
      a:wait()
      a:wait()
      fast[1] = vim.in_fast_event()
      names[1] = vim.api.nvim_buf_get_name(0)
    end)()
    b:wait(function()
      b:wait(function()
        fast[2] = vim.in_fast_event()
        names[2] = vim.api.nvim_buf_get_name(0)
      end)
    end)
    support.wait_for(function()
      return fast[1] ~= nil and fast[2] ~= nil
    end)
    assert.are.same({ false, false }, fast)
    assert.are.equal(names[1], names[2])
    local closed = 0
    for _, member in ipairs { a, b } do
      member:close(function()
        closed = closed + 1
      end)
    end
    support.wait_for(function()
      return closed == 2
    end)
    vim.fn.jobstop(job)
  end)
end)
