---Fetches pages from a TCP server, which is in this process, eight at a time:
---
---    lua examples/fetch.lua [PAGES [DELAY [FORBIDDEN]]]
---
---The server answers each request for one of the PAGES (50) after DELAY milliseconds (2). It hangs
---up on the first request for every tenth page, which is then tried again. It forbids the page
---FORBIDDEN (none), which is no use to try again: the rest is stopped, as it is by Ctrl-C.
---Progress goes to stderr. The exit status is 1 after an error, and 130 after Ctrl-C.
local uv = require "luv"
local barrier = require "barrier"

local function integer(text, default)
  local n = tonumber((text or default):match "^%d+$")
  if not n then
    io.stderr:write "usage: fetch.lua [PAGES [DELAY [FORBIDDEN]]]\n"
    os.exit(1)
  end
  return n
end

local pages, delay = integer(arg[1], "50"), integer(arg[2], "2")
local forbidden = integer(arg[3], "0")

-- {=== the server ===

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", 0))
local port = server:getsockname().port
local asked = {} -- how often for each page

local function answer(connection, number, close)
  asked[number] = (asked[number] or 0) + 1
  if number % 10 == 0 and asked[number] == 1 then
    close()
  else
    connection:write(number == forbidden and "forbidden" or "page " .. number)
  end
end

server:listen(128, function()
  local connection, timer = uv.new_tcp(), uv.new_timer()
  assert(server:accept(connection))
  local function close()
    timer:close()
    connection:close()
  end
  connection:read_start(function(_, request)
    if request then
      timer:start(delay, 0, function()
        answer(connection, tonumber(request), close)
      end)
    else
      close()
    end
  end)
end)

-- }===

local group = barrier.group { limit = 8, stop_on_error = true }
local retried = 0

---Asks for a page until there is an answer, three times at most.
---@return function stop
local function fetch(number, done)
  local socket, attempts = nil, 0
  local function attempt()
    attempts = attempts + 1
    socket = uv.new_tcp()
    local function finish(err, page)
      socket:close()
      if not page and attempts < 3 then
        retried = retried + 1
        attempt()
      else
        done(page == "forbidden" and page or not page and (err or "hung up") or nil, page)
      end
    end
    socket:connect("127.0.0.1", port, function(err)
      if err then
        return err ~= "ECANCELED" and finish(err)
      end
      socket:write(tostring(number))
      socket:read_start(finish)
    end)
  end
  attempt()
  return function()
    socket:close(done) -- the job is over when that is
  end
end

for number = 1, pages do
  group:start(number, function(done)
    return fetch(number, function(...)
      done(...)
      io.stderr:write(("\r%d/%d, errors: %d"):format(group.n_jobs - group.n_pending, pages,
        group.n_errors))
    end)
  end)
end

local signal = uv.new_signal()
signal:start("sigint", function()
  group:abort "interrupted"
end)

local status = 0
group:join(function(err, results)
  local n = 0
  for _ in pairs(results) do
    n = n + 1
  end
  io.stderr:write "\n"
  print(("fetched: %d, tried again: %d"):format(n, retried))
  if err then
    io.stderr:write("fetch: ", err.message, err.reason and ": " .. err.reason or "", "\n")
    status = err.reason and 130 or 1
  end
  server:close()
  signal:close()
end)
uv.run()

barrier.close()
uv.run()
print("loop closed: " .. tostring(uv.loop_close()))
os.exit(status)
