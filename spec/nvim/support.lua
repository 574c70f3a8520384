---Helpers that the specs inside Neovim share.
local M = {}

M.uv = vim.uv or vim.loop

---Lets Neovim's loop run until the condition holds.
function M.wait_for(condition)
  if not vim.wait(20000, condition, 2) then
    error("nothing happened for 20 seconds", 2)
  end
end

---Lets Neovim's loop run for a while in which nothing is expected to happen.
function M.idle()
  vim.wait(30, function()
    return false
  end, 5)
end

---Calls a function in a callback of luv, in a fast event.
function M.in_fast_event(f)
  local timer = M.uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    assert(vim.in_fast_event())
    f()
  end)
end

---Starts a coroutine, and raises the error if it dies at once.
---@return thread
function M.co(f, ...)
  local co = coroutine.create(f)
  local ok, err = coroutine.resume(co, ...)
  if not ok then
    error(err, 0)
  end
  return co
end

---Appends when `value` is known; see spec/support.lua.
function M.add(list, value)
  list[#list + 1] = value
end

---A new folder; `after_each` has to vim.fn.delete(it, "rf").
function M.folder()
  local dir = vim.fn.resolve(vim.fn.tempname())
  vim.fn.mkdir(dir, "p")
  return dir
end

function M.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

---Runs a program. Returns everything that it wrote, and its exit status.
function M.system(command)
  local output = vim.fn.system(command)
  return output, vim.v.shell_error
end

---Runs a chunk of Lua in a Neovim of its own, with `barrier` and `wait_for` as globals.
---Returns everything that it wrote, and its exit status.
function M.chunk(code)
  local path = vim.fn.tempname() .. ".lua"
  M.write(path, ([[
    barrier = require "barrier"
    function wait_for(condition)
      if not vim.wait(20000, condition, 2) then vim.cmd "cquit" end
    end
    %s
    vim.cmd "qa!"
  ]]):format(code))
  local command = {
    vim.v.progpath, "--headless", "-u", "NONE", "-i", "NONE", "-n", "--noplugin",
    "-c", "luafile " .. path, "-c", "cquit", -- after an error
  }
  if vim.env.BARRIER_CHECKOUT then
    vim.list_extend(command, { "--cmd", "set runtimepath^=" .. vim.env.BARRIER_CHECKOUT })
  end
  local output, status = M.system(command)
  os.remove(path)
  return (output:gsub("\r\n", "\n")), status
end

return M
