-- One request against all its shared limits: charges every bucket or, where one refuses, none.
--
-- KEYS: the buckets. ARGV: six numbers for each of them. What has to fit, or else the request is refused (0 refuses nobody); what is charged (0: nothing);
-- what the first has to fit into; the most that the bucket can owe; the seconds of a fixed window, or 0; and at which of these seconds it ends. The first
-- four are nanoseconds or, with fixed windows, requests.
-- A bucket holds the moment at which it is full again, as seconds and nanoseconds: a number of Lua's has 53 bits, a moment in nanoseconds has 61. With fixed
-- windows it holds the last second of its window, and how many were counted.
-- Returns the number of the bucket that refused, or 0; then for each what was used before the charge, and the nanoseconds until its window is over.
-- The same in Rust: `policies/src/limit/shared.rs`.
local time = redis.call('TIME')
local seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000

local function put(key, text, millis)
  redis.call('SET', key, text, 'PX', string.format('%.0f', millis))
end

local function owe(key, debt)
  local whole = math.floor((nanos + debt) / 1e9)
  local rest = math.max(nanos + debt - whole * 1e9, 0)
  -- A millisecond longer than it is of use: nothing stays, and nothing goes too early.
  put(key, string.format('%.0f:%.0f', seconds + whole, rest), math.ceil(debt / 1e6) + 1)
end

local said, used, ends = {0}, {}, {}
for i, key in ipairs(KEYS) do
  local at = 6 * i - 5
  local asks, period = tonumber(ARGV[at]), tonumber(ARGV[at + 4])
  local held, before, left = redis.pcall('GET', key) or '', 0, 0
  if type(held) == 'table' then
    -- A list or the like that somebody else has put there is no count. Anything else, such as a right that is missing, is the caller's to know.
    if not string.find(held.err, 'WRONGTYPE', 1, true) then
      return held
    end
    held = ''
  end
  if period == 0 then
    local s, n = string.match(held, '^(%d+):(%d+)$')
    if s then
      before = math.max((tonumber(s) - seconds) * 1e9 + (tonumber(n) - nanos), 0)
    end
    local keeps = tonumber(ARGV[at + 3])
    if before > keeps then
      -- No bucket owes more than that: the clock was set back, or the limit was made smaller.
      before = keeps
      owe(key, before)
    end
  else
    ends[i] = seconds - seconds % period + tonumber(ARGV[at + 5])
    if ends[i] < seconds then
      ends[i] = ends[i] + period
    end
    local last, count = string.match(held, '^w(%d+):(%d+)$')
    if last and tonumber(last) == ends[i] then
      before = tonumber(count)
    end
    left = (ends[i] + 1 - seconds) * 1e9 - nanos
  end
  if asks > 0 and said[1] == 0 and before + asks > tonumber(ARGV[at + 2]) then
    said[1] = i
  end
  used[i], said[2 * i], said[2 * i + 1] = before, before, left
end
if said[1] == 0 then
  for i, key in ipairs(KEYS) do
    local at = 6 * i - 5
    local costs = tonumber(ARGV[at + 1])
    local after = used[i] + costs
    if costs > 0 and after <= tonumber(ARGV[at + 3]) then
      if ends[i] then
        put(key, string.format('w%.0f:%.0f', ends[i], after), math.ceil(((ends[i] + 1 - seconds) * 1e9 - nanos) / 1e6) + 1)
      else
        owe(key, after)
      end
    end
  end
end
return said
