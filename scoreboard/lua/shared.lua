-- What several scripts need to know of a ranking; put before each of them.
--
-- A ranking is a sorted set of negated scores, and a key beside it for its ties:
--   shared  members are user ids; nothing beside it
--   dense   members are user ids; beside it a sorted set of the scores that somebody has, each under its own name
--   first   members are the seq at which the score was reached, in 16 digits, and the user id after it; beside it a
--           hash from user id to those digits
-- The head is a hash: epoch, seq, at (time of the event at seq, '' for none), size (entries of the ranking of all),
-- ties, names (entries of the hash of display names), verified_at (seconds, this server's clock); and for each other
-- window its current period, the entries of its ranking as <window>:size, and when it is over as <window>:ends
-- (milliseconds). A head without a size is that of a ranking that is not to be trusted.
-- Returns nothing: the script that follows does.
local DIGITS, TOP = 16, 10

local function user_of(ties, member)
    return ties == 'first' and string.sub(member, DIGITS + 1) or member
end

local function member_of(ties, ties_key, user)
    if ties ~= 'first' then
        return user
    end
    local reached = redis.call('HGET', ties_key, user)
    return reached and reached .. user
end

local function rank_of(ties, key, ties_key, member, score)
    if ties == 'first' then
        return redis.call('ZRANK', key, member) + 1
    end
    return redis.call('ZCOUNT', ties == 'dense' and ties_key or key, '-inf', '(' .. score) + 1
end

-- Whole keys get lost (evicted, deleted), never a part of one.
local function is_whole(ties, key, ties_key, size)
    return size and tonumber(size) == redis.call('ZCARD', key)
        and (ties == 'shared' or size == '0' or redis.call('EXISTS', ties_key) == 1)
end

-- Where a board's ranking stands; and whether the ranking of all and the display names are there as the head has them.
local function head_of(head_key, names_key, key, ties_key)
    local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'at', 'ties', 'size', 'names')
    local is_intact = is_whole(head[4], key, ties_key, head[5]) and tonumber(head[6]) == redis.call('HLEN', names_key)
    return {epoch = head[1], seq = head[2], at = head[3], ties = head[4], size = head[5]}, is_intact
end

-- Entries with members turned into user ids; and the display names of those users, user and name in turn.
local function with_names(ties, names_key, entries)
    local names, users = {}, {}
    for i = 1, #entries, 2 do
        entries[i] = user_of(ties, entries[i])
        users[#users + 1] = entries[i]
    end
    if #users > 0 and redis.call('EXISTS', names_key) == 1 then
        for i, name in ipairs(redis.call('HMGET', names_key, unpack(users))) do
            if name then
                names[#names + 1] = users[i]
                names[#names + 1] = name
            end
        end
    end
    return entries, names
end

-- A list as JSON: an empty table would be an object.
local function encode_list(list)
    return #list > 0 and cjson.encode(list) or '[]'
end

-- What a message says of a window. :param events: JSON, with commas between.
local function encode_part(period, ends, total, events, top)
    return '{"period":"' .. period .. '","ends":' .. ends .. ',"total":' .. total .. ',"events":[' .. events
        .. '],"top":' .. encode_list(top) .. '}'
end

-- Tells a board's subscribers where the ranking stands now, and the events by which it came there:
--   {"epoch","first","seq","at","total","events":[object or null, …],"top":[user, negated score, …],"names":[user, name, …],
--    "windows":{window: {"period","ends","total","events":[score or null, rank, previous rank, …],"top":[…]}}}
-- Of events there is a list of JSON; of windows, JSON by their names.
local function publish(channel, head, total, events, top, names, windows)
    local parts = {}
    for window, part in pairs(windows) do
        parts[#parts + 1] = '"' .. window .. '":' .. part
    end
    redis.call('PUBLISH', channel, '{"epoch":"' .. head.epoch
        .. '","first":' .. string.format('%.0f', tonumber(head.seq) + 1 - #events)
        .. ',"seq":' .. head.seq
        .. ',"at":"' .. head.at
        .. '","total":' .. total
        .. ',"events":[' .. table.concat(events, ',')
        .. '],"top":' .. encode_list(top)
        .. ',"names":' .. encode_list(names)
        .. ',"windows":{' .. table.concat(parts, ',') .. '}}')
end

-- Looks at a ranking that somebody wants to read: the head, the entries, and what is in the way, if anything:
--   cold    no head, or the ranking lost entries
--   absent  the board has no such window
--   moved   the key is not that of the window's current period
--   over    the window's current period is over, by this server's clock
local function look(head_key, names_key, key, ties_key, window, period)
    local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'verified_at', 'size', 'ties', 'names', window,
        window .. ':size', window .. ':ends')
    local now = redis.call('TIME')
    local state = {
        epoch = head[1], seq = head[2], ties = head[5], period = head[7] or '', ends = head[9] or '0', total = 0,
        age = now[1] - (head[3] or 0),
    }
    if not head[4] or tonumber(head[6]) ~= redis.call('HLEN', names_key) then
        return state, 'cold'
    end
    if window ~= 'all' then
        if not head[7] then
            return state, 'absent'
        end
        if tonumber(head[9]) <= now[1] * 1000 + now[2] / 1000 then
            return state, 'over'
        end
        if head[7] ~= period then
            return state, 'moved'
        end
    end
    state.total = redis.call('ZCARD', key)
    if not is_whole(head[5], key, ties_key, window == 'all' and head[4] or head[8]) then
        if window ~= 'all' then
            redis.call('HDEL', head_key, 'size') -- nobody else would notice
        end
        return state, 'cold'
    end
    return state, nil
end
