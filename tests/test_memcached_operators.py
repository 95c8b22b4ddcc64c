"""What operators and configurations see of Memcached: single keys, no lists, and words that say so."""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient

from banhammer import AsyncBanHammer, BackendError, BanHammer, ConfigError, Policy, Threshold, cli
from banhammer.advice import notes
from banhammer.backends import adopt, open_backend
from banhammer.backends.memcached import MemcachedBackend
from banhammer.backends.memcached.settings import from_client, from_url
from banhammer.config import load
from memcached_sides import PATIENCE, MemcachedSide
from servers.memcached import Memcached

pytest_plugins = ("memcached_fixtures",)

IP = "203.0.113.9"
RULES = [Policy("login", [Threshold(10, "1h", ban=["1h", "1d"]), Threshold(20, "1h", ban="7d")])]


@pytest.mark.parametrize("verb", ["bans", "status_all"])
def test_a_list_of_all_is_an_error_that_says_what_to_do(memcached: Memcached, kind: str, verb: str) -> None:
    with (
        MemcachedSide(kind, memcached.url, RULES) as side,
        pytest.raises(BackendError, match="Memcached cannot list what it holds; ask for one key"),
    ):
        side.call(verb)


def test_the_store_declares_what_it_cannot_promise(memcached: Memcached) -> None:
    traits = MemcachedBackend(memcached.url).traits
    assert (traits.shared, traits.lists_bans, traits.durable, traits.evicts) == (True, False, False, True)


def test_a_ban_keeps_its_details_until_it_is_forgiven(memcached: Memcached, kind: str) -> None:
    with MemcachedSide(kind, memcached.url, RULES) as side:
        for _ in range(11):
            decision = side.hit(IP, "login")
        tripped = side.call("status", IP, "login").ban
        assert (tripped.origin, tripped.reason, tripped.strikes) == ("hit", "over 10 per 1h", 1)
        assert tripped.until == decision.banned_until
        longer = side.call("ban", IP, "login", "2h", None, "by|hand \u00e9\ud800\r\nend")
        assert (longer.origin, longer.reason, longer.since) == ("manual", "by|hand \u00e9\ud800\r\nend", tripped.since)
        assert side.call("status", IP, "login").ban == longer
        assert side.call("unban", IP, "login") == longer
        assert side.call("unban", IP, "login") is None
        assert side.call("status", IP, "login").strikes == 1
        side.call("reset", IP, "login", False)
        assert side.call("status", IP, "login").strikes == 1
        side.call("reset", IP, "login")
        assert memcached.value(f"bh:login:{IP}".encode()) is None


def test_damaged_details_leave_the_ban_as_it_is(memcached: Memcached) -> None:
    name = f"bh:login:{IP}".encode()
    with MemcachedSide("sync", memcached.url, RULES) as side:
        side.call("ban", IP, "login", "1h", None, "why")
        value = memcached.value(name)
        assert value is not None
        memcached.put(name, value[:34] + b"\xff|x", 34)
        ban = side.call("status", IP, "login").ban
        assert (ban.reason, ban.id, side.hit(IP, "login").verdict) == ("", "", "banned")
        assert side.call("unban", IP, "login") is not None


# The command line.


class Desk:
    """The commands, run in this process."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.file = folder / "banhammer.toml"
        self.file.write_text(
            f'backend = "{url}"\ndeadline = "10s"\n[policies.login]\n'
            'thresholds = [{ limit = 10, period = "1h", ban = "1h" }]\n'
        )
        monkeypatch.chdir(folder)
        for setting in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
            monkeypatch.delenv(setting, raising=False)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["banhammer", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = self._capsys.readouterr()
        return int(end.value.code or 0), out, err


@pytest.fixture
def desk(
    memcached: Memcached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    return Desk(tmp_path, memcached.url, monkeypatch, capsys)


def test_commands_on_one_key_work(desk: Desk) -> None:
    assert desk.run("status", IP)[0] == 1
    code, out, _ = desk.run("ban", IP, "login", "--for", "2h", "--reason", "stuffing")
    assert (code, out.startswith(f"{IP} under login: banned until ")) == (0, True)
    code, out, _ = desk.run("status", IP, "--json")
    (record,) = json.loads(out)["records"]
    assert (code, record["ban"]["reason"], record["strikes"]) == (0, "stuffing", 1)
    assert "stuffing" in desk.run("explain", IP)[1]
    assert desk.run("unban", IP)[0] == 0
    assert desk.run("unban", IP)[0] == 1
    assert desk.run("reset", IP)[0] == 0
    assert desk.run("status", IP)[0] == 1


def test_a_command_that_lists_exits_2_and_says_what_to_ask(desk: Desk) -> None:
    code, out, err = desk.run("bans")
    assert (code, out) == (2, "")
    assert err.startswith("backend: memcached://")
    assert "cannot list its bans; ask for a key with banhammer status" in err


def test_check_says_what_memcached_cannot_promise(desk: Desk) -> None:
    code, out, _ = desk.run("check")
    assert code == 0
    assert "note: backend: Memcached cannot list bans; " in out
    assert "note: backend: Memcached forgets a ban that it evicts, " in out
    assert "note: backend: Memcached has no clock to decide by, " in out


def test_other_stores_have_no_such_notes() -> None:
    policies = {"p": {"thresholds": [{"limit": 1, "period": "1h"}]}}
    assert notes(load({"backend": "redis://h", "policies": policies})) == []


# Settings.


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("memcached://", "memcached:// names no host; write memcached://host:11211"),
        ("memcached://h:x", "a host is no host:port"),
        ("memcached://h:99999", "a host is no host:port"),
        ("memcached://:11211", "a host is no host:port"),
        ("memcached://[::1", "the URL cannot be read"),
        ("memcached://h/0", "takes hosts only"),
        ("memcached://u:sesame@h", "takes no user and no password"),
        ("memcached://h?local_share=0", "local_share=0; write a whole number from 1 to 1,000,000"),
        ("memcached://h?timeout=1", "unknown setting 'timeout'; known: local_share"),
    ],
)
def test_a_wrong_url_is_a_mistake_that_names_what_is_right(url: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        open_backend(url)
    assert mistake in str(wrong.value)
    assert "sesame" not in str(wrong.value)


@pytest.mark.parametrize("share", [0, True, "2", 1_000_001])
def test_a_wrong_local_share_is_a_mistake(share: Any) -> None:
    with pytest.raises(ConfigError, match=r"local_share=.*; it must be an integer from 1 to 1,000,000"):
        MemcachedBackend("memcached://h", local_share=share)


def test_a_url_names_servers_as_the_hash_client_does() -> None:
    url = "memcached://H1,h2:1,[::1]:2,[fe80::1%eth0],h2:1"
    settings, own = from_url(f"{url}?local_share=4")
    assert settings.addresses == (("H1", 11211), ("h2", 1), ("::1", 2), ("fe80::1%eth0", 11211))
    assert own == {"local_share": 4}
    names = [server.name for server in MemcachedBackend(url)._store.servers]
    assert names == list(HashClient(settings.addresses).clients)


def test_a_client_is_read_and_left_alone() -> None:
    for client in (Client("/run/memcached.sock"), PooledClient("/run/memcached.sock", timeout=9)):
        assert from_client(client).addresses == ("/run/memcached.sock",)
    several = HashClient([("h1", 1), ("h2", 2)], connect_timeout=9, use_pooling=True)
    assert from_client(several).addresses == (("h1", 1), ("h2", 2))
    assert from_client(several).client(("h1", 1), 0.5).connect_timeout == 0.5
    with pytest.raises(ConfigError, match="has no server"):
        from_client(HashClient([]))


def test_what_is_no_client_and_no_store_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="give a URL, a client of redis-py or pymemcache, or an object"):
        adopt(object())


def test_without_pymemcache_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_module = builtins.__import__

    def absent(name: str, *arguments: Any) -> Any:
        if name.startswith("pymemcache"):
            raise ImportError(name)
        return load_module(name, *arguments)

    for name in [name for name in sys.modules if name.startswith("banhammer.backends.memcached")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r'Memcached needs: pip install "banhammer-limiter\[memcached\]"'):
        open_backend("memcached://h")


def test_one_store_serves_both_shells_at_once(memcached: Memcached) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
    plain, awaited = BanHammer(RULES, backend=backend), AsyncBanHammer(RULES, backend=backend)
    assert plain.hit(IP, "login").remaining == 9

    async def main() -> int | None:
        decision = await awaited.hit(IP, "login")
        await awaited.close()
        await backend.aio.close()
        return decision.remaining

    assert asyncio.run(main()) == 8
    assert plain.hit(IP, "login").remaining == 7
    plain.close()
    backend.close()
