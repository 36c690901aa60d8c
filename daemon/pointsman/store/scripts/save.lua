-- Write what changed of the state, the notes and the answers, all or nothing.
-- KEYS[3] state, KEYS[4] events, KEYS[5…] one per answer.
-- ARGV[3] expected revision, ARGV[4] length of the event stream, ARGV[5] ttl of an answer in ms,
-- ARGV[6] channel of the answers, ARGV[7] count of fields to set, ARGV[8] of fields to delete, ARGV[9] of notes;
-- then the fields (name, value), the names, the notes, and the answers (id, value).
local refused = refusal()
if refused then
  return refused
end
local revision = redis.call('HGET', KEYS[3], 'revision') or '0'
if revision ~= ARGV[3] then
  return {'CONFLICT', revision}
end
-- First, because a full server refuses the first write that needs memory, and no later one of the same script.
revision = redis.call('HINCRBY', KEYS[3], 'revision', 1)
local at = 9
local function take()
  at = at + 1
  return ARGV[at]
end
for _ = 1, ARGV[7] do
  redis.call('HSET', KEYS[3], take(), take())
end
for _ = 1, ARGV[8] do
  redis.call('HDEL', KEYS[3], take())
end
for _ = 1, ARGV[9] do
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'note', take())
end
for answer = 5, #KEYS do
  local id = take()
  redis.call('SET', KEYS[answer], take(), 'PX', ARGV[5])
  redis.call('PUBLISH', ARGV[6], id)
end
return {'OK', revision}
