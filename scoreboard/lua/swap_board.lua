-- Puts a rebuilt ranking in the place of the present one and says so to the board's subscribers.
--
-- KEYS[1] head            hash        see shared.lua
-- KEYS[2] names           hash        user id -> display name
-- KEYS[3] all             sorted set  the ranking of all
-- KEYS[4] ties            see shared.lua
-- KEYS[5] rebuilt head    and
-- KEYS[6] rebuilt names   and
-- KEYS[7] rebuilt all     and
-- KEYS[8] rebuilt ties    in the same way: gone afterwards
-- KEYS[i] four for each period of the rebuilt ranking: its place and that of its ties, and the rebuilt ones
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] the number of periods
-- ARGV[3..] for each of them: its window, and when its keys expire (milliseconds)
-- Returns {status, head seq}:
--   swapped  the rebuilt ranking is in place
--   kept     the present ranking is whole, has the epoch and is further: nothing changed, catch up and try again
--   partial  the rebuilt ranking lost entries (evicted, expired): it is dropped
-- Publishes, when swapped, where it stands, without events or windows: see shared.lua
local channel, periods = ARGV[1], tonumber(ARGV[2])
local FIRST_PERIOD, PERIOD_FIELDS, FIRST_KEY, PERIOD_KEYS = 3, 2, 9, 4

local rebuilt, is_rebuilt = head_of(KEYS[5], KEYS[6], KEYS[7], KEYS[8])
local head, is_intact = head_of(KEYS[1], KEYS[2], KEYS[3], KEYS[4])
if is_intact and head.epoch == rebuilt.epoch and tonumber(head.seq) > tonumber(rebuilt.seq) then
    return {'kept', head.seq}
end

local is_partial = not is_rebuilt
for i = 0, periods - 1 do
    local entries = redis.call('HGET', KEYS[5], ARGV[FIRST_PERIOD + i * PERIOD_FIELDS] .. ':size')
    local key = FIRST_KEY + i * PERIOD_KEYS
    is_partial = is_partial or not is_whole(rebuilt.ties, KEYS[key + 2], KEYS[key + 3], entries)
end
if is_partial then
    redis.call('UNLINK', KEYS[5], KEYS[6], KEYS[7], KEYS[8])
    for i = 0, periods - 1 do
        local key = FIRST_KEY + i * PERIOD_KEYS
        redis.call('UNLINK', KEYS[key + 2], KEYS[key + 3])
    end
    return {'partial', head.seq or '0'}
end

-- What was there is freed in the background: overwriting a million entries would hold up everybody for as long.
local function replace(key, by)
    redis.call('UNLINK', key)
    if redis.call('EXISTS', by) == 1 then
        redis.call('PERSIST', by)
        redis.call('RENAME', by, key)
    end
end
for i = 1, 4 do
    replace(KEYS[i], KEYS[i + 4])
end
for i = 0, periods - 1 do
    local key = FIRST_KEY + i * PERIOD_KEYS
    for side = 0, 1 do
        replace(KEYS[key + side], KEYS[key + 2 + side])
        redis.call('PEXPIREAT', KEYS[key + side], ARGV[FIRST_PERIOD + i * PERIOD_FIELDS + 1])
    end
end
redis.call('HSET', KEYS[1], 'verified_at', redis.call('TIME')[1])
local top, names = with_names(rebuilt.ties, KEYS[2], redis.call('ZRANGE', KEYS[3], 0, TOP - 1, 'WITHSCORES'))
publish(channel, rebuilt, rebuilt.size, {}, top, names, {})
return {'swapped', rebuilt.seq}
