"""A shop and its operator: an application's hammer and the commands, on a store that only claims to be shared."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from banhammer import BanHammer, backends, cli, desk
from banhammer.backends import Traits
from banhammer.backends.memory import MemoryBackend
from banhammer.config import load
from banhammer.errors import BackendError
from banhammer.testing import ManualClock
from one_policy import START

IP = "203.0.113.9"
RULES = """\
backend = "redis://operator:sesame@10.0.0.5:6379?password=sesame"
allow = ["10.0.0.0/8"]

[policies.login]
forgive_after = "30d"
track = ["1m"]
deny = ["198.51.100.66"]
thresholds = [
  { limit = 10, period = "1h", ban = ["1h", "6h"], actions = ["page_somebody"] },
  { limit = 100, period = "1h", ban = "7d", actions = ["block_local"] },
]

[policies.api]
thresholds = [{ limit = 60, period = "1m", burst = 5 }]

[policies.both]
mode = "shadow"
thresholds = [{ limit = 1, period = "1m", ban = "forever" }]

[[routes]]
policy = "login"

[[routes]]
policy = "api"
key = "ip/24/48"

[[routes]]
policy = "both"
key = "ip"

[[routes]]
policy = "both"
key = "ip/24/48"

[[routes]]
policy = "both"
key = "ip+user"

[[routes]]
policy = "both"
key = "header:x-api-key|cookie:session|ip"
"""


class SharedStore(MemoryBackend):
    """The memory store, as if others saw it, at a clock of its own; it can be taken away."""

    traits = Traits(shared=True)

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.away = False
        self.settings: dict[str, Any] = {}
        self.closed = 0

    def opened(self, url: str, **settings: Any) -> SharedStore:
        self.settings = settings
        return self

    def close(self) -> None:
        self.closed += 1


def at_its_clock(verb: str) -> Callable[..., Any]:
    def ask(self: SharedStore, *arguments: Any, now: Any = None, **settings: Any) -> Any:
        if self.away:
            raise BackendError("cannot reach redis://operator:sesame@10.0.0.5:6379?password=sesame")
        return getattr(MemoryBackend, verb)(self, *arguments, now=self.clock if now is None else now, **settings)

    return ask


for name in ("evaluate", "ban", "lift", "forget", "read", "records", "bans"):
    setattr(SharedStore, name, at_its_clock(name))


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shop:
    """An application's hammer, and the commands of its operator, on one store."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        kind: type[SharedStore] = SharedStore,
    ) -> None:
        self.clock = ManualClock(START)
        self.store = kind(self.clock)
        self.file = folder / "banhammer.toml"
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for module in (backends, desk):
            monkeypatch.setattr(module, "open_backend", self.store.opened)
        monkeypatch.chdir(folder)
        for setting in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
            monkeypatch.delenv(setting, raising=False)
        self.follow(RULES)

    def follow(self, rules: str) -> None:
        self.file.write_text(rules)
        config = load(self.file)
        names = {name for policy in config.policies for level in policy.thresholds for name in level.actions}
        self.hammer = BanHammer(
            config.policies,
            backend=self.store,
            allow=config.allow,
            actions=dict.fromkeys(names, lambda _: None),
            worker="external" if self.store.traits.durable else None,
        )

    def hits(self, times: int, key: str = IP, policy: str = "login") -> None:
        for _ in range(times):
            self.hammer.hit(key, policy)

    def run(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["banhammer", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = self._capsys.readouterr()
        return Done(int(end.value.code or 0), told.out, told.err)
