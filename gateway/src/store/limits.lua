-- One request against all its shared limits: charges every bucket or, where one refuses, none.
--
-- KEYS: the buckets. ARGV: for each of them the cost of the request, the debt that the bucket bears (both in nanoseconds), and 1 if it refuses, 0 if it is
-- only watched. A bucket holds the moment at which it is full again, as seconds and nanoseconds: a number of Lua's has 53 bits, a moment in nanoseconds has 61.
-- Returns the number of the bucket that refused, or 0; then the debts before the charge, in nanoseconds.
-- The same in Rust: `policies/src/limit/shared.rs`.
local time = redis.call('TIME')
local seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000

local function owe(key, debt)
  local whole = math.floor((nanos + debt) / 1e9)
  local rest = math.max(nanos + debt - whole * 1e9, 0)
  -- A millisecond longer than it is of use: nothing stays, and nothing goes too early.
  redis.call('SET', key, string.format('%.0f:%.0f', seconds + whole, rest), 'PX', string.format('%.0f', math.ceil(debt / 1e6) + 1))
end

local refused, debts = 0, {}
for i, key in ipairs(KEYS) do
  local cost, window = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  local debt = 0
  local s, n = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  if s then
    debt = math.max((tonumber(s) - seconds) * 1e9 + (tonumber(n) - nanos), 0)
  end
  if debt > window then
    -- No bucket owes more than all of it: the clock was set back, or the limit was made smaller.
    debt = window
    owe(key, debt)
  end
  if debt + cost > window and ARGV[3 * i] == '1' and refused == 0 then
    refused = i
  end
  debts[i] = debt
end
if refused == 0 then
  for i, key in ipairs(KEYS) do
    local cost, window = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
    if cost > 0 and debts[i] + cost <= window then
      owe(key, debts[i] + cost)
    end
  end
end
table.insert(debts, 1, refused)
return debts
