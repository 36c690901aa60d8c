-- Renew what travels beside the table. KEYS[3] table; ARGV[3] reasons, ARGV[4] deadlines.
local refused = refusal()
if refused then
  return refused
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'reasons', ARGV[3], 'deadlines', ARGV[4])
end
return {'OK'}
