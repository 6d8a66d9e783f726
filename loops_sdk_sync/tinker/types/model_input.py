"""What a model reads."""

from __future__ import annotations

from loops_sdk import InvalidInputError
from loops_sdk_sync.tinker.types._model import StrictModel
from loops_sdk_sync.tinker.types.encoded_text_chunk import EncodedTextChunk
from loops_sdk_sync.tinker.types.model_input_chunk import ModelInputChunk

__all__ = ["ModelInput"]


class ModelInput(StrictModel):
    """A sequence of chunks, read in order.

    Args:
        chunks: text, images and sound.
    """

    chunks: list[ModelInputChunk]

    @classmethod
    def from_ints(cls, tokens: list[int]) -> ModelInput:
        """An input of one run of token ids.

        Args:
            tokens: the ids.
        """
        return cls(chunks=[EncodedTextChunk(tokens=tokens)])

    def to_ints(self) -> list[int]:
        """All token ids in order.

        Raises:
            InvalidInputError: there is a chunk that has no token ids.
        """
        tokens: list[int] = []
        for index, chunk in enumerate(self.chunks):
            if not isinstance(chunk, EncodedTextChunk):
                raise InvalidInputError(f"chunks[{index}]: {type(chunk).__name__} has no token ids")
            tokens.extend(chunk.tokens)
        return tokens

    @property
    def length(self) -> int:
        """Number of positions of all chunks."""
        return sum(chunk.length for chunk in self.chunks)

    @classmethod
    def empty(cls) -> ModelInput:
        """No chunks yet; `append` gives inputs with some."""
        return cls(chunks=[])

    def append(self, chunk: ModelInputChunk) -> ModelInput:
        """A new input with `chunk` at the end; this one stays as it is."""
        return ModelInput(chunks=[*self.chunks, chunk])

    def append_int(self, token: int) -> ModelInput:
        """A new input with a run of one token at the end; this one stays as it is."""
        return self.append(EncodedTextChunk(tokens=[token]))
