-- In front of every script that only the leader may run.
-- KEYS[1] lease, KEYS[2] last epoch; ARGV[1] owner, ARGV[2] epoch.
-- Gives nil if the caller holds the lease, else the reply that refuses it: FENCED, the holder, its epoch.
local function refusal()
  local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
  if held[1] == ARGV[1] and held[2] == ARGV[2] then
    return nil
  end
  return {'FENCED', held[1] or '', held[2] or redis.call('GET', KEYS[2]) or '0'}
end
