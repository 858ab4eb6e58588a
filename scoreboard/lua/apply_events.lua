-- Applies ledger events first..first+k-1 to one board, in order and exactly once, and publishes them.
--
-- KEYS[1] head   hash        see shared.lua
-- KEYS[2] names  hash        user id -> display name
-- KEYS[3] all    sorted set  the ranking of all
-- KEYS[4] ties   see shared.lua
-- KEYS[i] two in the same way for each period that the events are in
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3] first, the seq of the first event
-- ARGV[4] time of the event before the first, '' for none
-- ARGV[5] k, the number of events
-- ARGV[6] w, the number of windows of the board besides all
-- ARGV[7] the number of periods
-- ARGV[8..] per period: its window, its first day, when it is over and when its keys expire (milliseconds); then per
--     event: user id, JSON object without its closing brace, negated score in all, and w times the number of a period
--     and the negated score in it. Without a score ('') the user is not ranked after the event. A score may be followed
--     by @ and the 16 digits of the seq at which it was reached, if that is not this event. No JSON: nobody is told.
--     No user: what follows can't be told by events. Then per name: seq of the event, user id, name ('' for none).
-- Returns {status, head seq, ranks}; ranks holds rank and previous rank (0: none) of each event, in order:
--   applied   every event up to the last is in the ranking now; events that were there before have ranks 0, 0
--   cold      no head, one of another epoch, or the ranking lost entries or can't follow: ranks empty, and from now on
--             there is no ranking for anybody
--   gap       the first event is beyond head + 1: nothing written, ranks empty
--   diverged  the ranking's last event is not the ledger's event of that seq: nothing written, ranks empty
-- Publishes, when an event was fresh, all those that were, with the display names of those whose scores they tell: see
-- shared.lua
local head_key, names_key = KEYS[1], KEYS[2]
local channel, epoch, first, previous_at = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local count, windows, periods = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST_PERIOD, PERIOD_FIELDS, NAME_FIELDS = 8, 4, 3
local FIRST_EVENT, FIELDS = FIRST_PERIOD + periods * PERIOD_FIELDS, 3 + 2 * windows
local FIRST_NAME = FIRST_EVENT + count * FIELDS

local head, is_intact = head_of(head_key, names_key, KEYS[3], KEYS[4])
local ties, head_seq = head.ties, tonumber(head.seq)
if head.epoch ~= epoch or not is_intact then
    return {'cold', head.seq or '0', {}}
end
if first > head_seq + 1 then
    return {'gap', head.seq, {}}
end

local last_seq = first + count - 1
local function at_of(seq)
    return string.match(ARGV[FIRST_EVENT + (seq - first) * FIELDS + 1], '"at":"([^"]+)"')
end
-- Where the events meet the head, both must be the same history. Beyond it there is nothing to compare.
if first == head_seq + 1 and previous_at ~= head.at
    or first <= head_seq and head_seq <= last_seq and at_of(head_seq) ~= head.at then
    return {'diverged', head.seq, {}}
end
if last_seq <= head_seq then
    local ranks = {}
    for i = 1, 2 * count do
        ranks[i] = 0
    end
    return {'applied', head.seq, ranks}
end

local function give_up()
    redis.call('HDEL', head_key, 'size')
    return {'cold', head.seq, {}}
end

for seq = math.max(first, head_seq + 1), last_seq do
    if ARGV[FIRST_EVENT + (seq - first) * FIELDS] == '' then
        return give_up()
    end
end

-- The rankings of the periods. One that is over before the head's is not ranked here any more; one that comes after it
-- takes its place.
local all = {key = KEYS[3], ties_key = KEYS[4]}
local rankings = {}
for i = 1, periods do
    local at = FIRST_PERIOD + (i - 1) * PERIOD_FIELDS
    local window, period = ARGV[at], ARGV[at + 1]
    local ranking = {
        key = KEYS[3 + 2 * i], ties_key = KEYS[4 + 2 * i], window = window, period = period, ends = ARGV[at + 2],
        expires = ARGV[at + 3],
    }
    local known = redis.call('HMGET', head_key, window, window .. ':size')
    if not known[1] then
        return give_up()
    end
    if period == known[1] and not is_whole(ties, ranking.key, ranking.ties_key, known[2]) then
        return give_up()
    end
    ranking.is_over = period < known[1]
    ranking.is_new = period > known[1]
    rankings[i] = ranking
end
for _, ranking in ipairs(rankings) do
    if ranking.is_new then -- of its name there may be one that another history left behind
        redis.call('UNLINK', ranking.key, ranking.ties_key)
    end
end

-- Sets a user's score; the rank after it and before it, each nil for none, and whether it was that before.
local function set_score(ranking, user, told, seq)
    local key, ties_key = ranking.key, ranking.ties_key
    local member = member_of(ties, ties_key, user)
    local before = member and redis.call('ZSCORE', key, member)
    local previous_rank = before and rank_of(ties, key, ties_key, member, before)
    local score, reached = told, string.format('%016.0f', seq)
    if string.find(told, '@', 1, true) then
        score, reached = string.match(told, '^(.*)@(.*)$')
    end
    if before == score then
        return previous_rank, previous_rank, true
    end
    if before and (score == '' or ties == 'first') then
        redis.call('ZREM', key, member)
    end
    if score ~= '' then
        if ties == 'first' then
            member = reached .. user
            redis.call('HSET', ties_key, user, reached)
        elseif ties == 'dense' then
            redis.call('ZADD', ties_key, score, score)
        end
        redis.call('ZADD', key, score, member)
    elseif before and ties == 'first' then
        redis.call('HDEL', ties_key, user)
    end
    if before and ties == 'dense' and redis.call('ZCOUNT', key, before, before) == 0 then
        redis.call('ZREM', ties_key, before)
    end
    return score ~= '' and rank_of(ties, key, ties_key, member, score) or nil, previous_rank
end

local function negate(score)
    score = string.match(score, '^[^@]*')
    if string.sub(score, 1, 1) == '-' then
        return string.sub(score, 2)
    end
    return score == '0' and score or '-' .. score
end

for i = FIRST_NAME, #ARGV, NAME_FIELDS do
    if tonumber(ARGV[i]) > head_seq then
        if ARGV[i + 2] == '' then
            redis.call('HDEL', names_key, ARGV[i + 1])
        else
            redis.call('HSET', names_key, ARGV[i + 1], ARGV[i + 2])
        end
    end
end

-- What the JSON of an event gets besides ranks: whose score is told by which name. What tells of names has them already.
local encoded_names = redis.call('EXISTS', names_key) == 1 and {}
local function name_in(user, json)
    if not string.find(json, '^{"userId"') then
        return ''
    end
    if not encoded_names then
        return ',"displayName":null'
    end
    if not encoded_names[user] then
        local name = redis.call('HGET', names_key, user)
        encoded_names[user] = ',"displayName":' .. (name and cjson.encode(name) or 'null')
    end
    return encoded_names[user]
end

local ranks, events = {}, {}
local at = FIRST_EVENT
for seq = first, last_seq do
    if seq <= head_seq then
        ranks[#ranks + 1] = 0
        ranks[#ranks + 1] = 0
    else
        local user, json = ARGV[at], ARGV[at + 1]
        local rank, previous_rank = set_score(all, user, ARGV[at + 2], seq)
        ranks[#ranks + 1] = rank or 0
        ranks[#ranks + 1] = previous_rank or 0
        events[#events + 1] = string.sub(json, 1, 1) ~= '{' and 'null' or json .. name_in(user, json)
            .. ',"rank":' .. (rank or 'null') .. ',"previousRank":' .. (previous_rank or 'null') .. '}'
        for i = at + 3, at + FIELDS - 1, 2 do
            local ranking, score = rankings[tonumber(ARGV[i])], ARGV[i + 1]
            if not ranking.is_over then
                local now, before, is_same = set_score(ranking, user, score, seq)
                -- An event with points that leaves the score counts in another period: an earlier one is undone.
                if is_same and not string.find(json, '"points":0,', 1, true) and string.find(json, '"points":', 1, true) then
                    now, before = nil, nil
                end
                local told = ranking.told or {}
                ranking.told = told
                ranking.first = ranking.first or seq
                told[#told + 1] = (now and negate(score) or 'null') .. ',' .. (now or 0) .. ',' .. (before or 0)
            end
        end
    end
    at = at + FIELDS
end

local last, at_last, size = string.format('%.0f', last_seq), at_of(last_seq), redis.call('ZCARD', all.key)
local fields = {
    'seq', last, 'at', at_last, 'size', size, 'verified_at', redis.call('TIME')[1], 'names', redis.call('HLEN', names_key),
}
local top, names = with_names(ties, names_key, redis.call('ZRANGE', all.key, 0, TOP - 1, 'WITHSCORES'))
local shown = {} -- of each window, of its latest period only
for _, ranking in ipairs(rankings) do
    if not ranking.is_over then
        local window, entries = ranking.window, redis.call('ZCARD', ranking.key)
        for _, each in ipairs({window, ranking.period, window .. ':size', entries, window .. ':ends', ranking.ends}) do
            fields[#fields + 1] = each
        end
        -- Each time: a key comes with its first entry, which need not be that of the period's first event.
        redis.call('PEXPIREAT', ranking.key, ranking.expires)
        redis.call('PEXPIREAT', ranking.ties_key, ranking.expires)
        local window_top, window_names =
            with_names(ties, names_key, redis.call('ZRANGE', ranking.key, 0, TOP - 1, 'WITHSCORES'))
        for _, each in ipairs(window_names) do
            names[#names + 1] = each
        end
        local skipped = string.rep('null,0,0,', (ranking.first or last_seq + 1) - (last_seq + 1 - #events))
        local told = skipped .. table.concat(ranking.told or {}, ',')
        shown[window] = encode_part(ranking.period, ranking.ends, entries, told, window_top)
    end
end
redis.call('HSET', head_key, unpack(fields))
publish(channel, {epoch = epoch, seq = last, at = at_last}, size, events, top, names, shown)
return {'applied', last, ranks}
