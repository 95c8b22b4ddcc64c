"""A bench that calls the script itself, past the backend, and reads back all that it stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import Redis

from banhammer.backends.packing import pack_record, sound_record
from banhammer.backends.redis.scripts import EVALUATE
from banhammer.backends.redis.wire import ADMITTED, FULL, INJECTED, REPEATS, STOP, pack_charge, pack_policy
from banhammer.backends.shared import Charge
from banhammer.durations import FOREVER, MINUTE, SECOND
from banhammer.model import Record

NONCE = "nonce"
INDEX, DETAILS = "bh:{0}#bans", "bh:{0}#details"


class Call(NamedTuple):
    """What one call answered: its time, how many records did not parse, and the replies as bytes."""

    now: int
    damaged: int
    replies: list[bytes]


class Kept(NamedTuple):
    """What a server keeps under a name: its serialized value, and when it expires (Unix milliseconds, -1: never)."""

    dump: bytes | None
    expires: int


class Bench:
    """The script on one server; keys are plain, and policies travel as the backend sends them."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def call(
        self, charges: Sequence[Charge], now: int | None, *, stop: bool = False, full: bool = False, text: str = ""
    ) -> Call:
        """Decide `charges` in one call, at the server's time where `now` is `None`."""
        policies = list({charge.policy.name: charge.policy for charge in charges}.values())
        places = {policy.name: place for place, policy in enumerate(policies)}
        names = [name_of(charge) for charge in charges]
        repeats = len(set(names)) < len(names)
        answer: Any = self.client.eval(
            text or EVALUATE.text,
            len(names) + 2,
            *names,
            INDEX,
            DETAILS,
            b"".join(pack_charge(places[charge.policy.name], charge) for charge in charges),
            "" if now is None else now,
            stop * STOP + (now is not None) * INJECTED + full * FULL + repeats * REPEATS,
            NONCE,
            "",
            *map(pack_policy, policies),
        )
        at, damaged, *replies = answer
        return Call(int(at), damaged, [_as_bytes(reply) for reply in replies])

    def put(self, stored: dict[str, bytes]) -> None:
        """Store records: one of nothing but meters expires as if the script had stored it, another never."""
        now = self.time()
        with self.client.pipeline(transaction=False) as pipe:
            for name, packed in stored.items():
                last = max(record.tats) if (record := only_meters(packed)) else 0
                lives = now // SECOND <= last // SECOND < FOREVER // SECOND
                pipe.set(name, packed, exat=(last + MINUTE) // SECOND if lives else None)
            pipe.execute()

    def kept(self, names: Sequence[str]) -> dict[str, Kept]:
        """Return what the server keeps under each name, to the byte."""
        with self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.dump(name)
                pipe.pexpiretime(name)
            found = pipe.execute()
        return {name: Kept(*found[2 * at : 2 * at + 2]) for at, name in enumerate(names)}

    def records(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the records under `names`, as bytes."""
        found: Any = self.client.mget(names)
        return {name: packed for name, packed in zip(names, found, strict=True) if packed is not None}

    def time(self) -> int:
        """Return the server's time in microseconds."""
        seconds, micros = self.client.time()  # type: ignore[misc]
        return int(seconds) * 1_000_000 + int(micros)


def name_of(charge: Charge) -> str:
    """Return the name under which the bench keeps a charge's record: one for a key, whatever the policy."""
    return charge.hit.key


def only_meters(packed: bytes) -> Record | None:
    """Return a record of nothing but meters, or `None` where it is more, or none."""
    record = sound_record(packed)
    return record if record and record == Record(record.tats) else None


def _as_bytes(reply: bytes | int) -> bytes:
    """Return a reply in full: a number is the one TAT of a record of nothing else."""
    return reply if isinstance(reply, bytes) else ADMITTED + pack_record(Record((reply,)))
