#!lua flags=allow-oom
-- Takes workers off a stream's list that were killed: they hold nothing, and have not been heard of for long.
--
-- KEYS  1: the stream
-- ARGV  1: the group   2: for how many ms a worker must have been silent
-- REPLY how many there were

local gone = 0
for _, facts in ipairs(redis.call("XINFO", "CONSUMERS", KEYS[1], ARGV[1])) do
    local worker = {}
    for at = 1, #facts, 2 do
        worker[facts[at]] = facts[at + 1]
    end
    if worker.pending == 0 and worker.idle >= tonumber(ARGV[2]) then
        redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], worker.name)
        gone = gone + 1
    end
end
return gone
