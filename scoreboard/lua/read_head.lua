-- Reads where a board's ranking stands.
--
-- KEYS[1] head   hash        see shared.lua
-- KEYS[2] names  hash        user id -> display name
-- KEYS[3] all    sorted set  the ranking of all
-- KEYS[4] ties   see shared.lua
-- Returns {status, epoch, seq, at}:
--   ok    as asked
--   cold  no head, or the ranking lost entries (evicted, deleted): '', '0', ''
local head = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'at', 'size', 'ties', 'names')
if not is_whole(head[5], KEYS[3], KEYS[4], head[4]) or tonumber(head[6]) ~= redis.call('HLEN', KEYS[2]) then
    return {'cold', '', '0', ''}
end
return {'ok', head[1], head[2], head[3]}
