---Counts words in the files of some folders:
---
---    lua examples/word_count.lua [DIR...]
---
---Several workers share the work of each phase, and meet at a barrier after it: all
---files are listed before the first is read, all are counted before the counts are
---merged, which the worker at position 0 does. A worker that cannot read something
---aborts the barrier with the reason, and the program fails with it.
local uv = require "luv"
local barrier = require "barrier"

local WORKERS = 4
local unpack = table.unpack or unpack

---Calls a function that takes a callback(err, result) last, as luv's and b:wait do,
---and suspends the coroutine until it is called. Returns result, or nil and err.
local function await(f, ...)
  local co = coroutine.running()
  local args = { ... }
  args[#args + 1] = function(err, result)
    assert(coroutine.resume(co, result, err))
  end
  local started, err = f(unpack(args))
  if not started then
    return nil, err
  end
  return coroutine.yield()
end

local dirs = { unpack(arg) }
if #dirs == 0 then
  local here = arg[0]:match("^(.*)[/\\]") or "."
  dirs = { here .. "/../src", here .. "/../lua" }
end

local files = {}
local counts = {} -- of each worker: how often it has seen a word
local total = {}

---Appends the files in `dir` and the folders below it to `files`.
local function list(dir)
  local entries, err = await(uv.fs_scandir, dir)
  if not entries then
    return nil, err
  end
  for name, kind in uv.fs_scandir_next, entries do
    local path = dir .. "/" .. name
    if kind ~= "directory" then
      files[#files + 1] = path
    else
      local ok, reason = list(path)
      if not ok then
        return nil, reason
      end
    end
  end
  return true
end

local function read(path)
  local fd, err = await(uv.fs_open, path, "r", 0)
  if not fd then
    return nil, err
  end
  local chunks = {}
  local chunk
  repeat
    chunk, err = await(uv.fs_read, fd, 65536, -1)
    chunks[#chunks + 1] = chunk
  until not chunk or chunk == ""
  await(uv.fs_close, fd)
  if err then
    return nil, err .. ": " .. path
  end
  return table.concat(chunks)
end

local function list_folders(worker)
  for i = worker, #dirs, WORKERS do
    local ok, err = list(dirs[i])
    if not ok then
      return nil, err
    end
  end
  return true
end

local function count_words(worker)
  local count = {}
  counts[worker] = count
  for i = worker, #files, WORKERS do
    local text, err = read(files[i])
    if not text then
      return nil, err
    end
    for word in text:lower():gmatch("%a+") do
      count[word] = (count[word] or 0) + 1
    end
  end
  return true
end

local function merge(_, position)
  if position == 0 then
    for _, count in ipairs(counts) do
      for word, n in pairs(count) do
        total[word] = (total[word] or 0) + n
      end
    end
  end
  return true
end

local function print_most_frequent()
  local words = {}
  for word in pairs(total) do
    words[#words + 1] = word
  end
  table.sort(words, function(a, b)
    return total[a] > total[b] or total[a] == total[b] and a < b
  end)
  for i = 1, math.min(10, #words) do
    print(("%6d %s"):format(total[words[i]], words[i]))
  end
end

local b = barrier.new(WORKERS)
local failure

local function work(worker)
  local position
  for _, phase in ipairs { list_folders, count_words, merge } do
    local ok, reason = phase(worker, position)
    if not ok then
      failure = failure or reason
      b:abort(reason)
      return
    end
    -- b:wait() would raise the error, and PUC Lua 5.1 cannot yield inside a pcall.
    position = await(b.wait, b)
    if not position then
      return -- another worker has aborted
    end
  end
  if position == 0 then
    print_most_frequent()
  end
end

for worker = 1, WORKERS do
  coroutine.wrap(work)(worker)
end
uv.run()

if failure then
  io.stderr:write("word_count: ", failure, "\n")
  os.exit(1)
end
