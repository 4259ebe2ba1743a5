-- What a browser sends with each request, and the outcome as one line of JSON (durations in microseconds).
-- Arguments: headers instead, as "Name: value"; without a value that header is not sent.
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
  for _, line in ipairs(arguments) do
    local name, value = line:match("^([%w-]+): ?(.*)$")
    if name then wrk.headers[name] = value ~= "" and value or nil end
  end
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"octets":%d,"microseconds":%d,"errors":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
