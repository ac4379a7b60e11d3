-- What gateways that share a store tell each other about bans: takes what one of them has changed, and returns what the others have.
--
-- KEYS: a hash with the epoch and the number of the last change; the records by name; their names by number; their names by when they may be forgotten.
-- ARGV: an epoch, should there be none; the epoch that the caller knows; the number of the last change that it knows; how many records it wants at the most; what
-- time the caller has; then five for each change: its name, whom a ban is about (empty: it lifts), when it was made, when it may be forgotten (both in seconds since 1970), the record.
-- Returns the epoch, the number up to which the caller knows everything now, `more` or `all`, and the records, the oldest first. Bans that were lifted are left out.
-- The four belong together. A server that evicts takes one of them and leaves the others: where one is missing, or holds something else than the others, all are
-- deleted, and a new epoch begins, in which everybody tells again. The same where the caller knows of a change that is not here: the server has come back with
-- what it knew some time ago. So that none of them is ever missing because it is empty, the epoch is in three of them (as a
-- record, and as the name number 0), and the fourth has as many names as the third.
-- A record is kept as `WHEN|RECORD`. The newer one of a name stays, and of two bans as old the one that ends later; a ban that did not begin after the last lift of
-- its client, and of everybody, is not taken, and forgotten where it is met, so that it does not come back when the lift is forgotten. What is told again is not
-- written again, so that nobody has to hear of it; nor is what would be the first to make room.
local about, records, numbers, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local MOST, AT_ONCE, DAY, APART, AHEAD = 65536, 1000, 86400, 10, 60
local now = tonumber(redis.call('TIME')[1])

-- What is newer is told by clocks: with one that is a year ahead, a lift would let out for a year whoever is banned.
local apart = tonumber(ARGV[5]) - now
if math.abs(apart) > APART then
  local text = 'CLOCK the clock of this gateway is %.0f seconds %s that of the store'
  return redis.error_reply(string.format(text, math.abs(apart), apart > 0 and 'ahead of' or 'behind'))
end

-- Nothing where somebody has put a list or the like there. Anything else that fails, such as a right that is missing, is the caller's to know.
local function look(...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then
    return found
  end
  return not string.find(found.err, 'WRONGTYPE', 1, true) and redis.call(...)
end

local epoch = look('HGET', about, 'epoch')
local last = epoch and tonumber(look('HGET', about, 'number') or 0)
local is_whole = last and look('HGET', records, 'epoch') == epoch and look('ZSCORE', numbers, epoch)
  and look('ZCARD', numbers) == (look('ZCARD', ends) or -2) + 1
  and (epoch ~= ARGV[2] or tonumber(ARGV[3]) <= last)
if not is_whole then
  redis.call('DEL', about, records, numbers, ends)
  epoch = ARGV[1]
  redis.call('HSET', about, 'epoch', epoch)
  redis.call('HSET', records, 'epoch', epoch)
  redis.call('ZADD', numbers, 0, epoch)
  for _, key in ipairs(KEYS) do
    redis.call('EXPIREAT', key, now + DAY)
  end
end

-- When that was. What is further ahead than any clock may be is worth nothing: this one was set back.
local function made(name)
  local record = redis.call('HGET', records, name)
  local at = record and tonumber(string.match(record, '^(%d+)|')) or -1
  return at <= now + AHEAD and at or -1
end

-- Whether nobody was let in since a ban began, or this is no ban.
local function holds(client, at)
  return client == '' or at > made('lift ' .. client) and at > made('lift *')
end

-- When a ban ends; inside of words, a quotation mark has a backslash before it. How long it is remembered is not the same for all.
local function ending(record)
  return tonumber(string.match(record or '', '"until": ?(%d+)') or 0)
end

-- What makes room ends then. Those that are over are among them still.
local first = redis.call('ZCARD', ends) >= MOST and tonumber(redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')[2]) or 0

local changed = false
for i = 6, #ARGV, 5 do
  local name, client, at, until_, text = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), ARGV[i + 4]
  local known = made(name)
  local is_newer = at > known or at == known and ending(text) > ending(redis.call('HGET', records, name))
  local stays = until_ > math.max(now, first) or until_ > now and redis.call('ZSCORE', ends, name)
  if is_newer and holds(client, at) and stays and at <= now + AHEAD then
    redis.call('HSET', records, name, string.format('%.0f|', at) .. text)
    redis.call('ZADD', numbers, redis.call('HINCRBY', about, 'number', 1), name)
    redis.call('ZADD', ends, until_, name)
    changed = true
  end
end

local function forget(names)
  for _, name in ipairs(names) do
    redis.call('HDEL', records, name)
    redis.call('ZREM', numbers, name)
    redis.call('ZREM', ends, name)
  end
end
forget(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, AT_ONCE))
local excess = redis.call('ZCARD', ends) - MOST
if excess > 0 then
  forget(redis.call('ZRANGE', ends, 0, math.min(excess, AT_ONCE) - 1))
end
if changed then
  -- Nothing stays for ever.
  local latest = tonumber(redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2] or now)
  for _, key in ipairs(KEYS) do
    redis.call('EXPIREAT', key, string.format('%.0f', math.max(latest, now) + DAY))
  end
end

local known = epoch == ARGV[2] and tonumber(ARGV[3]) or 0
local found = redis.call('ZRANGEBYSCORE', numbers, '(' .. string.format('%.0f', known), '+inf', 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[4]))
local answer = { epoch, string.format('%.0f', known), #found / 2 >= tonumber(ARGV[4]) and 'more' or 'all' }
for i = 1, #found, 2 do
  answer[2] = found[i + 1]
  local record = redis.call('HGET', records, found[i])
  if record and holds(string.match(found[i], '^ban .* (%S+)$') or '', made(found[i])) then
    answer[#answer + 1] = record
  else
    forget({ found[i] })
  end
end
return answer
