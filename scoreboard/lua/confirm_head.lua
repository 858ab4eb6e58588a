-- Marks a board's head as equal to the ledger's, if it is.
--
-- KEYS[1] head   hash        epoch, seq, verified_at (seconds, this server's clock)
-- ARGV[1] epoch of the ledger
-- ARGV[2] seq of the ledger, read before this call
-- Returns {status, head seq}:
--   confirmed  the head has the epoch and is at the seq, or beyond it because more was applied since
--   behind     the head has the epoch and a smaller seq: nothing written
--   cold       no head, or one of another epoch: nothing written
local head_key, epoch, seq = KEYS[1], ARGV[1], tonumber(ARGV[2])

local head = redis.call('HMGET', head_key, 'epoch', 'seq')
if head[1] ~= epoch or not head[2] then
    return {'cold', head[2] or '0'}
end
if tonumber(head[2]) < seq then
    return {'behind', head[2]}
end
redis.call('HSET', head_key, 'verified_at', redis.call('TIME')[1])
return {'confirmed', head[2]}
