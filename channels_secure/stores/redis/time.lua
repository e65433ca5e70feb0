-- This server's time, for whoever wants to compare clocks. A script, because a cluster's client routes it by its key.
-- KEYS: one that is not looked at.
-- Returns seconds and microseconds.
return redis.call('TIME')
