-- Reads the scores and ranks of some users with the board's position, all at one moment.
--
-- KEYS[1] head     hash        see shared.lua
-- KEYS[2] names    hash        user id -> display name
-- KEYS[3] ranking  sorted set  of the window and period
-- KEYS[4] ties     see shared.lua
-- ARGV[1] window
-- ARGV[2] first day of the period that KEYS[3] is of, '' in window all
-- ARGV[3..] user ids
-- Returns {status, epoch, seq, total, age in seconds since verified, ties, period, its end in milliseconds, users}; users
-- holds for each id in turn: negated score ('' when unscored), rank (0), users with a strictly lower score (0), display
-- name ('' for none, also of an unscored one):
--   ok      as asked
--   cold, absent, moved, over   see shared.lua: without users
local names_key, key, ties_key = KEYS[2], KEYS[3], KEYS[4]

local users = {}
local state, trouble = look(KEYS[1], names_key, key, ties_key, ARGV[1], ARGV[2])
if not trouble then
    local has_names = redis.call('EXISTS', names_key) == 1
    for i = 3, #ARGV do
        local member = member_of(state.ties, ties_key, ARGV[i])
        local score = member and redis.call('ZSCORE', key, member)
        users[#users + 1] = score or ''
        users[#users + 1] = score and rank_of(state.ties, key, ties_key, member, score) or 0
        users[#users + 1] = score and redis.call('ZCOUNT', key, '(' .. score, '+inf') or 0
        users[#users + 1] = score and has_names and redis.call('HGET', names_key, ARGV[i]) or ''
    end
end
return {
    trouble or 'ok', state.epoch or '', state.seq or '0', state.total, state.age, state.ties or '', state.period,
    state.ends, users,
}
