---Counts the files in a folder and the folders below it, of which it reads eight at a time:
---
---    lua examples/crawl.lua DIR
---
---The number of folders is not known beforehand: each folder is a job of the group, and adds those
---that are in it before it is done itself. So the group is complete after the last one, never
---earlier. Symbolic links are not followed. Reports what cannot be read, goes on, and fails at the
---end.
local uv = require "luv"
local barrier = require "barrier"

if #arg ~= 1 then
  io.stderr:write "usage: crawl.lua DIR\n"
  os.exit(1)
end

local group = barrier.group { limit = 8 }
local files, bytes = 0, 0

local visit

---Reads a folder: a job of the group.
local function read(dir)
  return function(done)
    return uv.fs_scandir(dir, function(err, entries)
      if not err then
        for name in uv.fs_scandir_next, entries do
          visit(dir .. "/" .. name)
        end
      end
      done(err)
    end)
  end
end

function visit(path)
  local done = group:add("stat of " .. path)
  uv.fs_lstat(path, function(err, stat)
    if stat and stat.type == "file" then
      files, bytes = files + 1, bytes + stat.size
    elseif stat and stat.type == "directory" then
      group:start(path, read(path))
    end
    done(err)
  end)
end

visit(arg[1])

local failed = false
group:wait(function(err, _, errors)
  for _, problem in pairs(errors) do
    io.stderr:write("crawl: ", problem, "\n")
  end
  failed = err ~= nil
  print(("files: %d, bytes: %d"):format(files, bytes))
end)
uv.run()
os.exit(failed and 1 or 0)
