#!lua
-- The decision core in the store: core.py's twin, the same names in the same order, bit for bit.
--
-- KEYS  1: the partition's index of bans (sorted set, by end)   2: their details (hash)
--       3..: the record of each hit
-- ARGV  1: policies, JSON: [[[interval, tolerance, burst, [rung..] or false, reason], ..], forgive_after, [window..],
--          shadow]
--       2: hits, packed `>BBI4I4I4B` each: policy's index, mode (0 hit, 1 guard, 2 peek), cost, and what is owed:
--          late, span, the level of the ban meanwhile plus 1 (0: none)
--       3: now in microseconds, if the clock is injected
--       4: flags: 1 stop at the first denial, 2 the clock is injected, 4 nothing may be written (memory is full):
--          then every hit is a peek
--       5: what makes escalation ids unique
--       6: the members in the index of bans of hits whose names were cut, JSON: {"1": member}, or ""
-- REPLY [now, damaged, reply..]; a reply is `verdict counted n tripped..` as bytes and the record, packed;
--       counted: 0 no, 1 yes, 2 a peek, of what would be; behind a stop there are none
-- RECORD `>BI4I4Bd` thresholds, over, strikes, level, banned_until; a `d` for each TAT; `>ddI4*12` for each ring

local SECOND, MINUTE, DAY = 1000000, 60000000, 86400000000
local FOREVER, MAX_STRIKES, RING = 9007199254740991, 2147483647, 12
local ALLOWED, THROTTLED, BANNED = 0, 1, 2
local GUARD, PEEK = 1, 2
local HEAD, TAT_BYTES, RING_BYTES, SWEEP = 18, 8, 64, 8

local max, min, floor = math.max, math.min, math.floor
local struct_pack, struct_unpack, char = struct.pack, struct.unpack, string.char
local call, pcall = redis.call, redis.pcall
local NO_RINGS, NO_TATS, NONE = {}, {}, {}
local policies = cjson.decode(ARGV[1])
local flags = tonumber(ARGV[4])
local stop, injected, writes = flags % 2 == 1, flags % 4 >= 2, flags < 4
local now
if injected then
    now = tonumber(ARGV[3])
else
    local time = call("TIME")
    now = time[1] * SECOND + time[2]
end
local damaged = 0

local function whole(value, most)
    return value >= 0 and value <= most and floor(value) == value
end

local formats = {}
local function format(n)
    local known = formats[n]
    if not known then
        known = ">BI4I4Bd" .. string.rep("d", n)
        formats[n] = known
    end
    return known
end

-- An absent record is nil; so is one that does not parse.
local function unpack_record(packed)
    if not packed then
        return nil
    end
    local size = #packed
    local n = size >= HEAD and string.byte(packed, 1) or 0
    local rest = size - HEAD - n * TAT_BYTES
    if n == 0 or n > 32 or rest < 0 or rest % RING_BYTES ~= 0 then
        damaged = damaged + 1
        return nil
    end
    local fields = { struct_unpack(format(n), packed) }
    local banned_until, at = fields[5], fields[n + 6]
    local over, strikes, level = fields[2], fields[3], fields[4]
    local sound = strikes <= MAX_STRIKES and level < 32 and whole(banned_until, FOREVER)
    for index = 6, n + 5 do
        sound = sound and whole(fields[index], FOREVER)
    end
    local rings = NO_RINGS
    if rest > 0 then
        rings = {}
        for index = 1, rest / RING_BYTES do
            local ring = { struct_unpack(">ddI4I4I4I4I4I4I4I4I4I4I4I4", packed, at) }
            at = ring[15]
            ring[15] = nil
            sound = sound and whole(ring[1], FOREVER) and ring[1] >= RING and whole(ring[2], FOREVER)
            rings[index] = ring
        end
    end
    if not sound then
        damaged = damaged + 1
        return nil
    end
    local tats = { unpack(fields, 6, n + 5) }
    return { tats = tats, over = over, strikes = strikes, level = level, banned_until = banned_until, rings = rings }
end

local function pack_record(record)
    local tats, rings = record.tats, record.rings
    local n = #tats
    local packed =
        struct_pack(format(n), n, record.over, record.strikes, record.level, record.banned_until, unpack(tats))
    if not rings[1] then
        return packed
    end
    local parts = { packed }
    for index, ring in ipairs(rings) do
        parts[index + 1] = struct_pack(">ddI4I4I4I4I4I4I4I4I4I4I4I4", unpack(ring))
    end
    return table.concat(parts)
end

local function clamp(threshold, tat)
    local ceiling = now + threshold[2]
    if tat <= ceiling then
        return tat
    end
    if threshold[4] and tat - ceiling > SECOND then
        return 0
    end
    return ceiling
end

-- What has lapsed is absent, what cannot be is clamped, one TAT for each threshold.
local function load(policy, record)
    local thresholds = policy[1]
    local known = record and record.tats or NO_TATS
    local tats, over = {}, 0
    for index = 1, #thresholds do
        local tat = known[index] or 0
        if tat > now then
            tat = clamp(thresholds[index], tat)
            if tat > now and record.over ~= 0 and bit.band(record.over, bit.lshift(1, index - 1)) ~= 0 then
                over = over + 2 ^ (index - 1)
            end
        end
        tats[index] = tat
    end
    local state = { tats = tats, over = over, strikes = 0, banned_until = 0, level = 0, rings = NO_RINGS }
    if record then
        state.rings = record.rings
        if record.banned_until == 0 or now < record.banned_until + policy[2] then
            state.strikes, state.banned_until, state.level = record.strikes, record.banned_until, record.level
        end
    end
    return state
end

local function new_ring(window, newest)
    return { window, newest, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
end

-- The rings of the tracked windows with one more hit; a ring is changed in place, for it is this call's own.
local function count(windows, rings)
    if not windows[1] then
        return NO_RINGS
    end
    local counted = {}
    for index, window in ipairs(windows) do
        local slot = floor(now / floor(window / RING))
        local ring
        for _, known in ipairs(rings) do
            if known[1] == window then
                ring = known
            end
        end
        if not ring or math.abs(slot - ring[2]) >= RING then
            ring = new_ring(window, slot)
        end
        for stale = ring[2] + 1, slot do
            ring[3 + stale % RING] = 0
        end
        ring[2] = max(ring[2], slot)
        local at = 3 + slot % RING
        ring[at] = min(ring[at] + 1, 4294967295)
        counted[index] = ring
    end
    return counted
end

local function duration(threshold, strikes)
    local ladder = threshold[4]
    return ladder[min(max(strikes, 1), #ladder)]
end

local function lapses_at(policy, record)
    local last = 0
    if record.banned_until ~= 0 then
        last = min(record.banned_until + policy[2], FOREVER)
    end
    for _, ring in ipairs(record.rings) do
        last = max(last, (ring[2] + RING) * floor(ring[1] / RING))
    end
    local tats = record.tats
    for index = 1, #tats do
        if tats[index] > last then
            last = tats[index]
        end
    end
    return last
end

-- What is owed counts on the ban thresholds that were awake meanwhile, as if it came with the first of it.
local function pay(policy, state, late, span, asleep)
    local since = now - span
    if since < state.banned_until then
        asleep = max(asleep, state.level)
    end
    local tats = {}
    for index, threshold in ipairs(policy[1]) do
        local tat = state.tats[index]
        if threshold[4] and index - 1 > asleep then
            local most = threshold[3] + floor(span / threshold[1]) + 2
            tat = max(tat, since) + min(late, most) * threshold[1]
        end
        tats[index] = tat
    end
    state.tats = tats
end

-- Returns the verdict, whether it counts, the tripped thresholds (by index, from 0), and whether a ban began.
local function evaluate(policy, state, guard, cost)
    local thresholds = policy[1]
    local in_force = now < state.banned_until
    local after, fits, admits = {}, not in_force, not in_force
    local tats = state.tats
    for index = 1, #thresholds do
        local threshold, tat = thresholds[index], tats[index]
        local new = -1
        if cost <= threshold[3] then
            new = (tat > now and tat or now) + cost * threshold[1]
            if new - now > threshold[2] then
                new = -1
            end
        end
        if new < 0 then
            fits = false
            admits = admits and threshold[4] ~= false
        end
        after[index] = new
    end
    if guard and admits then
        return ALLOWED, false, NONE
    end
    if cost > 0 then
        state.rings = count(policy[3], state.rings)
    end
    if fits then
        state.tats = after
        return ALLOWED, true, NONE
    end

    local first_awake = in_force and state.level + 1 or 0
    local tripped, excess = {}, {}
    for index, threshold in ipairs(thresholds) do
        if not threshold[4] then
            if after[index] < 0 then
                excess[#excess + 1] = index
            end
        elseif index - 1 >= first_awake then
            state.tats[index] = max(after[index], 0)
            if after[index] < 0 then
                tripped[#tripped + 1] = index - 1
            end
        end
    end
    if #tripped > 0 then
        if not in_force then
            state.strikes = min(state.strikes + 1, MAX_STRIKES)
            state.level = 0
        end
        for _, index in ipairs(tripped) do
            local till = min(now + duration(thresholds[index + 1], state.strikes), FOREVER)
            state.banned_until = max(state.banned_until, till)
        end
        state.level = max(state.level, tripped[#tripped])
        return BANNED, true, tripped, not in_force
    end
    if in_force then
        return BANNED, true, tripped
    end
    for _, index in ipairs(excess) do
        local mark = 2 ^ (index - 1)
        if cost <= thresholds[index][3] and bit.band(state.over, mark) == 0 then
            state.over = state.over + mark
            tripped[#tripped + 1] = index - 1
        end
    end
    return THROTTLED, true, tripped
end

local function store(policy, record, packed, key)
    local last = lapses_at(policy, record)
    if last >= FOREVER then
        call("SET", key, packed)
        return
    end
    local rest = max(last - now, 0) + MINUTE + (injected and DAY or 0)
    call("SET", key, packed, "PX", string.format("%.0f", math.ceil(rest / 1000)))
end

-- A few bans that ended leave the index with each one that comes, so that it never outgrows them.
local function sweep()
    local ended = call("ZRANGEBYSCORE", KEYS[1], 0, string.format("%.0f", now - MINUTE), "LIMIT", 0, SWEEP)
    if #ended > 0 then
        call("ZREM", KEYS[1], unpack(ended))
        call("HDEL", KEYS[2], unpack(ended))
    end
end

-- What is known of a ban beside its record: since, its origin, the escalation's id, the reason.
local function note_ban(member, policy, record, began, longer, index, id)
    local since = now
    local known = not began and call("HGET", KEYS[2], member)
    if known then
        if not longer then
            return
        end
        since = tonumber(string.match(known, "^(%d+)|")) or now
    end
    if not injected then
        sweep()
    end
    call("ZADD", KEYS[1], string.format("%.0f", record.banned_until), member)
    call("HSET", KEYS[2], member, string.format("%.0f|hit|%s|%s", since, id, policy[1][index + 1][5]))
end

local members = ARGV[6] ~= "" and cjson.decode(ARGV[6])
local replies = {}
local offset = 1
for index = 1, #KEYS - 2 do
    local which, mode, cost, late, span, asleep
    which, mode, cost, late, span, asleep, offset = struct_unpack(">BBI4I4I4B", ARGV[2], offset)
    local policy, key = policies[which + 1], KEYS[2 + index]
    local raw = pcall("GET", key)
    if type(raw) == "table" then
        damaged = damaged + 1
        raw = false
    end
    local record = unpack_record(raw)
    local state = load(policy, record)
    local was_until, loaded = state.banned_until, state.tats
    if late > 0 then
        pay(policy, state, late, span, asleep - 1)
    end
    local verdict, counted, tripped, began = evaluate(policy, state, mode == GUARD, cost)
    if not counted then
        state.tats = loaded -- What an allowed guard brought along is still owed.
    end
    local packed = pack_record(state)
    local peek = mode == PEEK or not writes
    if counted and not peek and packed ~= raw and (record or lapses_at(policy, state) > 0) then
        store(policy, state, packed, key)
        if verdict == BANNED and #tripped > 0 then
            local member = members and members[tostring(index)] or string.match(key, "^bh:{[^}]*}:(.*)$")
            local last = tripped[#tripped]
            local id = ARGV[5] .. "-" .. index .. "-" .. last
            note_ban(member, policy, state, began, state.banned_until > was_until, last, id)
        end
    end
    replies[index] = char(verdict, counted and (peek and 2 or 1) or 0, #tripped, unpack(tripped)) .. packed
    if stop and verdict ~= ALLOWED and not policy[4] then
        break
    end
end
return { string.format("%.0f", now), damaged, unpack(replies) }
