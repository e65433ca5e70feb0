-- Spend of one budget: the generic cell rate algorithm, with this server's time as the only clock.
-- KEYS: the theoretical arrival time (TAT), microseconds.
-- ARGV: microseconds per unit; microseconds of tolerance; the least that is needed; the most that is wanted.
-- Returns how many units were spent, none or at least the least, and else the microseconds to wait.
local increment, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local least, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  -- Not a string, so not ours, under a name that is: the next SET would replace it all the same.
  redis.call('DEL', KEYS[1])
  stored = false
end
local tat = stored and tonumber(stored) or now
-- Never further than a budget reaches: after a failover the clock may have gone back.
tat = math.max(now, math.min(tat, now + tolerance))

local room = math.floor((now + tolerance - tat) / increment)
if room < least then
  return {0, math.max(1, math.ceil(tat + least * increment - now - tolerance))}
end
local spent = math.min(room, most)
tat = tat + spent * increment
redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return {spent, 0}
