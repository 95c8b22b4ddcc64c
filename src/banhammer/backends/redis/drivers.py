"""The two ways to hold a talk with servers: on the caller's thread, and on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from time import sleep
from typing import Any, TypeVar

from banhammer.backends.redis.link import Link, is_away
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks
from banhammer.errors import BackendError

Told = TypeVar("Told")


def drive(talk: Generator[tuple[Asks, float], Answers, Told], until: float) -> Told:
    """Hold `talk` until it returns: commands go to all servers before the first answer is read.

    `until`: the `time.monotonic` at which waiting ends. A server whose breaker is open is not asked.
    """
    try:
        asks, pause = next(talk)
        while True:
            if pause:
                sleep(pause)
            asks, pause = talk.send(_exchange(asks, until))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def adrive(talk: Generator[tuple[Asks, float], Answers, Told], until: float) -> Told:
    """Hold `talk`, awaited; see `drive`."""
    try:
        asks, pause = next(talk)
        while True:
            if pause:
                await asyncio.sleep(pause)
            if len(asks) == 1:
                ((server, commands),) = asks.items()
                answers: Answers = {server: await _aask(server, commands, until)}
            else:
                got = await asyncio.gather(*[_aask(server, commands, until) for server, commands in asks.items()])
                answers = dict(zip(asks, got, strict=True))
            asks, pause = talk.send(answers)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def probe(server: Server, until: float) -> None:
    """Ask a server whose breaker is open whether it answers again."""
    link = server.take()
    try:
        link.send([("PING",)], until)
        answers = link.receive(1, until)
    except BackendError:
        return
    _heard(server, answers)
    server.give(link)


def _exchange(asks: Asks, until: float) -> Answers:
    answers: Answers = {}
    sent: list[tuple[Server, Link, int]] = []
    try:
        for server, commands in asks.items():
            if server.breaker.error is not None:
                answers[server] = server.breaker.error
                continue
            link = server.take()
            try:
                link.send(commands, until)
            except BackendError as error:
                server.breaker.failed(error)
                answers[server] = error
                continue
            sent.append((server, link, len(commands)))
        while sent:
            server, link, count = sent[0]
            try:
                answers[server] = told = link.receive(count, until)
            except BackendError as error:
                server.breaker.failed(error)
                answers[server] = error
            else:
                _heard(server, told)
                server.give(link)
            sent.pop(0)
    finally:
        for _, link, _ in sent:  # Interrupted: a connection that owes an answer is nobody else's.
            link.close()
    return answers


async def _aask(server: Server, commands: list[tuple[Any, ...]], until: float) -> list[Any] | BackendError:
    breaker = server.breaker
    if breaker.error is not None:
        return breaker.error
    link = server.take_async()
    try:
        answers = await link.ask(commands, until)
    except BackendError as error:
        breaker.failed(error)
        return error
    _heard(server, answers)
    await server.give_async(link)
    return answers


def _heard(server: Server, answers: Sequence[Any]) -> None:
    """Tell the breaker of an answer, unless all that it says is that the server is away."""
    if not any(map(is_away, answers)):
        server.breaker.answered()
