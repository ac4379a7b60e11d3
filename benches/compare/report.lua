-- What wrk counted, as JSON. Requests are made once, not by a script: that would cost the load generator time.
local size = tonumber(os.getenv("BODY") or "0")
local wanted = tonumber(os.getenv("STATUS") or "200")
if size > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", size)
end
-- wrk counts as errors whatever is above 399. Where an error is what is wanted, each status is looked at.
wrong = 0
local threads = {}
function setup(thread)
  table.insert(threads, thread)
end
if wanted >= 400 then
  function response(status)
    if status ~= wanted then
      wrong = wrong + 1
    end
  end
end
function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
  end
  io.write(string.format(
    '\n@@{"requests":%d,"seconds":%.6f,"bytes":%d,"bad":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, wanted >= 400 and bad or summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
