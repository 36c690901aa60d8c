-- Take the lease. KEYS: lease, last epoch. ARGV: owner, ttl in ms, floor of the epoch.
-- Gives the epoch as text, or '' if somebody else holds the lease.
local owner, ttl_ms, floor = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- What is no epoch was written by somebody else, and is in nobody's way: epochs begin with the clock, and have fifteen
-- digits at most, beyond which they would soon not grow any more.
local function number(text)
  return text and #text <= 15 and text:match('^%d+$') and tonumber(text)
end
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
local held_epoch = number(held[2])
-- Nor is a lease that never ends: whoever leads sets its end with it.
if held[1] and held[1] ~= owner and held_epoch and redis.call('PTTL', KEYS[1]) >= 0 then
  return ''
end
if held[1] == owner and held_epoch and held_epoch >= floor then
  redis.call('PEXPIRE', KEYS[1], ttl_ms)
  return held[2]
end
-- A store that knows no epoch may have been flushed: the clock is above any epoch given out before.
local last = number(redis.call('GET', KEYS[2])) or tonumber(redis.call('TIME')[1])
local epoch = string.format('%.0f', math.max(last, held_epoch or 0, floor) + 1)
redis.call('SET', KEYS[2], epoch)
redis.call('HSET', KEYS[1], 'owner', owner, 'epoch', epoch)
redis.call('PEXPIRE', KEYS[1], ttl_ms)
return epoch
