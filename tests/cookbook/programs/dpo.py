"""Direct preference optimization on a file of comparisons, with a held-out one.

dpo.py model_name=FOLDER log_path=FOLDER data=JSONL held_out=JSONL
"""

from __future__ import annotations

import chat_format
import chz
from tinker_cookbook.preference import train_dpo
from tinker_cookbook.preference.dpo_datasets import DPODatasetBuilderFromComparisons
from tinker_cookbook.preference.preference_datasets import ComparisonBuilderFromJsonl
from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig


@chz.chz
class Options:
    model_name: str
    log_path: str
    data: str
    held_out: str


def main(options: Options) -> None:
    common = ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=options.model_name, renderer_name=chat_format.NAME, max_length=256, batch_size=4
    )
    comparisons = ComparisonBuilderFromJsonl(train_path=options.data, test_path=options.held_out)
    train_dpo.main(
        train_dpo.Config(
            log_path=options.log_path,
            model_name=options.model_name,
            recipe_name="dpo",
            renderer_name=chat_format.NAME,
            dataset_builder=DPODatasetBuilderFromComparisons(common_config=common, comparison_builder=comparisons),
            learning_rate=1e-3,
            lr_schedule="constant",
            dpo_beta=0.1,
            lora_rank=16,
            num_epochs=2,
            eval_every=4,
            save_every=4,
        )
    )


if __name__ == "__main__":
    chz.nested_entrypoint(main)
