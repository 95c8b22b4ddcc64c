"""The pages whose commands start Redis servers, run as a reader would: needs redis-server, redis-cli and openssl."""

from __future__ import annotations

from pathlib import Path

import pytest

from doc_pages import PAGES, SERVED, Page, relative

SERVING = [page for page in PAGES if SERVED in page.read_text("utf-8")]


@pytest.mark.parametrize("page", SERVING, ids=relative)
def test_every_block_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
        monkeypatch.delenv(name, raising=False)
    Page(page, tmp_path, monkeypatch, servers=True).run()
