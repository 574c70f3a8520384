---Prints the sizes of files, and at the end which could not be read, and why:
---
---    lua examples/stat_all.lua FILE...
---
---All files are asked for at the same time. The exit status is 1 if there was an error.
local uv = require "luv"
local barrier = require "barrier"

local paths = arg
local group = barrier.group()
local seen = {}

for _, path in ipairs(paths) do
  if not seen[path] then -- a file may be given twice, a key may not
    seen[path] = true
    uv.fs_stat(path, group:add(path))
  end
end

local status = 0

group:wait(function(err, stats, errors)
  for _, path in ipairs(paths) do -- in the order given, not in that of the answers
    if stats[path] then
      print(("%10d  %s"):format(stats[path].size, path))
    end
  end
  for _, path in ipairs(paths) do
    if errors[path] then
      io.stderr:write("stat_all: ", errors[path], "\n")
    end
  end
  status = err and 1 or 0
end)
uv.run()

os.exit(status)
