-- Eviction of an owner's oldest connections, for one that was accepted just now.
-- KEYS and ARGV: as in claim.lua, up to the limit.
-- Returns the evicted connections.
local member, mark, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000000 + time[2])

local excess = redis.call('ZCARD', KEYS[1]) - limit
local own, evicted = {}, {}
if excess <= 0 then
  return evicted
end
for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if other ~= member and string.sub(other, 1, #mark) == mark then
    own[#own + 1] = other
  end
end
-- A member begins with its owner's mark and the time it was opened, so that its name is its age.
table.sort(own)
for index = 1, math.min(excess, #own) do
  redis.call('ZREM', KEYS[1], own[index])
  evicted[index] = own[index]
end
return evicted
