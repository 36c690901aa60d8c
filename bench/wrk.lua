-- Sends the requests of a file one after the other, from the first again after the last; prints what came of them.
-- The file: for each request its length in bytes on a line of its own, then its bytes.
local requests, place = {}, 0

init = function(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local length = file:read("*number")
  while length do
    file:read(1)
    requests[#requests + 1] = file:read(length)
    length = file:read("*number")
  end
  file:close()
end

request = function()
  place = place % #requests + 1
  return requests[place]
end

done = function(summary, latency)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\n{"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
