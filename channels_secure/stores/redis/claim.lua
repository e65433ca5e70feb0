-- Claim of one slot, counted in one step with the claims of all other processes.
-- KEYS: a sorted set of connections, each with the end of its lease (microseconds of this server's time).
-- ARGV: the connection; its owner's mark; the limit; the lease in milliseconds; '1' if the owner's own do not count.
-- Returns 1 when it is claimed, 0 when the key is full.
local member, mark, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local purged = redis.pcall('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if type(purged) == 'table' then
  redis.call('DEL', KEYS[1])
end
if not redis.call('ZSCORE', KEYS[1], member) then
  local rivals = redis.call('ZCARD', KEYS[1])
  if rivals >= limit and ARGV[5] == '1' then
    for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      if string.sub(other, 1, #mark) == mark then
        rivals = rivals - 1
      end
    end
  end
  if rivals >= limit then
    return 0
  end
end
redis.call('ZADD', KEYS[1], now + ARGV[4] * 1000, member)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
