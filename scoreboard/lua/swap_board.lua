-- Puts a rebuilt ranking in the place of the present one and says so to the board's subscribers.
--
-- KEYS[1] head      hash        epoch, seq, verified_at (seconds, this server's clock)
-- KEYS[2] all       sorted set  user id -> negated score
-- KEYS[3] rebuilt   sorted set  user id -> negated score; gone afterwards. Absent means an empty board
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3] seq that the rebuilt ranking shows
-- ARGV[4] number of entries the rebuilt ranking must have
-- Returns {status, head seq}:
--   swapped  the rebuilt ranking is in place
--   kept     the present ranking has the epoch and is further: nothing changed, catch up and try again
--   partial  the rebuilt ranking lost entries (evicted, expired): it is dropped
-- Publishes, when swapped: {"epoch","first":seq+1,"seq","total","events":[],"top":[user, negated score, …]}
local head_key, all_key, rebuilt_key = KEYS[1], KEYS[2], KEYS[3]
local channel, epoch, seq, size = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local TOP = 10

local head = redis.call('HMGET', head_key, 'epoch', 'seq')
if head[1] == epoch and head[2] and tonumber(head[2]) > tonumber(seq) then
    return {'kept', head[2]}
end
if redis.call('ZCARD', rebuilt_key) ~= size then
    redis.call('DEL', rebuilt_key)
    return {'partial', head[2] or '0'}
end
if size > 0 then
    redis.call('PERSIST', rebuilt_key)
    redis.call('RENAME', rebuilt_key, all_key)
else
    redis.call('DEL', all_key)
end
redis.call('HSET', head_key, 'epoch', epoch, 'seq', seq, 'verified_at', redis.call('TIME')[1])
local top = redis.call('ZRANGE', all_key, 0, TOP - 1, 'WITHSCORES')
redis.call('PUBLISH', channel, '{"epoch":"' .. epoch
    .. '","first":' .. string.format('%.0f', tonumber(seq) + 1)
    .. ',"seq":' .. seq
    .. ',"total":' .. size
    .. ',"events":[],"top":' .. (#top > 0 and cjson.encode(top) or '[]') .. '}')
return {'swapped', seq}
