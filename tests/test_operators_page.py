"""The page for operators is true: its commands print what it shows, on a store that only claims to be like Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from banhammer.backends import Traits
from banhammer.outbox import DeadLetters, Outbox
from operators_shop import SharedStore, Shop

DOCS = Path(__file__).parent.parent / "docs"


class KeepingStore(SharedStore):
    """Claims to keep escalations too, as the store of the page does."""

    traits = Traits(shared=True, durable=True)

    def outbox(self) -> Outbox:
        raise AssertionError("an operator's command runs no actions that are kept")

    def dead_letters(self) -> DeadLetters:
        raise AssertionError("the page asks for no dead letters")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    shop = Shop(tmp_path, monkeypatch, capsys, KeepingStore)
    yield shop
    shop.hammer.close()


def test_the_page_for_operators_shows_what_the_commands_print(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banhammer.backends.memory.uuid4", lambda: UUID("5d0c7e6f1b8a4c2f9e3d2a1b0c9d8e7f"))
    page = (DOCS / "how-to/operate.md").read_text("utf-8")
    rules = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert rules
    shop.follow(rules[1])
    shop.hits(11, policy="login_failed")
    shop.clock.advance("5m")
    shown = [part for block in re.findall(r"```text\n(\$ .*?)```", page, re.DOTALL) for part in block.split("$ ")[1:]]
    assert len(shown) >= 6
    for part in shown:
        command, _, output = part.partition("\n")
        name, *arguments = re.findall(r"'[^']*'|\S+", command)
        assert name == "banhammer"
        done = shop.run(*(argument.strip("'") for argument in arguments))
        lines = [line.rstrip() for line in (done.out + done.err).splitlines()]
        assert lines == [line.rstrip() for line in output.rstrip().splitlines()], command
