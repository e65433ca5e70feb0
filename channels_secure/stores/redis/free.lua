-- Freeing of slots, many in one call.
-- KEYS: sorted sets as in claim.lua, all with one hash tag.
-- ARGV: the connections of each key, joined as in renew.lua.
local index = 0
for members in string.gmatch(ARGV[1], '[^;]+') do
  index = index + 1
  for member in string.gmatch(members, '[^,]+') do
    redis.call('ZREM', KEYS[index], member)
  end
end
return index
