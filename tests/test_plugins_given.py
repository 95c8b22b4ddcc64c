"""What plugins are given and give: stores, settings of actions, and the list of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from acting import PATIENCE
from banhammer import BanHammer, ConfigError
from banhammer.backends import open_backend
from banhammer.backends.memory import MemoryBackend
from banhammer.config import load
from plugged import GIVES, Install, ran, trap, warnings_of

pytest_plugins = ("plugin_fixtures",)

READS = """
    from banhammer import ConfigError

    @hookimpl
    def banhammer_actions(settings):
        table = settings.get("ping")
        if table is None:
            return {}
        mistakes = [f"{name}: {table[name]!r}; write less" for name in sorted(table) if name != "url"]
        if mistakes:
            raise ConfigError(mistakes)
        return {"ping": lambda each: seen.append((table["url"], each))}
"""


def test_a_plugin_opens_stores_by_the_scheme_of_their_urls(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(
        "stores",
        """
        from banhammer.backends.memory import MemoryBackend

        def open_small(url, *, deadline, denial_cache):
            seen.append((url, deadline, denial_cache))
            return MemoryBackend(max_keys=5)

        @hookimpl
        def banhammer_backends():
            return {"small": open_small, "redis": open_small, "odd": 5}
        """,
    )
    with BanHammer([trap()], backend="small://here", deadline="70ms") as hammer:
        assert not hammer.hit("k", "trap")
    assert ran("stores") == [("small://here", 70_000, None)]
    backend = open_backend("SMALL://x")
    assert isinstance(backend, MemoryBackend)
    assert type(open_backend("redis://127.0.0.1:1")).__name__ == "RedisBackend"
    with pytest.raises(ConfigError, match="did you mean 'small"):
        open_backend("smal://x")
    assert warnings_of(caplog) == [
        "plugin stores: banhammer.backends opens 'redis' already; that one is left out",
        "plugin stores: what opens 'odd' is a int, no callable; that one is left out",
    ]


# Settings.


def write(folder: Path, text: str) -> Path:
    policies = "[policies.trap]\nthresholds = [{ limit = 1, period = '1h', burst = 0, ban = '1h', actions = ['ping'] }]"
    path = folder / "rules.toml"
    path.write_text(f"{policies}\n{text}", "utf-8")
    return path


def test_a_table_makes_an_action_and_its_terms_are_banhammers_own(install: Install, tmp_path: Path) -> None:
    install("pinger", READS)
    table = '[actions.ping]\nurl = "https://x"\ndeadline = "2s"\nattempts = 3\nbackoff = "5ms"\n'
    with BanHammer.from_config(write(tmp_path, table)) as hammer:
        hammer.hit("k", "trap")
        assert hammer.drain(PATIENCE)
        terms = hammer._rules.worker._terms["ping"]
    ((url, each),) = ran("pinger")
    assert (url, each.key) == ("https://x", "k")
    assert (terms.deadline, terms.attempts, terms.backoff) == (2_000_000, 3, 5_000)


def test_every_mistake_in_a_table_has_its_line(install: Install, tmp_path: Path) -> None:
    install("pinger", READS)
    table = '[actions.ping]\nurl = "x"\nretries = 9\nverify = 0\nattempts = 0\n\n[actions.pong]\nurl = "y"\n'
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, table))
    where = f"{tmp_path / 'rules.toml'}"
    retries, verify, attempts, pong = caught.value.mistakes
    assert retries == f"{where}:5: actions.ping.retries: 9; write less"
    assert verify == f"{where}:6: actions.ping.verify: 0; write less"
    assert attempts == f"{where}:7: actions.ping.attempts: 0; write an integer from 1 to 1,000"
    assert pong.startswith(f"{where}:10: actions.pong.url: only a plugin's action has settings of its own")


def test_an_action_that_fails_at_its_table_is_not_run_without_it(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
    @hookimpl
    def banhammer_actions(settings):
        return {"ping": (seen.append, int(settings.get("ping", {}).get("most", 9)))[0]}
    """
    install("pinger", code)
    with pytest.raises(ConfigError, match=r"actions\.ping: given by no installed plugin nor by the application"):
        BanHammer.from_config(write(tmp_path, '[actions.ping]\nmost = "few"\n'))
    (warning,) = warnings_of(caplog)
    assert warning.startswith("plugin pinger: its banhammer_actions failed: ValueError: ")


def test_a_table_that_nobody_reads_is_a_mistake_with_the_nearest_name(install: Install, tmp_path: Path) -> None:
    install("pinger", READS)
    with pytest.raises(ConfigError) as caught:
        BanHammer.from_config(write(tmp_path, '[actions.ping]\nurl = "x"\n[actions.pnig]\nurl = "x"\n'))
    (mistake,) = caught.value.mistakes
    assert mistake == (
        f"{tmp_path / 'rules.toml'}:5: actions.pnig: "
        "given by no installed plugin nor by the application; did you mean 'ping'?"
    )


# The command.


def run(site: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    path = os.pathsep.join([str(site), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "banhammer", "plugins", *arguments],
        env={**environment, "PYTHONPATH": path, **variables}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_the_command_lists_every_plugin_as_json(install: Install) -> None:
    install("pinger", GIVES)
    site = install("wrong", "raise RuntimeError('no\\nway')")
    done = run(site, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert rows["banhammer.actions"]["actions"] == ["block_local", "record_local", "report_central"]
    assert {"memory", "redis", "memcached"} <= set(rows["banhammer.backends"]["schemes"])
    assert rows["pinger"] == {
        "name": "pinger", "distribution": "pinger", "version": "1.2", "hooks": ["banhammer_actions"],
        "actions": ["ping"], "schemes": [], "problem": None,
    }  # fmt: skip
    assert rows["wrong"]["problem"] == "it does not load: RuntimeError: no\nway"


def test_the_command_lists_every_plugin_in_words(install: Install) -> None:
    install("pinger", GIVES)
    site = install("wrong", "raise RuntimeError('no\\nway')")
    done = run(site)
    assert done.returncode == 0, done.stderr
    assert "pinger (pinger 1.2): actions ping\n" in done.stdout
    assert "wrong (wrong 1.2): left out, it does not load: RuntimeError: no\\nway\n" in done.stdout
    assert "pinger" not in run(site, BANHAMMER_DISABLE_PLUGINS="pinger").stdout
