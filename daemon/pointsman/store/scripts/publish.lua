-- Replace the routing table by a newer one, keep it in the history, and tell the proxies.
-- KEYS[3] table, KEYS[4] history, KEYS[5] revisions in the history.
-- ARGV[3] epoch, ARGV[4] revision, ARGV[5] hash, ARGV[6] format, ARGV[7] body, ARGV[8] reasons, ARGV[9] deadlines
-- (the last three are JSON), ARGV[10] length of the history, ARGV[11] channel of the hints.
local refused = refusal()
if refused then
  return refused
end
local epoch, revision = tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('HMGET', KEYS[3], 'epoch', 'revision')
-- What is no number was written by somebody else, and is replaced. (Lua takes 0x10 and 1e9 for numbers;
-- nobody else. Beyond fifteen digits numbers are not exact, and no epoch could be above one.)
local function number(text)
  return text and #text <= 15 and text:match('^%d+$') and tonumber(text) or 0
end
local stored_epoch, stored_revision = number(stored[1]), number(stored[2])
if epoch < stored_epoch or (epoch == stored_epoch and revision <= stored_revision) then
  return {'STALE', stored[1], stored[2]}
end
local now = redis.call('TIME')
local now_s = string.format('%d.%06d', now[1], now[2])
redis.call('HSET', KEYS[3], 'epoch', ARGV[3], 'revision', ARGV[4], 'hash', ARGV[5], 'format', ARGV[6],
  'body', ARGV[7], 'reasons', ARGV[8], 'deadlines', ARGV[9], 'published_s', now_s)
redis.call('HSET', KEYS[4], ARGV[4], string.format('{"version":[%s,%s],"hash":"%s","published_s":%s,"reasons":',
  ARGV[3], ARGV[4], ARGV[5], now_s) .. ARGV[8] .. ',"body":' .. ARGV[7] .. '}')
redis.call('ZADD', KEYS[5], revision, ARGV[4])
local surplus = redis.call('ZCARD', KEYS[5]) - tonumber(ARGV[10])
if surplus > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', KEYS[5], 0, surplus - 1)) do
    redis.call('HDEL', KEYS[4], oldest)
    redis.call('ZREM', KEYS[5], oldest)
  end
end
redis.call('PUBLISH', ARGV[11], ARGV[3] .. '.' .. ARGV[4])
return {'OK'}
