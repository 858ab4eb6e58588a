-- Admits or refuses a batch of requests by the generic cell rate algorithm, on this server's clock.
--
-- KEYS[i] tat    string   theoretical arrival time of user i in microseconds; absent: idle
-- ARGV[1] interval, microseconds that one request costs
-- ARGV[2] burst, requests that may come at once
-- Returns for each key in turn three integers: 1 admitted or 0 refused; requests left now; microseconds until
-- one more is admitted (refused) or until the full burst is there again (admitted)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local span = interval * burst

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for i = 1, #KEYS do
    local tat = math.max(tonumber(redis.call('GET', KEYS[i]) or now), now)
    if tat > now + span then
        -- No burst reaches as far: it was written before the clock was set back and says nothing. Held to the bound
        -- instead, it would refuse every request until the clock has caught up.
        tat = now
    end
    local next_tat = tat + interval
    if next_tat - now > span then
        answers[#answers + 1] = 0
        answers[#answers + 1] = 0
        answers[#answers + 1] = next_tat - now - span
    else
        redis.call('SET', KEYS[i], string.format('%.0f', next_tat), 'PX', math.ceil((next_tat - now) / 1000))
        answers[#answers + 1] = 1
        answers[#answers + 1] = math.floor((span - (next_tat - now)) / interval)
        answers[#answers + 1] = next_tat - now
    end
end
return answers
