-- Give the lease up, if it is still ours.
if refusal() then
  return 0
end
return redis.call('DEL', KEYS[1])
