---Counts the files in a folder and the folders below it, all of which it reads at once:
---
---    lua examples/crawl.lua DIR
---
---Nobody knows beforehand how many folders there are. Each is registered as a party of the
---barrier before it is read, by the folder that it was found in, and deregistered when it
---has been read; so the barrier trips after the last one, never earlier. Symbolic links are
---not followed. Reports what cannot be read, goes on, and fails at the end.
local uv = require "luv"
local barrier = require "barrier"

if #arg ~= 1 then
  io.stderr:write "usage: crawl.lua DIR\n"
  os.exit(1)
end

local b = barrier.new(1) -- the one party is the report; folders come and go
local files, bytes = 0, 0
local failed = false

---Calls a function of luv that takes a callback(err, result) last, and suspends the
---coroutine until it is called. Returns the result, or nil after reporting the error.
local function await(f, path)
  local co = coroutine.running()
  f(path, function(err, result)
    if err then
      io.stderr:write("crawl: ", err, "\n")
      failed = true
    end
    assert(coroutine.resume(co, result))
  end)
  return coroutine.yield()
end

local read

local function visit(path)
  local stat = await(uv.fs_lstat, path)
  if stat and stat.type == "file" then
    files, bytes = files + 1, bytes + stat.size
  elseif stat and stat.type == "directory" then
    b:register()
    coroutine.wrap(read)(path)
  end
end

function read(dir)
  local entries = await(uv.fs_scandir, dir)
  if entries then
    for name in uv.fs_scandir_next, entries do
      visit(dir .. "/" .. name)
    end
  end
  b:deregister()
end

coroutine.wrap(function()
  visit(arg[1])
  b:wait()
  print(("files: %d, bytes: %d"):format(files, bytes))
end)()
uv.run()
os.exit(failed and 1 or 0)
