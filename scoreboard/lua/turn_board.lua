-- Begins new periods of a board's windows, when the ones of now are over and no event was there yet to do so.
--
-- KEYS[1] head   hash   see shared.lua
-- KEYS[i] two for each period: its ranking, of which nothing may be left from another history, and its ties
-- ARGV[1] channel of the board's events (in the keys' hash tag)
-- ARGV[2] epoch
-- ARGV[3..] per period: its window, its first day, when it is over (milliseconds)
-- Returns {status, head seq}:
--   turned  every window is in its period now, or in a later one
--   cold    no head, or one of another epoch: nothing written
-- Publishes, when a window had an earlier one, these windows, without events and nothing of all: see shared.lua
local head_key, channel, epoch = KEYS[1], ARGV[1], ARGV[2]
local FIRST_PERIOD, PERIOD_FIELDS = 3, 3

local head = redis.call('HMGET', head_key, 'epoch', 'seq', 'at', 'size')
if head[1] ~= epoch or not head[4] then
    return {'cold', head[2] or '0'}
end
local begun = {}
for i = FIRST_PERIOD, #ARGV, PERIOD_FIELDS do
    local window, period, ends = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local known = redis.call('HGET', head_key, window)
    if known and known < period then
        local key = 2 + 2 * (i - FIRST_PERIOD) / PERIOD_FIELDS
        redis.call('UNLINK', KEYS[key], KEYS[key + 1])
        redis.call('HSET', head_key, window, period, window .. ':size', 0, window .. ':ends', ends)
        begun[window] = encode_part(period, ends, 0, '', {})
    end
end
if next(begun) then
    publish(channel, {epoch = head[1], seq = head[2], at = head[3]}, 0, {}, {}, {}, begun)
end
return {'turned', head[2]}
