-- Reads where a board's ranking stands.
--
-- KEYS[1] head   hash        see shared.lua
-- KEYS[2] names  hash        user id -> display name
-- KEYS[3] all    sorted set  the ranking of all
-- KEYS[4] ties   see shared.lua
-- Returns {status, epoch, seq, at}:
--   ok    as asked
--   cold  no head, or the ranking lost entries (evicted, deleted): '', '0', ''
local head, is_intact = head_of(KEYS[1], KEYS[2], KEYS[3], KEYS[4])
if not is_intact then
    return {'cold', '', '0', ''}
end
return {'ok', head.epoch, head.seq, head.at}
