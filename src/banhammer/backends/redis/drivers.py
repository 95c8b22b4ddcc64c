"""The two ways to hold a talk with servers: on the caller's thread, and on its event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from time import monotonic, sleep
from typing import Any, Final, TypeVar

from banhammer.backends.redis.link import Command, Link
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import AHEAD, BRIEFLY, Answers, Asks
from banhammer.errors import BackendError

Told = TypeVar("Told")
_Round = dict[Server, "int | BackendError"]

ROUNDS: Final = 3
"""How many rounds may be said before the first is heard: one is answered, one waits, one is being made."""


def ask(server: Server, commands: Sequence[Command], until: float) -> list[Any] | BackendError:
    """Return what a server answers, or why it did not. `until`: the `time.monotonic` at which waiting ends."""
    breaker = server.breaker
    if breaker.error is not None:
        return breaker.error
    link = server.take()
    try:
        link.send(commands, until)
        answers = link.receive(len(commands), until)
    except BackendError as error:
        breaker.failed(error)
        return error
    finally:
        server.give(link)
    server.heard(answers)
    return answers


async def aask(server: Server, commands: Sequence[Command], until: float) -> list[Any] | BackendError:
    """Return, awaited, what a server answers; see `ask`."""
    breaker = server.breaker
    if breaker.error is not None:
        return breaker.error
    link = server.take_async()
    try:
        answers = await link.ask(commands, until)
    except BackendError as error:
        breaker.failed(error)
        return error
    server.heard(answers)
    await server.give_async(link)
    return answers


def drive(talk: Generator[tuple[Asks, float], Answers, Told], until: float) -> Told:
    """Hold `talk` until it returns: commands go to all servers before the first answer is read.

    `until`: the `time.monotonic` at which waiting ends. A server whose breaker is open is not asked.
    """
    links: dict[Server, Link] = {}
    rounds: deque[_Round] = deque()
    try:
        asks, pause = next(talk)
        while True:
            if pause > 0:
                sleep(pause)
            if links and not rounds:
                links = {server: link for server, link in links.items() if link.error is None}
            end = _end(pause, until)
            if asks:
                rounds.append(_say(asks, links, end))
            ahead = pause == AHEAD and len(rounds) < ROUNDS
            asks, pause = talk.send({} if ahead else _hear(rounds.popleft(), links, end))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        for server, link in links.items():
            server.give(link)


async def adrive(talk: Generator[tuple[Asks, float], Answers, Told], until: float) -> Told:
    """Hold `talk`, awaited; see `drive`."""
    try:
        asks, pause = next(talk)
        while True:
            if pause > 0:
                await asyncio.sleep(pause)
            end = _end(pause, until)
            if len(asks) == 1:
                ((server, commands),) = asks.items()
                answers: Answers = {server: await aask(server, commands, end)}
            else:
                got = await asyncio.gather(*[aask(server, commands, end) for server, commands in asks.items()])
                answers = dict(zip(asks, got, strict=True))
            asks, pause = talk.send(answers)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _end(pause: float, until: float) -> float:
    """Return the `time.monotonic` at which waiting for one round ends."""
    return (monotonic() + until) / 2 if pause == BRIEFLY else until


def _say(asks: Asks, links: dict[Server, Link], until: float) -> _Round:
    """Send to each server; return how many answers each owes for it, or why it was not asked."""
    said: _Round = {}
    for server, commands in asks.items():
        link = links.get(server)
        error = server.breaker.error or (link and link.error)
        if error is None:
            link = link or links.setdefault(server, server.take())
            error = _tried(server, partial(link.send, commands, until))
        said[server] = error if isinstance(error, BackendError) else len(commands)
    return said


def _hear(said: _Round, links: dict[Server, Link], until: float) -> Answers:
    """Return what each server answers to one round."""
    answers: Answers = {}
    for server, count in said.items():
        if isinstance(count, BackendError):
            answers[server] = count
            continue
        link = links[server]
        told = _tried(server, partial(link.receive, count, until)) if link.error is None else link.error
        if not isinstance(told, BackendError):
            server.heard(told)
        answers[server] = told
    return answers


def _tried(server: Server, act: Callable[[], Told]) -> Told | BackendError:
    try:
        return act()
    except BackendError as error:
        server.breaker.failed(error)
        return error
