---RESP3, the protocol of Redis. Nothing that arrives is trusted: neither in length, nor in depth,
---nor in type.
local M = {}

local MAX_BYTES = 2 ^ 20 -- of a reply
local MAX_ITEMS = 2 ^ 12 -- of an array
local MAX_DEPTH = 8

---@param words (string|number)[]
---@return string
function M.words(words)
  local parts = {}
  for i = 1, #words do
    local word = words[i]
    word = type(word) == "number" and ("%.0f"):format(word) or word
    parts[i] = "$" .. #word .. "\r\n" .. word .. "\r\n"
  end
  return table.concat(parts)
end

---@param words (string|number)[]
---@param first? string the first words, encoded
---@param n? integer how many these are
---@return string
function M.encode(words, first, n)
  return "*" .. (n or 0) + #words .. "\r\n" .. (first or "") .. M.words(words)
end

local NO_REDIS = "what answers there does not speak Redis's protocol"

local function integer(line)
  local n = line:find "^[+-]?%d+$" and #line < 17 and tonumber(line)
  if not n then
    error(NO_REDIS, 0)
  end
  return n
end

local SIMPLE = { -- by their first byte, what is on a line alone
  [":"] = integer,
  ["+"] = tostring,
  [","] = tostring, -- a double
  ["("] = tostring, -- a big number
  ["-"] = function(line) return { error = line } end,
  ["_"] = function() return false end,
  ["#"] = function(line) return line == "t" end,
}
local STRINGS = { ["$"] = tostring, ["="] = tostring, ["!"] = SIMPLE["-"] }
local LISTS = { ["*"] = 1, ["~"] = 1, [">"] = 1, ["%"] = 2, ["|"] = 2 } -- items for each counted

---Reads a value at `at`. Raises an error if that is none.
---@return integer? rest where the next one begins; nil if this one has not come in full
---@return any value an array, an error { error = text }, a push { push = true, ... }, ...; false
---for null; or how long the buffer has to be before it is worth another look
local function parse(buffer, at, depth)
  local _, stop, kind, line = buffer:find("^(.)([^\r]*)\r\n", at)
  if not stop then
    kind = buffer:sub(at, at)
    if kind == "" or SIMPLE[kind] or STRINGS[kind] or LISTS[kind] then
      return nil, 0
    end
    error(NO_REDIS, 0)
  end
  local rest = stop + 1
  local simple = SIMPLE[kind]
  if simple then
    return rest, simple(line)
  elseif depth > MAX_DEPTH or not (STRINGS[kind] or LISTS[kind]) then
    error(NO_REDIS, 0)
  end
  local n = integer(line)
  if n == -1 and (kind == "$" or kind == "*") then
    return rest, false -- a null of RESP2
  elseif n < 0 or n > (STRINGS[kind] and MAX_BYTES or MAX_ITEMS) then
    error(NO_REDIS, 0)
  elseif STRINGS[kind] then
    if #buffer < rest + n + 1 then
      return nil, rest + n + 1
    elseif buffer:sub(rest + n, rest + n + 1) ~= "\r\n" then
      error(NO_REDIS, 0)
    end
    return rest + n + 2, STRINGS[kind](buffer:sub(rest, rest + n - 1))
  end
  local list = { push = kind == ">" or nil }
  for i = 1, n * LISTS[kind] do
    local from = rest
    rest, list[i] = parse(buffer, from, depth + 1)
    if not rest then
      return nil, list[i]
    end
  end
  if kind == "|" then -- attributes of the value that follows
    return parse(buffer, rest, depth + 1)
  end
  return rest, list
end

---@return fun(data: string, on_value: fun(value: any)): string? problem takes what has arrived
function M.reader()
  local buffer, wanted = "", 0
  return function(data, on_value)
    buffer = buffer .. data
    local at = 1
    while #buffer >= math.max(at, wanted) do
      local ok, rest, value = pcall(parse, buffer, at, 1)
      if not ok then
        return NO_REDIS
      elseif not rest then
        wanted = value - at + 1
        break
      end
      at, wanted = rest, 0
      on_value(value)
    end
    buffer = buffer:sub(at)
    return #buffer > MAX_BYTES + 1000 and NO_REDIS or nil
  end
end

---What the script says of an arrival, in one string, as a table: "KIND EPOCH GENERATION REST".
---@param text string
---@return table? reply { kind, epoch, generation, position or reason, arrived, waiting }
function M.outcome(text)
  local kind, epoch, generation, rest = text:match "^(%l+) (%d+) (%-?%d+) (.*)$"
  epoch, generation = tonumber(epoch), tonumber(generation)
  if kind == "failed" then
    return { kind, epoch, generation, rest }
  elseif kind == "counted" or kind == "passed" then
    local position, arrived, waiting = rest:match "^(%d+) ?(%d*) ?(%d*)$"
    return { kind, epoch, generation, tonumber(position), tonumber(arrived), tonumber(waiting) }
  end
end

local FORMS = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or unix://[[USER]:PASSWORD@]/PATH"

local function decoded(s)
  return (s:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

---Reads a URL.
---@param url string
---@return { host?: string, port?: integer, path?: string, user?: string, password?: string,
---  database: integer }? endpoint
---@return string? problem which never shows the URL: there may be a password in it
function M.endpoint(url)
  if url:find "^rediss://" then
    return nil, "url must be " .. FORMS .. "; for TLS see the option connect"
  end
  local scheme, rest = url:match "^(%a+)://(.*)$"
  local login, place = (rest or ""):match "^(.*)@(.-)$"
  local user, password = (login or ""):match "^([^:]*):(.*)$"
  place = place or rest
  if login and not password then
    return nil, "url must be " .. FORMS
  end
  local endpoint = {
    database = 0,
    user = password and decoded(user ~= "" and user or "default"),
    password = password and decoded(password),
  }
  if scheme == "unix" and place:find "^/." then
    endpoint.path = decoded(place)
    return endpoint
  end
  local authority, database = (scheme == "redis" and place or ""):match "^([^/?#]+)/?(%d*)$"
  local host, port = (authority or ""):match "^%[([%x:.]+)%](:?%d*)$"
  if not host then
    host, port = (authority or ""):match "^([^:%[%]]+)(:?%d*)$"
  end
  port = port == "" and "6379" or (port or ""):match "^:(%d+)$"
  endpoint.host, endpoint.port = host, tonumber(port or "")
  endpoint.database = database == "" and 0 or tonumber(database or "")
  if not endpoint.host or not endpoint.port or not endpoint.database then
    return nil, "url must be " .. FORMS
  elseif endpoint.port < 1 or endpoint.port > 65535 then
    return nil, "the port in url must be from 1 to 65535"
  elseif endpoint.database > 2 ^ 31 - 1 then
    return nil, "the database in url must be an integer >= 0 and < 2^31"
  end
  return endpoint
end

return M
