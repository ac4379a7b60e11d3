-- What wrk counted, as JSON. Only `done` is defined: a script that makes requests would cost the load generator time. A body is made once.
local size = tonumber(os.getenv("BODY") or "0")
if size > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", size)
end
function done(summary, latency, requests)
  io.write(string.format(
    '\n@@{"requests":%d,"seconds":%.6f,"bytes":%d,"bad":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
