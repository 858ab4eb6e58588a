-- Reads a user with neighbours above and below, with the board's position, all at one moment.
--
-- KEYS[1] head   hash        epoch, seq, at, size (entries of all), verified_at (seconds, this server's clock)
-- KEYS[2] all    sorted set  user id -> negated score
-- ARGV[1] user id
-- ARGV[2] radius: neighbours on each side; at an edge the other side gives more
-- Returns {status, epoch, seq, total, age in seconds since verified, offset, rank of the first entry, entries};
-- entries holds user id and negated score in turn, nothing when the user is unscored:
--   ok    as asked
--   cold  no head, or the ranking lost entries: '', '0', 0, 0, 0, 0, empty
local head_key, all_key = KEYS[1], KEYS[2]
local user, radius = ARGV[1], tonumber(ARGV[2])

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'verified_at', 'size')
local total = redis.call('ZCARD', all_key)
if not head[4] or tonumber(head[4]) ~= total then
    return {'cold', '', '0', 0, 0, 0, 0, {}}
end

local age = redis.call('TIME')[1] - head[3]
local place = redis.call('ZRANK', all_key, user)
if not place then
    return {'ok', head[1], head[2], total, age, 0, 0, {}}
end
local size = math.min(2 * radius + 1, total)
local offset = math.max(0, math.min(place - radius, total - size))
local entries = redis.call('ZRANGE', all_key, offset, offset + size - 1, 'WITHSCORES')
local first_rank = redis.call('ZCOUNT', all_key, '-inf', '(' .. entries[2]) + 1
return {'ok', head[1], head[2], total, age, offset, first_rank, entries}
