-- Reads where a board's ranking stands.
--
-- KEYS[1] head   hash        epoch, seq, at (time of the event at seq, '' for none), size (entries of all), verified_at
-- KEYS[2] all    sorted set  user id -> negated score
-- Returns {status, epoch, seq, at}:
--   ok    as asked
--   cold  no head, or the ranking lost entries (evicted, deleted): '', '0', ''
local head_key, all_key = KEYS[1], KEYS[2]

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'at', 'size')
if not head[4] or tonumber(head[4]) ~= redis.call('ZCARD', all_key) then
    return {'cold', '', '0', ''}
end
return {'ok', head[1], head[2], head[3]}
