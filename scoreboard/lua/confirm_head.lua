-- Marks a board's head as equal to the ledger's, if it is.
--
-- KEYS[1] head   hash        see shared.lua
-- KEYS[2] names  hash        user id -> display name
-- KEYS[3] all    sorted set  the ranking of all
-- KEYS[4] ties   see shared.lua
-- ARGV[1] epoch of the ledger
-- ARGV[2] seq of the ledger, read before this call
-- ARGV[3] time of the ledger's event at that seq, '' for none
-- Returns {status, head seq}:
--   confirmed  the head has the epoch and is at that event, or beyond it because more was applied since
--   behind     the head has the epoch and a smaller seq: nothing written
--   cold       no head, one of another epoch, or the ranking lost entries: nothing written
--   diverged   the head is at another event of that seq: nothing written
local epoch, seq, at = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'at', 'size', 'ties', 'names')
if head[1] ~= epoch or not is_whole(head[5], KEYS[3], KEYS[4], head[4])
    or tonumber(head[6]) ~= redis.call('HLEN', KEYS[2]) then
    return {'cold', head[2] or '0'}
end
local head_seq = tonumber(head[2])
if head_seq < seq then
    return {'behind', head[2]}
end
if head_seq == seq and head[3] ~= at then
    return {'diverged', head[2]}
end
redis.call('HSET', KEYS[1], 'verified_at', redis.call('TIME')[1])
return {'confirmed', head[2]}
