-- Keep the lease for another ARGV[3] ms; gives 1, or 0 if it is not ours any more.
if refusal() then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
