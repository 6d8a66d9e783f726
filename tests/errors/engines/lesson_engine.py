"""The engine of the deployment that the cases run against: the real checks with the sizes of `loops/tiny`, no torch."""

from __future__ import annotations

import json
from pathlib import Path

from double_engine import VOCAB, Generator

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import GenerationRequest
from loops_sdk.local.engine.dry import DryTrainingEngine
from loops_sdk.local.engine.prompts import check

VOCABULARY, LONGEST = 1536, 1024


def load_training_engine(base_model: str, *, cache_dir: Path, max_seq_len: int | None = None) -> Trainer:
    if base_model != "loops/tiny":
        raise InvalidInputError(f"base_model: there is no folder {base_model}")
    return Trainer(vocab_size=VOCABULARY, max_seq_len=max_seq_len or LONGEST)


def load_generation_engine(base_model: str, *, cache_dir: Path) -> Sampler:
    return Sampler()


class Trainer(DryTrainingEngine):
    def save_adapter(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text(json.dumps(dict(self.adapter_config)), encoding="utf-8")
        (folder / "adapter_model.json").write_text(json.dumps([0.0] * VOCAB), encoding="utf-8")


class Sampler(Generator):
    def __init__(self) -> None:
        super().__init__()
        self.max_seq_len = LONGEST

    def check(self, request: GenerationRequest) -> None:
        check(request, max_seq_len=LONGEST, vocab_size=VOCABULARY, adapters=self.adapters)
