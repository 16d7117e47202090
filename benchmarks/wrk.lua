-- Sends the request in a file, with a new serial number in it each time unless told "same".
local head, tail, serial, step

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local message = file:read("*a")
  file:close()
  local first, last = message:find(args[2], 1, true)
  head, tail = message:sub(1, first - 1), message:sub(last + 1)
  serial = tonumber(args[2])
  step = args[3] == "same" and 0 or 1
end

function request()
  serial = serial + step
  return head .. string.format("%012.0f", serial) .. tail
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\n{"requests":%d,"failures":%d,"seconds":%f}\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6))
end
