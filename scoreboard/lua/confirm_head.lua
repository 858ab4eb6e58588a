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

local head, is_intact = head_of(KEYS[1], KEYS[2], KEYS[3], KEYS[4])
if head.epoch ~= epoch or not is_intact then
    return {'cold', head.seq or '0'}
end
local head_seq = tonumber(head.seq)
if head_seq < seq then
    return {'behind', head.seq}
end
if head_seq == seq and head.at ~= at then
    return {'diverged', head.seq}
end
redis.call('HSET', KEYS[1], 'verified_at', redis.call('TIME')[1])
return {'confirmed', head.seq}
