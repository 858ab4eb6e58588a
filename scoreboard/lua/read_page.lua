-- Reads a page of one ranking with the board's position, all at one moment.
--
-- KEYS[1] head     hash        see shared.lua
-- KEYS[2] names    hash        user id -> display name
-- KEYS[3] ranking  sorted set  of the window and period
-- KEYS[4] ties     see shared.lua
-- ARGV[1] window
-- ARGV[2] first day of the period that KEYS[3] is of, '' in window all
-- ARGV[3] limit
-- ARGV[4] offset (0-based), used when ARGV[6] and ARGV[7] are empty
-- ARGV[5] negated score and
-- ARGV[6] member of the entry to start after, which need not exist any more: as it is in the set; '' for none
-- ARGV[7] user id to have in the middle of the page; '' for none
-- Returns {status, epoch, seq, total, age in seconds since verified, ties, period, its end in milliseconds, offset, rank of
-- the first entry, members and negated scores in turn, users and display names in turn}:
--   ok      as asked; no entries when the user in the middle is unscored
--   cold, absent, moved, over   see shared.lua: without entries
local head_key, names_key, key, ties_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, offset, after_score, after_member, middle = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]

local function answer(state, status, start, first_rank, entries, names)
    return {
        status, state.epoch or '', state.seq or '0', state.total, state.age, state.ties or '', state.period, state.ends,
        start, first_rank, entries, names,
    }
end

local state, trouble = look(head_key, names_key, key, ties_key, ARGV[1], ARGV[2])
if trouble then
    return answer(state, trouble, 0, 0, {}, {})
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

if middle ~= '' then
    local member = member_of(state.ties, ties_key, middle)
    local place = member and redis.call('ZRANK', key, member)
    if not place then
        return answer(state, 'ok', 0, 0, {}, {})
    end
    limit = math.min(limit, state.total)
    offset = math.max(0, math.min(place - (tonumber(ARGV[3]) - 1) / 2, state.total - limit))
elseif after_member ~= '' then
    -- Binary search among those tied with the given score for the first one after it.
    local low = redis.call('ZCOUNT', key, '-inf', '(' .. after_score)
    local high = redis.call('ZCOUNT', key, '-inf', after_score)
    while low < high do
        local half = math.floor((low + high) / 2)
        if is_after(redis.call('ZRANGE', key, half, half)[1], after_member) then
            high = half
        else
            low = half + 1
        end
    end
    offset = low
end

local entries = redis.call('ZRANGE', key, offset, offset + limit - 1, 'WITHSCORES')
local first_rank = 0
if #entries > 0 then
    first_rank = rank_of(state.ties, key, ties_key, entries[1], entries[2])
end
local _, names = with_names(state.ties, names_key, {unpack(entries)})
return answer(state, 'ok', offset, first_rank, entries, names)
