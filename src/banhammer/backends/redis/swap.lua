#!lua
-- Compare-and-swap of one record, for the operators' verbs: the change itself is computed by core.py.
--
-- KEYS  1: the partition's index of bans   2: their details   3: the record
--       4, 5, 6: its escalations, how many of them found no room, and the order of each key's, if the change is one
-- ARGV  1: the record that was read, "" for none   2: the new record, "" to drop it   3: its expiry in ms, "" for none
--       4: the member in the index   5: the ban's end, "" for none, "=" to leave the index alone   6: its details
--       7..: the fields of the escalation
-- REPLY 1 when it was swapped, 0 when the record had changed meanwhile

local MOST_ESCALATIONS = 100000

local raw = redis.pcall("GET", KEYS[3])
if type(raw) == "table" then
    raw = ""
end
if (raw or "") ~= ARGV[1] then
    return 0
end
if ARGV[2] == "" then
    redis.call("DEL", KEYS[3])
elseif ARGV[3] == "" then
    redis.call("SET", KEYS[3], ARGV[2])
else
    redis.call("SET", KEYS[3], ARGV[2], "PX", ARGV[3])
end
if KEYS[4] then
    if redis.call("XLEN", KEYS[4]) >= MOST_ESCALATIONS then
        redis.call("INCR", KEYS[5])
    else
        local entry = redis.call("XADD", KEYS[4], "*", unpack(ARGV, 7))
        local before, behind = string.match(entry, "^(%d+)-(%d+)$")
        redis.call("ZADD", KEYS[6], 0, string.format("%s|%016.0f-%016.0f", ARGV[4], before, behind))
    end
end
if ARGV[5] == "=" then
    return 1
end
if ARGV[5] == "" then
    redis.call("ZREM", KEYS[1], ARGV[4])
    redis.call("HDEL", KEYS[2], ARGV[4])
else
    redis.call("ZADD", KEYS[1], ARGV[5], ARGV[4])
    redis.call("HSET", KEYS[2], ARGV[4], ARGV[6])
end
return 1
