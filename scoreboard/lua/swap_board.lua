-- Puts a rebuilt ranking in the place of the present one and says so to the board's subscribers.
--
-- KEYS[1] head      hash        epoch, seq, at (time of the event at seq, '' for none), size (entries of all),
--                               verified_at (seconds, this server's clock)
-- KEYS[2] all       sorted set  user id -> negated score
-- KEYS[3] rebuilt   sorted set  user id -> negated score; gone afterwards. Absent means an empty board
-- KEYS[4] retired   sorted set  a name for the present ranking while it is freed
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3] seq that the rebuilt ranking shows
-- ARGV[4] time of the event at that seq, '' for none
-- ARGV[5] number of entries the rebuilt ranking must have
-- Returns {status, head seq}:
--   swapped  the rebuilt ranking is in place
--   kept     the present ranking is whole, has the epoch and is further: nothing changed, catch up and try again
--   partial  the rebuilt ranking lost entries (evicted, expired): it is dropped
-- Publishes, when swapped: 
--   {"epoch","first":seq+1,"seq","at","total","events":[],"top":[user, negated score, …]}
local head_key, all_key, rebuilt_key, retired_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, epoch, seq, at, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local TOP = 10

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'size')
local present = redis.call('ZCARD', all_key)
if head[1] == epoch and tonumber(head[3] or -1) == present and tonumber(head[2]) > tonumber(seq) then
    return {'kept', head[2]}
end
if redis.call('ZCARD', rebuilt_key) ~= size then
    redis.call('UNLINK', rebuilt_key)
    return {'partial', head[2] or '0'}
end
if present > 0 then
    -- Freed in the background: overwriting a million entries would hold up everybody for as long as it takes.
    redis.call('RENAME', all_key, retired_key)
    redis.call('UNLINK', retired_key)
end
if size > 0 then
    redis.call('PERSIST', rebuilt_key)
    redis.call('RENAME', rebuilt_key, all_key)
end
redis.call('HSET', head_key, 'epoch', epoch, 'seq', seq, 'at', at, 'size', size, 'verified_at', redis.call('TIME')[1])
local top = redis.call('ZRANGE', all_key, 0, TOP - 1, 'WITHSCORES')
redis.call('PUBLISH', channel, '{"epoch":"' .. epoch
    .. '","first":' .. string.format('%.0f', tonumber(seq) + 1)
    .. ',"seq":' .. seq
    .. ',"at":"' .. at
    .. '","total":' .. size
    .. ',"events":[],"top":' .. (#top > 0 and cjson.encode(top) or '[]') .. '}')
return {'swapped', seq}
