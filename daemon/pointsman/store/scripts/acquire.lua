-- Take the lease. KEYS: lease, last epoch. ARGV: owner, ttl in ms, floor of the epoch.
-- Gives the epoch as text, or '' if somebody else holds the lease.
local owner, ttl_ms, floor = ARGV[1], ARGV[2], tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if held[1] and held[1] ~= owner then
  return ''
end
if held[2] and tonumber(held[2]) >= floor then
  redis.call('PEXPIRE', KEYS[1], ttl_ms)
  return held[2]
end
-- A store that knows no epoch may have been flushed: the clock is above any epoch given out before.
local last = redis.call('GET', KEYS[2]) or redis.call('TIME')[1]
local epoch = string.format('%.0f', math.max(tonumber(last), tonumber(held[2] or 0), floor) + 1)
redis.call('SET', KEYS[2], epoch)
redis.call('HSET', KEYS[1], 'owner', owner, 'epoch', epoch)
redis.call('PEXPIRE', KEYS[1], ttl_ms)
return epoch
