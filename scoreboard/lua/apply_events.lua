-- Applies ledger events first..first+k-1 to one board, in order and exactly once, and publishes them.
--
-- KEYS[1] head   hash        epoch, seq, at (time of the event at seq, '' for none), size (entries of all),
--                            verified_at (seconds, this server's clock)
-- KEYS[2] all    sorted set  user id -> negated score
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3] first, the seq of the first event
-- ARGV[4] time of the event before the first, '' for none
-- ARGV[5..] per event: user id, negated score after the event, the event's JSON object without its closing brace
-- Returns {status, head seq, ranks}; ranks holds rank and previous rank (0: none) of each event, in order:
--   applied   every event up to the last is in the ranking now; events that were there before have ranks 0, 0
--   cold      no head, one of another epoch, or the ranking lost entries: nothing written, ranks empty
--   gap       the first event is beyond head + 1: nothing written, ranks empty
--   diverged  the ranking's last event is not the ledger's event of that seq: nothing written, ranks empty
-- Publishes, when an event was fresh: 
--   {"epoch","first","seq","at","total","events":[…],"top":[user, negated score, …]}
local head_key, all_key = KEYS[1], KEYS[2]
local channel, epoch, first, previous_at = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local FIRST_EVENT, FIELDS, TOP = 5, 3, 10

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'at', 'size')
if head[1] ~= epoch or not head[4] or tonumber(head[4]) ~= redis.call('ZCARD', all_key) then
    return {'cold', head[2] or '0', {}}
end
local head_seq = tonumber(head[2])
if first > head_seq + 1 then
    return {'gap', head[2], {}}
end

local last_seq = first - 1 + (#ARGV - FIRST_EVENT + 1) / FIELDS
local function at_of(seq)
    return string.match(ARGV[FIRST_EVENT + (seq - first) * FIELDS + 2], '"at":"([^"]+)"')
end
-- Where the events meet the head, both must be the same history. Beyond it there is nothing to compare.
if first == head_seq + 1 and previous_at ~= head[3]
    or first <= head_seq and head_seq <= last_seq and at_of(head_seq) ~= head[3] then
    return {'diverged', head[2], {}}
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

local last, at, size = string.format('%.0f', last_seq), at_of(last_seq), redis.call('ZCARD', all_key)
redis.call('HSET', head_key, 'seq', last, 'at', at, 'size', size, 'verified_at', redis.call('TIME')[1])
local top = redis.call('ZRANGE', all_key, 0, TOP - 1, 'WITHSCORES')
redis.call('PUBLISH', channel, '{"epoch":"' .. epoch
    .. '","first":' .. string.format('%.0f', seq - #events)
    .. ',"seq":' .. last
    .. ',"at":"' .. at
    .. '","total":' .. size
    .. ',"events":[' .. table.concat(events, ',')
    .. '],"top":' .. cjson.encode(top) .. '}')
return {'applied', last, ranks}
