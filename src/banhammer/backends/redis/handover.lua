#!lua flags=allow-oom
-- Hands escalations that one worker holds to another, or to itself again so that they do not look abandoned. What
-- somebody else has claimed meanwhile stays where it is.
--
-- KEYS  1: the stream
-- ARGV  1: the group   2: who must hold them   3: who gets them   4: the ms for which they count as untouched
--       5..: the entries
-- REPLY the entries that were handed over

local given = {}
for at = 5, #ARGV do
    local entry = ARGV[at]
    if redis.call("XPENDING", KEYS[1], ARGV[1], entry, entry, 1, ARGV[2])[1] then
        if ARGV[2] == ARGV[3] then
            redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[3], 0, entry, "IDLE", ARGV[4], "JUSTID")
        else -- Whoever takes it from there is the first: nobody has failed at it silently.
            redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[3], 0, entry, "IDLE", ARGV[4], "RETRYCOUNT", 0, "JUSTID")
        end
        given[#given + 1] = entry
    end
end
return given
