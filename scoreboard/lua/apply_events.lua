-- Applies ledger events first..first+k-1 to one board, in order and exactly once, and publishes them.
--
-- KEYS[1] head   hash        epoch, seq, verified_at (seconds, this server's clock)
-- KEYS[2] all    sorted set  user id -> negated score
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3] first, the seq of the first event
-- ARGV[4..] per event: user id, negated score after the event, the event's JSON object without its closing brace
-- Returns {status, head seq, ranks}; ranks holds rank and previous rank (0: none) of each event, in order:
--   applied  every event up to the last is in the ranking now; events that were there before have ranks 0, 0
--   cold     no head, or one of another epoch: nothing written, ranks empty
--   gap      the first event is beyond head + 1: nothing written, ranks empty
-- Publishes, when an event was fresh: {"epoch","first","seq","total","events":[…],"top":[user, negated score, …]}
local head_key, all_key = KEYS[1], KEYS[2]
local channel, epoch, first = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIRST_EVENT, FIELDS, TOP = 4, 3, 10

local head = redis.call('HMGET', head_key, 'epoch', 'seq')
if head[1] ~= epoch or not head[2] then
    return {'cold', head[2] or '0', {}}
end
local head_seq = tonumber(head[2])
if first > head_seq + 1 then
    return {'gap', head[2], {}}
end

local function rank_of(negated_score)
    return redis.call('ZCOUNT', all_key, '-inf', '(' .. negated_score) + 1
end

local ranks, events = {}, {}
local seq = first
for i = FIRST_EVENT, #ARGV, FIELDS do
    local user, negated_score, json = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if seq <= head_seq then
        ranks[#ranks + 1] = 0
        ranks[#ranks + 1] = 0
    else
        local before = redis.call('ZSCORE', all_key, user)
        local previous_rank = before and rank_of(before) or 0
        redis.call('ZADD', all_key, negated_score, user)
        local rank = rank_of(negated_score)
        ranks[#ranks + 1] = rank
        ranks[#ranks + 1] = previous_rank
        events[#events + 1] = json .. ',"rank":' .. rank
            .. ',"previousRank":' .. (before and previous_rank or 'null') .. '}'
    end
    seq = seq + 1
end
if #events == 0 then
    return {'applied', head[2], ranks}
end

local last = string.format('%.0f', seq - 1)
redis.call('HSET', head_key, 'seq', last, 'verified_at', redis.call('TIME')[1])
local top = redis.call('ZRANGE', all_key, 0, TOP - 1, 'WITHSCORES')
redis.call('PUBLISH', channel, '{"epoch":"' .. epoch
    .. '","first":' .. string.format('%.0f', seq - #events)
    .. ',"seq":' .. last
    .. ',"total":' .. redis.call('ZCARD', all_key)
    .. ',"events":[' .. table.concat(events, ',')
    .. '],"top":' .. cjson.encode(top) .. '}')
return {'applied', last, ranks}
