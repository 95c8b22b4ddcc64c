"""A master and a replica under the eyes of Sentinels."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from servers.ports import HOST
from servers.programs import Program
from servers.standalone import Standalone
from servers.waiting import until

SERVICE = "mymaster"
PERIODS = {"info-period": 100, "ask-period": 100, "ping-period": 400, "publish-period": 400}
"""Sentinel's own steps (ms), quicker than it comes. During a failover it asks servers every second, whatever is set
here: four times the publishing must be longer, else another Sentinel takes the new master for a replica gone astray,
and so must five times the ping, else the replica's state is too old for it to be chosen."""


class Sentinel:
    """A running master, its replica, and Sentinels that know the master as `mymaster`.

    `servers` are the master and replica that it began with; all can be killed, stopped and started. A dead master is
    replaced by the Sentinels after about two seconds, or four if they replaced one just before.
    """

    def __init__(self, program: Program, *, sentinels: int = 3) -> None:
        self.servers: list[Standalone] = []
        self.sentinels: list[Standalone] = []
        try:
            master = self._serve(Standalone(program, extra=["--repl-diskless-sync-delay", "0"]))
            following = ["--repl-diskless-sync-delay", "0", "--replicaof", HOST, str(master.port)]
            self._serve(Standalone(program, extra=following))
            for _ in range(sentinels):
                self._watch(program, master, sentinels // 2 + 1)
            self.settle()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL that names every Sentinel."""
        return "redis+sentinel://" + ",".join(f"{HOST}:{each.port}" for each in self.sentinels) + f"/{SERVICE}"

    @property
    def master(self) -> Standalone:
        """The server that the first living Sentinel names."""
        port = _named(next(each for each in self.sentinels if each.running))
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> Standalone:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def failover(self) -> None:
        """Make the replica the master, both alive, and wait until all Sentinels name it and the other follows."""
        replica = self.replica

        def promoted() -> bool:
            if self.master is replica:
                return True
            self.sentinels[0].ask(
                "SENTINEL", "FAILOVER", SERVICE
            )  # Refused while one is under way, or not possible yet.
            return False

        until(promoted, f"{replica} the master", seconds=30)
        self.settle()

    def settle(self) -> None:
        """Wait until all living Sentinels know each other and one living master, and a living replica follows it."""
        until(self._agrees, "Sentinels that agree")

    def heal(self) -> None:
        """Make every process run and the Sentinels agree, whatever a test did; the master stays who it is now."""
        for each in (*self.servers, *self.sentinels):
            each.heal()
        for each in self.sentinels:
            _hurry(each)
        self.settle()

    def flush(self) -> None:
        """Delete every key, and every script of both servers."""
        self.master.ask("FLUSHALL")
        for server in self.servers:
            server.ask("SCRIPT FLUSH")

    def close(self) -> None:
        """End every process."""
        for each in (*self.sentinels, *self.servers):
            each.close()

    def _serve(self, server: Standalone) -> Standalone:
        self.servers.append(server)
        return server

    def _watch(self, program: Program, master: Standalone, quorum: int) -> None:
        config = (
            f"sentinel monitor {SERVICE} {HOST} {master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 700\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        sentinel = Standalone(program, extra=["--sentinel"], config=config)
        self.sentinels.append(sentinel)
        _hurry(sentinel)

    def _agrees(self) -> bool:
        servers = [each for each in self.servers if each.running]
        masters = [server.port for server in servers if server.ask("ROLE")[0] == b"master"]
        replicas = [server for server in servers if server.port not in masters]
        return (
            len(masters) == 1
            and all(_follows(server, masters[0]) for server in replicas)
            and all(self._sees(each, masters[0], bool(replicas)) for each in self.sentinels if each.running)
        )

    def _sees(self, sentinel: Standalone, master: int, follows: bool) -> bool:
        """Whether a Sentinel sees a sound master, the other Sentinels, and a sound replica if one `follows`."""
        seen = _table(sentinel.ask("SENTINEL", "MASTER", SERVICE))
        flags = [_table(each)["flags"] for each in sentinel.ask("SENTINEL", "REPLICAS", SERVICE)]
        return (
            seen["port"] == str(master)
            and seen["flags"] == "master"
            and seen["num-other-sentinels"] == str(len(self.sentinels) - 1)
            and (not follows or flags == ["slave"])
        )


def _hurry(sentinel: Standalone) -> None:
    sentinel.ask("SENTINEL", "DEBUG", *(word for pair in PERIODS.items() for word in pair))


def _named(sentinel: Standalone) -> int:
    return int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


def _table(flat: list[bytes]) -> dict[str, str]:
    texts = [text.decode() for text in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _follows(server: Standalone, master: int) -> bool:
    found = server.ask("INFO", "replication")
    return bool(found["master_port"] == master and found["master_link_status"] == "up")
