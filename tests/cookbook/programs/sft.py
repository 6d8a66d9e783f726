"""Supervised training from a file of conversations; started again it goes on from its last checkpoint.

sft.py model_name=FOLDER log_path=FOLDER data=JSONL [dies_at=STEP]
"""

from __future__ import annotations

import asyncio
import os
import signal

import chat_format
import chz
import tinker
from tinker_cookbook.supervised import train
from tinker_cookbook.supervised.data import FromConversationFileBuilder
from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig, SupervisedDataset


class Fatal(SupervisedDataset):
    """A dataset in the middle of which the process dies, as if somebody had killed it."""

    def __init__(self, dataset: SupervisedDataset, batch: int) -> None:
        self._dataset, self._batch = dataset, batch

    def __len__(self) -> int:
        return len(self._dataset)

    def set_epoch(self, seed: int = 0) -> None:
        self._dataset.set_epoch(seed)

    def get_batch(self, index: int) -> list[tinker.Datum]:
        if index == self._batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._dataset.get_batch(index)


@chz.chz
class Conversations(FromConversationFileBuilder):
    dies_at: int | None = None

    def __call__(self) -> tuple[SupervisedDataset, SupervisedDataset | None]:
        training, held_out = super().__call__()
        return (training if self.dies_at is None else Fatal(training, self.dies_at)), held_out


@chz.chz
class Options:
    model_name: str
    log_path: str
    data: str
    dies_at: int | None = None


def main(options: Options) -> None:
    common = ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=options.model_name, renderer_name=chat_format.NAME, max_length=256, batch_size=16
    )
    config = train.Config(
        log_path=options.log_path,
        model_name=options.model_name,
        recipe_name="sft",
        renderer_name=chat_format.NAME,
        dataset_builder=Conversations(
            common_config=common, file_path=options.data, test_size=31, dies_at=options.dies_at
        ),
        learning_rate=1e-2,
        lora_rank=16,
        save_every=5,
        eval_every=8,
    )
    asyncio.run(train.main(config))


if __name__ == "__main__":
    chz.nested_entrypoint(main)
