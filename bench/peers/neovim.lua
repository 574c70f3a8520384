---Other libraries for Neovim: each runs functions that take a callback, all at the same time, and
---waits until all are done. `run` starts a coroutine of theirs.
local M = {}

---plenary.nvim
function M.plenary()
  local async, join = require "plenary.async", require("plenary.async.util").join
  return {
    run = function(main)
      async.run(main, function() end)
    end,
    gather = function(jobs)
      local list = {}
      for i = 1, #jobs do
        list[i] = async.wrap(jobs[i], 1)
      end
      join(list)
    end,
  }
end

---nvim-nio
function M.nio()
  local nio = require "nio"
  return {
    run = nio.run,
    gather = function(jobs)
      local list = {}
      for i = 1, #jobs do
        list[i] = nio.wrap(jobs[i], 1)
      end
      nio.gather(list)
    end,
  }
end

---async.nvim
function M.async()
  vim.uv = vim.uv or vim.loop -- luacheck: ignore 122 (it is made for Neovim 0.10)
  local async = require "async"
  return {
    run = async.run,
    gather = function(jobs)
      local list = {}
      for i = 1, #jobs do
        list[i] = async.run(function()
          return async.await(1, jobs[i])
        end)
      end
      for i = 1, #list do
        async.await(list[i])
      end
    end,
  }
end

return setmetatable({}, {
  __index = function(_, name)
    return M[name] and M[name]()
  end,
})
