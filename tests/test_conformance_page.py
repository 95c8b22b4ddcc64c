"""The store of the page on backends, from the page's own text; the page itself runs the whole kit on it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BackendError, Ban, BanHammer, Hit, Policy, Threshold
from banhammer.backends.threaded import Threaded
from doc_pages import DOCS, blocks

POLICIES = [Policy("api", [Threshold(3, "1h", ban="1h")])]
SOURCE = next(
    each.text for each in blocks(DOCS / "how-to/write-a-backend.md") if each.text.startswith("# sqlite_store")
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    namespace: dict[str, Any] = {}
    exec(SOURCE, namespace)
    return namespace["SqliteStore"](str(tmp_path / "hits.db"))


def test_the_page_shows_a_whole_store_in_less_than_150_lines() -> None:
    assert SOURCE.count("\n") < 150


def test_both_shells_decide_over_one_object_and_close_only_what_is_theirs(store: Any) -> None:
    async def main() -> list[Ban]:
        async with AsyncBanHammer(POLICIES, backend=store) as hammer:
            await hammer.hit_many([Hit(f"k{number}", "api", cost=4) for number in range(250)])
            assert len([status async for status in hammer.status_all()]) == 250
            lifted = [await hammer.unban("k0", "api") for _ in range(2)]
            assert [ban is None for ban in lifted] == [False, True]
            return [ban async for ban in hammer.bans()]

    assert len(asyncio.run(main())) == 249
    with BanHammer(POLICIES, backend=store) as hammer:
        assert [hammer.hit(key, "api").verdict for key in ("k0", "k1", "new")] == ["allowed", "banned", "allowed"]
    asyncio.run(store.aio.close())


def test_a_pool_of_ones_own_runs_the_verbs(store: Any) -> None:
    with ThreadPoolExecutor(1, "ours") as pool:
        store.aio = Threaded(store, pool)

        async def main() -> None:
            async with AsyncBanHammer(POLICIES, backend=store) as hammer:
                assert await hammer.hit("k", "api")

        asyncio.run(main())
        assert [thread.name for thread in pool._threads] == ["ours_0"]
    store.close()


def test_a_failure_of_the_database_is_a_backend_error(store: Any) -> None:
    store.close()
    with pytest.raises(BackendError, match="SQLite: Cannot operate on a closed database"):
        BanHammer(POLICIES, backend=store).hit("k", "api")
