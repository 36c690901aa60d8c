-- Keep the record of a decision, and let the oldest go when all of them take more room than they may.
-- KEYS[3] records. ARGV[3] the decision's time in ms, ARGV[4] bytes that all may take, ARGV[5] the record.
-- An entry is {written, …, record, …}: the bytes of all records ever written, up to and with this one. So what
-- the first and the last say gives the size of what lies between them, whoever wrote it and whoever was trimmed.
local refused = refusal()
if refused then
  return refused
end
local record = ARGV[5]
local function written(entry)
  -- What is no number was written by somebody else.
  return entry and tonumber(entry[2][2]) or 0
end
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
-- A clock that was set back gives no id above the last one; the store then makes one up.
local id = ARGV[3] .. '-*'
if newest and tonumber(string.match(newest[1], '^%d+')) > tonumber(ARGV[3]) then
  id = '*'
end
local total = written(newest) + #record
redis.call('XADD', KEYS[3], id, 'written', string.format('%.0f', total), 'record', record)
local oldest = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
local kept, most = total - written(oldest) + #(oldest[2][4] or ''), tonumber(ARGV[4])
if kept < #record then
  redis.call('XTRIM', KEYS[3], 'MAXLEN', 1)
elseif kept > most then
  local length = redis.call('XLEN', KEYS[3])
  local surplus = math.ceil(length * (kept - most) / kept)
  redis.call('XTRIM', KEYS[3], 'MAXLEN', math.max(1, length - surplus))
end
return {'OK'}
