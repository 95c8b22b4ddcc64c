"""report_central into a stream of a real Redis and Valkey: what is in it, its cap, and a server that is away."""

from __future__ import annotations

import time

import pytest

from action_samples import escalation, hostile, plain, strict
from banhammer import BanhammerError
from banhammer.actions.report import ReportCentral
from servers import programs
from servers.standalone import Standalone


def into(server: Standalone, **settings: object) -> ReportCentral:
    return ReportCentral.from_settings({"stream": server.url, **settings})


def documents(server: Standalone, name: str = "banhammer:reports") -> list[object]:
    """Return what the stream holds; each entry must have the one field."""
    entries = server.ask("XRANGE", name, "-", "+")
    assert all(list(fields) == [b"escalation"] for _, fields in entries)
    return [strict(fields[b"escalation"].decode("ascii")) for _, fields in entries]


def test_an_escalation_and_its_lift_are_entries_that_hold_the_document(standalone: Standalone) -> None:
    action = into(standalone)
    action.run(escalation())
    action.lift(escalation(verdict="lifted"))
    assert documents(standalone) == [plain(escalation()), plain(escalation(verdict="lifted"))]


def test_five_hundred_hostile_keys_arrive_whole_in_a_stream_of_any_name(standalone: Standalone) -> None:
    samples = hostile()
    action = into(standalone, name="caf\u00e9 {x}\r\n")
    for each in samples:
        action.run(each)
    assert documents(standalone, "caf\u00e9 {x}\r\n") == [plain(each) for each in samples]
    assert standalone.ask("DBSIZE") == 1


def test_the_stream_keeps_the_newest_and_is_capped(standalone: Standalone) -> None:
    action = into(standalone, max_len=100)
    for number in range(1000):
        action.run(escalation(id=str(number)))
    found = [each["id"] for each in documents(standalone)]  # type: ignore[index]
    assert 100 <= len(found) <= 300  # Redis drops whole blocks, of 100 entries by default.
    assert found == [str(number) for number in range(1000 - len(found), 1000)]


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_with_a_password_is_reached_through_its_port_and_its_socket(unix: bool) -> None:
    with Standalone(programs.default(), password="p@ss:w/rd", unix=unix) as server:
        server.ask("SELECT", 0)
        into(server).run(escalation())
        assert documents(server) == [plain(escalation())]


def test_a_database_other_than_the_first_is_taken_from_the_url(standalone: Standalone) -> None:
    ReportCentral.from_settings({"stream": f"{standalone.url}/3"}).run(escalation())
    client = standalone.client(db=3)
    assert client.xlen("banhammer:reports") == 1
    client.flushdb()
    client.close()


def test_a_wrong_password_is_an_error_without_it() -> None:
    with Standalone(programs.default(), password="right") as server:
        action = ReportCentral.from_settings({"stream": server.url.replace(":right@", ":wrong-secret@")})
        with pytest.raises(BanhammerError) as caught:
            action.run(escalation())
    assert "wrong-secret" not in str(caught.value)
    assert "redis://:***@127.0.0.1" in str(caught.value)


def test_a_server_that_is_away_is_an_error_and_found_again() -> None:
    with Standalone(programs.default()) as server:
        action = into(server)
        action.run(escalation())
        server.kill()
        with pytest.raises(BanhammerError, match=r"redis://127\.0\.0\.1"):
            action.run(escalation())
        server.start()
        action.run(escalation())
        assert documents(server) == [plain(escalation())]


def test_a_server_that_closed_an_idle_connection_is_asked_over_a_new_one(standalone: Standalone) -> None:
    action = into(standalone)
    action.run(escalation(id="1"))
    standalone.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    action.run(escalation(id="2"))
    assert [each["id"] for each in documents(standalone)] == ["1", "2"]  # type: ignore[index]


def test_a_server_that_hangs_is_given_a_bounded_time_whatever_the_url_says(standalone: Standalone, monkeypatch) -> None:
    monkeypatch.setattr("banhammer.actions.stream.TIMEOUT", 0.05)
    action = ReportCentral.from_settings({"stream": f"{standalone.url}?socket_timeout=60&retry_on_timeout=yes"})
    action.run(escalation())
    standalone.stop()
    start = time.monotonic()
    with pytest.raises(BanhammerError, match="Timeout"):
        action.run(escalation())
    assert time.monotonic() - start < 5
    standalone.cont()


def test_what_is_no_stream_is_an_error_of_the_server(standalone: Standalone) -> None:
    standalone.ask("SET", "banhammer:reports", "x")
    with pytest.raises(BanhammerError, match="WRONGTYPE"):
        into(standalone).run(escalation())
