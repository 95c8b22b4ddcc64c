#!lua
-- The decision core in the store: core.py's twin, the same names in the same order, bit for bit.
--
-- KEYS  the record of each hit; behind them, where a policy of the call bans: the partition's index of bans (sorted
--       set, by end) and their details (hash); last, where a policy has actions: its escalations (stream), how many of
--       them found no room (a number), and the order of each key's (sorted set: `member|entry`, all of score 0)
-- ARGV  1: hits, packed `>BBI4I4I4B` each: policy's index, mode (0 hit, 1 guard, 2 peek), cost, and what is owed:
--          late, span, the level of the ban meanwhile plus 1 (0: none)
--       2: now in microseconds, if the clock is injected
--       3: flags: 1 stop at the first denial, 2 the clock is injected, 4 nothing may be written (memory is full):
--          then every hit is a peek; 8 a record's name may stand in the call more than once
--       4: what makes escalation ids unique
--       5: the members in the index of bans of hits whose names were cut, JSON: {"1": member}, or ""
--       6..: policies, packed `>BBBd` thresholds, windows, whether in shadow, forgive_after; a `d` for each window;
--          `>dddBI2I4` for each threshold: interval, tolerance, burst, rungs of its ladder, lengths of its reason and
--          of its rule; behind them, for each threshold, a `d` for each rung, the reason, and the rule: what an
--          escalation says of it, "" where it names no action
-- REPLY [now, damaged, reply..]; a reply is `verdict counted n tripped..` as bytes and the record, packed;
--       counted: 0 no, 1 yes, 2 a peek, of what would be; behind a stop there are none. A number is the one TAT of a
--       record of nothing else, after a hit that was allowed and counted.
-- RECORD `>BI4I4Bd` thresholds, over, strikes, level, banned_until; a `d` for each TAT; `>ddI4*12` for each ring;
--        unpacked: an array of the same fields

local SECOND, MINUTE, DAY = 1000000, 60000000, 86400000000
local FOREVER, MAX_STRIKES, RING = 9007199254740991, 2147483647, 12
local ALLOWED, THROTTLED, BANNED = 0, 1, 2
local GUARD, PEEK = 1, 2
local HIT_BYTES, HEAD, TAT_BYTES, RING_BYTES, SWEEP = 15, 18, 8, 64, 8
local COUNT, OVER, STRIKES, LEVEL, UNTIL = 1, 2, 3, 4, 5 -- Fields of a record; its first TAT is behind them.
local INTERVAL, TOLERANCE, BURST, RUNGS, REASON, RULE, TAIL = 1, 2, 3, 4, 5, 6, 7 -- Fields of a threshold.
local MOST_ESCALATIONS = 100000

local call, pcall = redis.call, redis.pcall
local struct_pack, struct_unpack, sub, string_format = struct.pack, struct.unpack, string.sub, string.format
local told, flags = ARGV[1], tonumber(ARGV[3])
local hits = #told / HIT_BYTES
local stop, injected, writes, repeats = flags % 2 == 1, flags % 4 >= 2, flags % 8 < 4, flags >= 8
local now
if injected then
    now = tonumber(ARGV[2])
else
    local time = call("TIME")
    now = time[1] * SECOND + time[2]
end
local replies = { now, 0 }

-- The common case, decided without a new table or function: a record of nothing but meters, or none yet, and each has
-- room. A hit that is more is left for what follows below, and so are those behind it: with stop all of them, else those
-- of its key, for keys know nothing of each other.
local left, left_keys
local policies, alike, meters, calm, size, cost, guard, stores, head, bare = {}
local records = call("MGET", unpack(KEYS, 1, hits)) -- What is no string is false here, like what is absent.
local stored = repeats and {} -- By name, where one may stand twice in the call.
local expiry, digits
for index = 1, hits do
    local hit, key = sub(told, (index - 1) * HIT_BYTES + 1, index * HIT_BYTES), KEYS[index]
    if hit ~= alike then -- Most are like the one before.
        local which, mode, late
        which, mode, cost, late = struct_unpack(">BBI4I4", hit)
        meters = policies[which]
        if not meters then
            local packed = ARGV[6 + which]
            local count, windows, _, _, at = struct_unpack(">BBBd", packed)
            meters = { struct_unpack(">" .. string.rep("dddxxxxxxx", count), packed, at) } -- Interval, tolerance, burst.
            meters[3 * count + 1] = windows == 0 and struct_pack(">BI4I4Bd", count, 0, 0, 0, 0)
            policies[which] = meters
        end
        calm = late == 0 and cost > 0 and meters[#meters] -- How the record of a key without a past begins.
        size = HEAD + TAT_BYTES * (#meters - 1) / 3
        guard = mode == GUARD
        stores = not guard and mode ~= PEEK and writes
        head = guard and "\0\0\0" or stores and "\0\1\0" or "\0\2\0"
        bare = stores and #meters == 4
        alike = hit
    end
    local raw, packed
    if calm and not (left and (stop or left_keys[key])) then
        raw = stored and stored[key] or records[index]
        if not raw and not stores then
            raw = pcall("GET", key)
        end
        if not raw or #raw == size and sub(raw, 1, HEAD) == calm then
            packed = calm
        end
    end
    local last, latest, at = 0, 0, HEAD + 1
    for meter = 1, packed and #meters - 1 or 0, 3 do
        local tat = 0
        if raw then
            tat, at = struct_unpack(">d", raw, at)
        end
        local new = (tat > now and tat or now) + cost * meters[meter]
        local tolerance = meters[meter + 1]
        local sound = tat >= 0 and tat - now <= tolerance and tat % 1 == 0
        if not sound or cost > meters[meter + 2] or new - now > tolerance then
            packed = nil
            break
        end
        packed = packed .. struct_pack(">d", guard and tat or new)
        if new > last then
            last = new
        end
        if tat > latest then
            latest = tat
        end
    end
    if packed and stores then
        local second, before = last - last % SECOND
        if latest >= second and not injected then -- Its expiry is that of this second already.
            call("SET", key, packed, "KEEPTTL")
        elseif last >= FOREVER then
            before = pcall("SET", key, packed, "GET")
        else
            if injected then
                digits = string_format("%.0f", math.ceil((last - now + MINUTE + DAY) / 1000))
            elseif second ~= expiry then -- Most expire in the same second.
                expiry, digits = second, string_format("%.0f", (second + MINUTE) / SECOND)
            end
            before = pcall("SET", key, packed, injected and "PX" or "EXAT", digits, "GET")
        end
        if type(before) == "table" then -- It was no string, and stays.
            packed = nil
        end
        if stored then
            stored[key] = packed
        end
    end
    if not packed then
        left, left_keys = left or {}, left_keys or {}
        left[#left + 1], left_keys[key] = index, true
    else
        replies[index + 2] = bare and last or head .. packed
    end
end
if not left then
    return replies
end

local max, min, floor, char = math.max, math.min, math.floor, string.char
local NO_RINGS, NONE = {}, {}
local damaged = 0

local function unpack_policy(packed)
    local count, windows, shadow, forgive_after, at = struct_unpack(">BBBd", packed)
    local policy = { thresholds = {}, windows = {}, shadow = shadow == 1, forgive_after = forgive_after, packed = packed }
    for index = 1, windows do
        policy.windows[index], at = struct_unpack(">d", packed, at)
    end
    local tail = at + 31 * count
    for index = 1, count do
        local threshold = { struct_unpack(">dddBI2I4", packed, at) }
        at, threshold[TAIL] = threshold[TAIL], tail
        tail = tail + 8 * threshold[RUNGS] + threshold[REASON] + threshold[RULE]
        policy.thresholds[index] = threshold
    end
    return policy
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

-- Returns the record and its rings. An absent record is nil; so is one that does not parse.
local function unpack_record(packed)
    if not packed then
        return nil, NO_RINGS
    end
    local size = #packed
    local n = size >= HEAD and string.byte(packed, 1) or 0
    local rest = size - HEAD - n * TAT_BYTES
    if n == 0 or n > 32 or rest < 0 or rest % RING_BYTES ~= 0 then
        damaged = damaged + 1
        return nil, NO_RINGS
    end
    local record = { struct_unpack(format(n), packed) }
    local at = record[UNTIL + n + 1]
    record[UNTIL + n + 1] = nil
    local sound = record[STRIKES] <= MAX_STRIKES and record[LEVEL] < 32
    for index = UNTIL, UNTIL + n do
        local time = record[index]
        sound = sound and time >= 0 and time <= FOREVER and time % 1 == 0
    end
    local rings = NO_RINGS
    if rest > 0 then
        rings = {}
        for index = 1, rest / RING_BYTES do
            local ring = { struct_unpack(">ddI4I4I4I4I4I4I4I4I4I4I4I4", packed, at) }
            at = ring[15]
            ring[15] = nil
            local window, newest = ring[1], ring[2]
            sound = sound and window >= RING and window <= FOREVER and window % 1 == 0
            sound = sound and newest >= 0 and newest <= FOREVER and newest % 1 == 0
            rings[index] = ring
        end
    end
    if not sound then
        damaged = damaged + 1
        return nil, NO_RINGS
    end
    return record, rings
end

local function pack_record(record, rings)
    local n = record[COUNT]
    local packed = struct_pack(format(n), unpack(record, 1, UNTIL + n))
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
    local ceiling = now + threshold[TOLERANCE]
    if tat <= ceiling then
        return tat
    end
    if threshold[RUNGS] > 0 and tat - ceiling > SECOND then
        return 0
    end
    return ceiling
end

-- What has lapsed is absent, what cannot be is clamped, one TAT for each threshold. The record is changed in place.
local function load(policy, record)
    local thresholds = policy.thresholds
    local count = #thresholds
    record = record or { 0, 0, 0, 0, 0 }
    local over, still_over = record[OVER], 0
    for index = count + 1, record[COUNT] do
        record[UNTIL + index] = nil
    end
    for index = 1, count do
        local tat = record[UNTIL + index] or 0
        if tat > now then
            tat = clamp(thresholds[index], tat)
            if over ~= 0 and tat > now and bit.band(over, bit.lshift(1, index - 1)) ~= 0 then
                still_over = still_over + 2 ^ (index - 1)
            end
        end
        record[UNTIL + index] = tat
    end
    record[COUNT], record[OVER] = count, still_over
    local banned_until = record[UNTIL]
    if banned_until ~= 0 and now >= banned_until + policy.forgive_after then
        record[STRIKES], record[LEVEL], record[UNTIL] = 0, 0, 0
    end
    return record
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
            ring = { window, slot, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
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

local function duration(policy, threshold, strikes)
    local rung = min(max(strikes, 1), threshold[RUNGS])
    return (struct_unpack(">d", policy.packed, threshold[TAIL] + 8 * (rung - 1)))
end

local function lapses_at(policy, record, rings)
    local last = record[UNTIL]
    if last ~= 0 then
        last = min(last + policy.forgive_after, FOREVER)
    end
    for _, ring in ipairs(rings) do
        last = max(last, (ring[2] + RING) * floor(ring[1] / RING))
    end
    for index = UNTIL + 1, UNTIL + record[COUNT] do
        if record[index] > last then
            last = record[index]
        end
    end
    return last
end

-- What is owed counts on the ban thresholds that were awake meanwhile, as if it came with the first of it.
local function pay(policy, record, late, span, asleep)
    local since = now - span
    if since < record[UNTIL] then
        asleep = max(asleep, record[LEVEL])
    end
    for index, threshold in ipairs(policy.thresholds) do
        if threshold[RUNGS] > 0 and index - 1 > asleep then
            local most = threshold[BURST] + floor(span / threshold[INTERVAL]) + 2
            record[UNTIL + index] = max(record[UNTIL + index], since) + min(late, most) * threshold[INTERVAL]
        end
    end
end

-- Changes the record. Returns the verdict, whether it counts, the rings, the tripped thresholds (by index, from 0), and
-- whether a ban began.
local after = {}
local function evaluate(policy, record, rings, guard, cost)
    local thresholds = policy.thresholds
    local in_force = now < record[UNTIL]
    local fits, admits = not in_force, not in_force
    for index, threshold in ipairs(thresholds) do
        local new = -1
        if cost <= threshold[BURST] then
            new = max(record[UNTIL + index], now) + cost * threshold[INTERVAL]
            if new - now > threshold[TOLERANCE] then
                new = -1
            end
        end
        if new < 0 then
            fits = false
            admits = admits and threshold[RUNGS] > 0
        end
        after[index] = new
    end
    if guard and admits then
        return ALLOWED, false, rings, NONE
    end
    if cost > 0 then
        rings = count(policy.windows, rings)
    end
    if fits then
        for index = 1, #thresholds do
            record[UNTIL + index] = after[index]
        end
        return ALLOWED, true, rings, NONE
    end

    local first_awake = in_force and record[LEVEL] + 1 or 0
    local tripped, excess = {}, {}
    for index, threshold in ipairs(thresholds) do
        if threshold[RUNGS] == 0 then
            if after[index] < 0 then
                excess[#excess + 1] = index
            end
        elseif index - 1 >= first_awake then
            record[UNTIL + index] = max(after[index], 0)
            if after[index] < 0 then
                tripped[#tripped + 1] = index - 1
            end
        end
    end
    if #tripped > 0 then
        if not in_force then
            record[STRIKES] = min(record[STRIKES] + 1, MAX_STRIKES)
            record[LEVEL] = 0
        end
        for _, index in ipairs(tripped) do
            local rest = duration(policy, thresholds[index + 1], record[STRIKES])
            record[UNTIL] = max(record[UNTIL], min(now + rest, FOREVER))
        end
        record[LEVEL] = max(record[LEVEL], tripped[#tripped])
        return BANNED, true, rings, tripped, not in_force
    end
    if in_force then
        return BANNED, true, rings, tripped
    end
    for _, index in ipairs(excess) do
        local mark = 2 ^ (index - 1)
        if cost <= thresholds[index][BURST] and bit.band(record[OVER], mark) == 0 then
            record[OVER] = record[OVER] + mark
            tripped[#tripped + 1] = index - 1
        end
    end
    return THROTTLED, true, rings, tripped
end

local function store(key, packed, last)
    if last >= FOREVER then
        call("SET", key, packed)
        return
    end
    local rest = max(last - now, 0) + MINUTE + (injected and DAY or 0)
    call("SET", key, packed, "PX", string_format("%.0f", math.ceil(rest / 1000)))
end

-- What is known of a ban beside its record: since, its origin, the escalation's id, the reason. A few bans that ended
-- leave the index with each one that comes, so that it never outgrows them.
local function note_ban(member, policy, record, began, longer, index, id)
    local bans, details = KEYS[hits + 1], KEYS[hits + 2]
    local since = now
    local known = not began and call("HGET", details, member)
    if known then
        if not longer then
            return
        end
        since = tonumber(string.match(known, "^(%d+)|")) or now
    end
    if not injected then
        local ended = call("ZRANGEBYSCORE", bans, 0, string_format("%.0f", now - MINUTE), "LIMIT", 0, SWEEP)
        if #ended > 0 then
            call("ZREM", bans, unpack(ended))
            call("HDEL", details, unpack(ended))
        end
    end
    local threshold = policy.thresholds[index + 1]
    local reason_at = threshold[TAIL] + 8 * threshold[RUNGS]
    local reason = string.sub(policy.packed, reason_at, reason_at + threshold[REASON] - 1)
    call("ZADD", bans, string_format("%.0f", record[UNTIL]), member)
    call("HSET", details, member, string_format("%.0f|hit|%s|%s", since, id, reason))
end

-- Hands an escalation to whoever runs its actions. A stream is never cut, which would lose what is under way: one that
-- is full takes no more, and counts.
local function escalate(member, policy, record, verdict, cost, index, id)
    local threshold = policy.thresholds[index + 1]
    if threshold[RULE] == 0 then
        return
    end
    local stream, dropped, order = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]
    if call("XLEN", stream) >= MOST_ESCALATIONS then
        call("INCR", dropped)
        return
    end
    local banned = verdict == BANNED
    local facts = string_format(
        "%s|hit|%d|%.0f|%.0f|%.0f|%.0f",
        banned and "banned" or "throttled", index, record[STRIKES], now, banned and record[UNTIL] or 0, cost
    )
    local rule_at = threshold[TAIL] + 8 * threshold[RUNGS] + threshold[REASON]
    local rule = string.sub(policy.packed, rule_at, rule_at + threshold[RULE] - 1)
    local entry = call("XADD", stream, "*", "id", id, "key", member, "facts", facts, "rule", rule)
    local before, behind = string.match(entry, "^(%d+)-(%d+)$")
    call("ZADD", order, 0, string_format("%s|%016.0f-%016.0f", member, before, behind))
end

local members = ARGV[5] ~= "" and cjson.decode(ARGV[5])
policies = {}
for _, index in ipairs(left) do
    local which, mode, cost, late, span, asleep = struct_unpack(">BBI4I4I4B", told, (index - 1) * HIT_BYTES + 1)
    local policy, key = policies[which], KEYS[index]
    if not policy then
        policy = unpack_policy(ARGV[6 + which])
        policies[which] = policy
    end
    local raw = redis.pcall("GET", key)
    if type(raw) == "table" then
        damaged = damaged + 1
        raw = false
    end
    local known, rings = unpack_record(raw)
    local record = load(policy, known)
    local was_until, loaded = record[UNTIL], nil
    if late > 0 then
        loaded = { unpack(record) }
        pay(policy, record, late, span, asleep - 1)
    end
    local verdict, counted, tripped, began
    verdict, counted, rings, tripped, began = evaluate(policy, record, rings, mode == GUARD, cost)
    if not counted then
        record = loaded or record -- What an allowed guard brought along is still owed.
    end
    local packed = pack_record(record, rings)
    local peek = mode == PEEK or not writes
    if counted and not peek and packed ~= raw then
        local last = lapses_at(policy, record, rings)
        if known or last > 0 then
            store(key, packed, last)
        end
        if #tripped > 0 then
            local member = members and members[tostring(index)] or string.match(key, "^bh:{[^}]*}:(.*)$")
            local id = ARGV[4] .. "-" .. index .. "-"
            if verdict == BANNED then
                local highest = tripped[#tripped]
                note_ban(member, policy, record, began, record[UNTIL] > was_until, highest, id .. highest)
            end
            for _, each in ipairs(tripped) do
                escalate(member, policy, record, verdict, cost > 0 and cost or late, each, id .. each)
            end
        end
    end
    replies[index + 2] = char(verdict, counted and (peek and 2 or 1) or 0, #tripped, unpack(tripped)) .. packed
    if stop and verdict ~= ALLOWED and not policy.shadow then
        break
    end
end
replies[2] = damaged
return replies
