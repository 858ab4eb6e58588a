-- Reads the scores and ranks of some users with the board's position, all at one moment.
--
-- KEYS[1] head   hash        epoch, seq, at, size (entries of all), verified_at (seconds, this server's clock)
-- KEYS[2] all    sorted set  user id -> negated score
-- ARGV[1..] user ids
-- Returns {status, epoch, seq, total, age in seconds since verified, users};
-- users holds for each id in turn: negated score ('' when unscored), rank (0), users with a strictly lower score (0):
--   ok    as asked
--   cold  no head, or the ranking lost entries: '', '0', 0, 0, empty
local head_key, all_key = KEYS[1], KEYS[2]

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'verified_at', 'size')
local total = redis.call('ZCARD', all_key)
if not head[4] or tonumber(head[4]) ~= total then
    return {'cold', '', '0', 0, 0, {}}
end

local users = {}
for i = 1, #ARGV do
    local score = redis.call('ZSCORE', all_key, ARGV[i])
    users[#users + 1] = score or ''
    users[#users + 1] = score and redis.call('ZCOUNT', all_key, '-inf', '(' .. score) + 1 or 0
    users[#users + 1] = score and redis.call('ZCOUNT', all_key, '(' .. score, '+inf') or 0
end
return {'ok', head[1], head[2], total, redis.call('TIME')[1] - head[3], users}
