"""What the packages do without any extra. The nox session `house` has none, so what works here needs none."""

from __future__ import annotations

import subprocess
import sys

import loops_sdk
from loops_sdk import Renderer
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk.instrumentation.waiting import nobody


async def test_a_conversation_is_rendered() -> None:
    renderer = Renderer(await tokenizer_of("loops/tiny", nobody))
    datum = renderer.datum([{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Ahoy!"}])
    assert datum.model_input.length > 5


def test_the_command_shows_its_pages() -> None:
    command = [sys.executable, "-m", loops_sdk.__name__, "docs", "tutorial"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Ten minutes" in done.stdout
