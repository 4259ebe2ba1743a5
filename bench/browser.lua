-- What a browser sends with each request, and the outcome as one line of JSON (durations in microseconds).
-- Arguments: headers instead, as "Name: value"; without a value that header is not sent. "think=MS": so long from an
-- answer to the next request. "users=N": /f0/ becomes /f0/, /f1/ … of so many users in turn.
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36"
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
wrk.headers["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.7"
wrk.headers["Accept-Encoding"] = "gzip, deflate, br, zstd"
wrk.headers["Referer"] = "http://localhost/bench/somewhere/else?page=2"
wrk.headers["Cookie"] = "session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj; theme=dark"
wrk.headers["Cache-Control"] = "max-age=0"
wrk.headers["Sec-Fetch-Dest"] = "document"
wrk.headers["Sec-Fetch-Mode"] = "navigate"
wrk.headers["Sec-Fetch-Site"] = "same-origin"
wrk.headers["Upgrade-Insecure-Requests"] = "1"

init = function(arguments)
  local told = {}
  for _, line in ipairs(arguments) do
    local name, value = line:match("^([%w-]+): ?(.*)$")
    if name then wrk.headers[name] = value ~= "" and value or nil end
    local what, number = line:match("^(%l+)=(%d+)$")
    if what then told[what] = tonumber(number) end
  end
  if told.think then delay = function() return told.think end end
  if told.users then visit_in_turn(told.users) end
end

function visit_in_turn(count)
  local asked, at = {}, 0
  for number = 1, count do asked[number] = wrk.format(nil, (wrk.path:gsub("^/f0/", "/f" .. number - 1 .. "/"))) end
  request = function()
    at = at % count + 1
    return asked[at]
  end
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"octets":%d,"microseconds":%d,"errors":%d,"refused":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout, e.status,
    latency:percentile(50), latency:percentile(99)))
end
