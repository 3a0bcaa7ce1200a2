"""The agent that is there from the start: it says back what it was told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

from sessiond.core.agent import EchoOptions
from sessiond.core.message import text_of
from sessiond.core.run import Brief, Piece, Text
from sessiond.runners.runner import Reply


async def run(brief: Brief) -> AsyncGenerator[Piece, Reply]:
    delay_seconds = brief.agent.read_options(EchoOptions).delay_ms / 1000
    said = text_of(brief.input) if brief.input is not None else "nothing was said"
    if not delay_seconds:
        yield Text(said)
        return
    for word in re.findall(r"\s*\S+\s*", said) or [said]:
        await asyncio.sleep(delay_seconds)
        yield Text(word)
