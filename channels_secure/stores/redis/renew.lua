-- Prolonging of leases, many in one call; one that was lost begins again, over the limit if it must.
-- KEYS: sorted sets as in claim.lua, all with one hash tag.
-- ARGV: the lease in milliseconds; the connections of each key, joined by commas, and these by semicolons: one long
-- argument costs the client far less than thousands of short ones.
local time = redis.call('TIME')
local ends = time[1] * 1000000 + time[2] + ARGV[1] * 1000
local index = 0
for members in string.gmatch(ARGV[2], '[^;]+') do
  index = index + 1
  local key = KEYS[index]
  for member in string.gmatch(members, '[^,]+') do
    local added = redis.pcall('ZADD', key, ends, member)
    if type(added) == 'table' then
      if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then
        return added
      end
      redis.call('DEL', key)
      redis.call('ZADD', key, ends, member)
    end
  end
  redis.call('PEXPIRE', key, ARGV[1])
end
return index
