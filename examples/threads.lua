---Threads that compute in phases: how heat spreads on a plate. Each thread has some of the
---plate's rows, and needs its neighbours' edges after each phase:
---
---    lua examples/threads.lua [THREADS [SIZE [PHASES]]]
---
---Lua states have no memory in common, so the edges go through a file. The barrier
---makes sure that an edge is there before it is read. Prints how long one thread takes and how
---long all of them take, after it has compared the results.
local uv = require "luv"
local barrier = require "barrier"

local CELL = 25 -- bytes of a number in the file, with all its digits

---The plates of even and odd phases are side by side in the file, so that no thread overwrites
---what another may still have to read.
local function offset(phase, row, size)
  return ((phase % 2) * size + row - 1) * size * CELL
end

local function write_row(file, phase, row, cells)
  local text = {}
  for i = 1, #cells do
    text[i] = ("%24.16e "):format(cells[i])
  end
  assert(uv.fs_write(file, table.concat(text), offset(phase, row, #cells)))
end

local function read_row(file, phase, row, size)
  local cells = {}
  local text = assert(uv.fs_read(file, size * CELL, offset(phase, row, size)))
  for i = 1, size do
    cells[i] = tonumber(text:sub((i - 1) * CELL + 1, i * CELL))
  end
  return cells
end

---Cold, but for the first row, and for one hot spot.
local function first_plate(first, last, size)
  local plate = {}
  for row = first - 1, last + 1 do
    plate[row] = {}
    for i = 1, size do
      plate[row][i] = row <= 1 and 100 or 0
    end
  end
  local spot = plate[math.floor(size / 2)]
  if spot then
    spot[math.floor(size / 3)] = 1000
  end
  return plate
end

---The row after one phase. The plate's own edges stay as they are.
local function next_row(above, row, below, size)
  local new = { row[1] }
  for i = 2, size - 1 do
    new[i] = row[i] + 0.2 * (above[i] + below[i] + row[i - 1] + row[i + 1] - 4 * row[i])
  end
  new[size] = row[size]
  return new
end

---Computes the rows from `first` to `last`, and leaves them in the file. `meet` waits for
---the other threads.
local function compute(file, first, last, size, phases, meet)
  local plate = first_plate(first, last, size)
  for phase = 1, phases do
    local new = { [first - 1] = plate[first - 1], [last + 1] = plate[last + 1] }
    for row = first, last do
      local inside = row > 1 and row < size
      new[row] = inside and next_row(plate[row - 1], plate[row], plate[row + 1], size) or plate[row]
    end
    plate = new
    write_row(file, phase, first, plate[first])
    write_row(file, phase, last, plate[last])
    meet()
    if first > 1 then
      plate[first - 1] = read_row(file, phase, first - 1, size)
    end
    if last < size then
      plate[last + 1] = read_row(file, phase, last + 1, size)
    end
  end
  for row = first, last do
    write_row(file, phases, row, plate[row])
  end
end

---What one of the threads does.
local function work(index, threads, file, size, phases)
  local b = barrier.shared("examples/threads.lua", threads)
  local first = math.floor((index - 1) * size / threads) + 1
  local last = math.floor(index * size / threads)
  coroutine.wrap(function()
    compute(file, first, last, size, phases, function()
      b:wait()
    end)
  end)()
  uv.run()
end

---Runs so many threads. The result as text, and the seconds that it took.
local function run(threads, size, phases)
  local name = os.tmpname()
  local file = assert(uv.fs_open(name, "w+", 384)) -- rw-------
  local start, running = uv.hrtime(), {}
  for i = 1, threads do
    running[i] = uv.new_thread([[
      package.path, package.cpath = ...
      assert(loadfile((select(3, ...))))("work", select(4, ...))
    ]], package.path, package.cpath, arg[0], i, threads, file, size, phases)
  end
  for i = 1, threads do
    running[i]:join()
  end
  uv.run() -- luv forgets the threads
  local seconds = (uv.hrtime() - start) / 1e9
  local result = assert(uv.fs_read(file, size * size * CELL, offset(phases, 1, size)))
  uv.fs_close(file)
  os.remove(name)
  return result, seconds
end

local function main(threads, size, phases)
  threads, size, phases = tonumber(threads or 4), tonumber(size or 300), tonumber(phases or 100)
  if threads > size then
    error "there have to be as many rows as threads"
  end
  local expected, alone = run(1, size, phases)
  print(("%d phases on %d x %d cells, 1 thread: %.2f s"):format(phases, size, size, alone))
  local result, together = run(threads, size, phases)
  print(("%d threads: %.2f s"):format(threads, together))
  if #expected ~= size * size * CELL or result ~= expected then
    print "the results differ"
    os.exit(1)
  end
  print "the results are equal"
end

if (...) == "work" then
  work(select(2, ...))
else
  main(...)
end
