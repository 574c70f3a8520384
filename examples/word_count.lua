---Counts words in the files of some folders, with several coroutines that meet at
---a barrier after each phase:
---
---    lua examples/word_count.lua [DIR...]
---
---Every worker lists some of the folders, then all of them share the files, then the
---party at position 0 merges the counts and prints the ten most frequent words. A file
---that cannot be read makes its worker abort the barrier with the reason; everybody
---else gets it as an error, and the program fails with it.
local uv = require "luv"
local barrier = require "barrier"

local WORKERS = 4

local dirs = {}
for i = 1, #arg do
  dirs[i] = arg[i]
end
if #dirs == 0 then
  local here = arg[0]:match("^(.*)[/\\][^/\\]*$") or "."
  dirs = { here .. "/../src", here .. "/../lua" }
end

---Calls one of luv's functions with a callback that resumes this coroutine, and
---returns its result, or raises its error.
local function await(f, ...)
  local co = coroutine.running()
  local args = { n = select("#", ...) + 1, ... }
  args[args.n] = function(err, result)
    coroutine.resume(co, err, result)
  end
  local request, message = f((table.unpack or unpack)(args, 1, args.n))
  local err, result
  if request then
    err, result = coroutine.yield()
  else
    err = message
  end
  if err then
    error(err, 0)
  end
  return result
end

local files, counts, total = {}, {}, {}

local function list(dir)
  local scan = await(uv.fs_scandir, dir)
  while true do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then
      return
    end
    local path = dir .. "/" .. name
    if kind == "directory" then
      list(path)
    else
      files[#files + 1] = path
    end
  end
end

local function read(path)
  local fd = await(uv.fs_open, path, "r", 438)
  local ok, text = pcall(function()
    return await(uv.fs_read, fd, await(uv.fs_fstat, fd).size, 0)
  end)
  await(uv.fs_close, fd)
  return ok and text or error(text, 0)
end

local function count(text, into)
  for word in text:gmatch("%a+") do
    word = word:lower()
    into[word] = (into[word] or 0) + 1
  end
end

local function merge_and_print()
  for i = 1, WORKERS do
    for word, n in pairs(counts[i]) do
      total[word] = (total[word] or 0) + n
    end
  end
  local words = {}
  for word in pairs(total) do
    words[#words + 1] = word
  end
  table.sort(words, function(a, b)
    return total[a] > total[b] or (total[a] == total[b] and a < b)
  end)
  for i = 1, math.min(10, #words) do
    print(("%6d %s"):format(total[words[i]], words[i]))
  end
end

local b = barrier.new(WORKERS)

local function work(id)
  for i = id, #dirs, WORKERS do
    list(dirs[i])
  end
  b:wait() -- all files are known

  counts[id] = {}
  for i = id, #files, WORKERS do
    count(read(files[i]), counts[id])
  end
  if b:wait() == 0 then -- all are counted; one of us does the rest
    merge_and_print()
  end
end

local failure

for id = 1, WORKERS do
  coroutine.wrap(function()
    local ok, err = pcall(work, id)
    if ok or getmetatable(err) == barrier.BrokenBarrierError then
      return -- somebody else has failed, and says so
    end
    failure = failure or err
    b:abort(err)
  end)()
end

uv.run()
if failure then
  io.stderr:write("word_count: ", tostring(failure), "\n")
  os.exit(1)
end
