"""The chat format of `loops/tiny`, told to the cookbook: a token of its own opens each turn, ``<|end|>`` closes it."""

from __future__ import annotations

from typing import Any

import tinker
from tinker_cookbook.renderers import Message, ParseTermination, RenderContext, Renderer, ensure_text, register_renderer
from tinker_cookbook.renderers.base import RenderedMessage

NAME = "loops/chat"


class ChatRenderer(Renderer):
    @property
    def has_extension_property(self) -> bool:
        return True

    def get_stop_sequences(self) -> list[int]:
        return [self.tokenizer.eos_token_id]

    def render_message(self, message: Message, ctx: RenderContext) -> RenderedMessage:
        output: list[tinker.ModelInputChunk] = [self._chunk(ensure_text(message["content"]) + self.tokenizer.eos_token)]
        return RenderedMessage(header=self._chunk(f"<|{message['role']}|>"), output=output)

    def parse_response(self, response: list[int]) -> tuple[Message, ParseTermination]:
        ended = response[-1:] == self.get_stop_sequences()
        said = self.tokenizer.decode(response[:-1] if ended else response)
        message = Message(role="assistant", content=said)
        return message, ParseTermination.STOP_SEQUENCE if ended else ParseTermination.MALFORMED

    def _chunk(self, text: str) -> tinker.EncodedTextChunk:
        return tinker.EncodedTextChunk(tokens=self.tokenizer.encode(text, add_special_tokens=False))


def _make(tokenizer: Any, image_processor: Any = None) -> Renderer:
    return ChatRenderer(tokenizer)


register_renderer(NAME, _make)
