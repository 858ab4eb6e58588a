-- Reads a page of one board with its position, all at one moment.
--
-- KEYS[1] head   hash        epoch, seq, at, size (entries of all), verified_at (seconds, this server's clock)
-- KEYS[2] all    sorted set  user id -> negated score
-- ARGV[1] limit
-- ARGV[2] offset (0-based), used when ARGV[4] is empty
-- ARGV[3] negated score and
-- ARGV[4] user id of the entry to start after, which need not exist any more; '' to use the offset
-- Returns {status, epoch, seq, total, age in seconds since verified, offset, rank of the first entry, entries};
-- entries holds user id and negated score in turn:
--   ok    as asked
--   cold  no head, or the ranking lost entries: '', '0', 0, 0, 0, 0, empty
local head_key, all_key = KEYS[1], KEYS[2]
local limit, offset, after_score, after_user = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'verified_at', 'size')
local total = redis.call('ZCARD', all_key)
if not head[4] or tonumber(head[4]) ~= total then
    return {'cold', '', '0', 0, 0, 0, 0, {}}
end

-- Byte order, as the sorted set has it; Lua's own < follows the server's locale.
local function is_after(a, b)
    for i = 1, math.min(#a, #b) do
        local x, y = string.byte(a, i), string.byte(b, i)
        if x ~= y then
            return x > y
        end
    end
    return #a > #b
end

if after_user ~= '' then
    -- Binary search among the users tied with the given score for the first one after it.
    local low = redis.call('ZCOUNT', all_key, '-inf', '(' .. after_score)
    local high = redis.call('ZCOUNT', all_key, '-inf', after_score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_after(redis.call('ZRANGE', all_key, middle, middle)[1], after_user) then
            high = middle
        else
            low = middle + 1
        end
    end
    offset = low
end

local age = redis.call('TIME')[1] - head[3]
local entries = redis.call('ZRANGE', all_key, offset, offset + limit - 1, 'WITHSCORES')
local first_rank = 0
if #entries > 0 then
    first_rank = redis.call('ZCOUNT', all_key, '-inf', '(' .. entries[2]) + 1
end
return {'ok', head[1], head[2], total, age, offset, first_rank, entries}
