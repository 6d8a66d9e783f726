"""``loops models``: which base models can be trained, and how long their sequences may be."""

from __future__ import annotations

import click

from loops_sdk.cli.connection import ask, connection_options
from loops_sdk.cli.output import json_option, print_json, print_table
from loops_sdk.types import SupportedModel


@click.command(short_help="Base models that can be trained.")
@click.option("--model", help="This base model only.")
@click.option("--use-case", type=click.Choice(["rl", "sft"]), help="What it is for.  [default: rl, the stricter one]")
@click.option("--max-seq-len", type=click.IntRange(min=1), help="Sequences of this many tokens must fit.")
@json_option
@connection_options
def models(base_url: str, model: str | None, use_case: str | None, max_seq_len: int | None, as_json: bool) -> None:
    """List the base models that can be trained. That one is enabled does not promise that machines are free.

    \b
    Example:  loops models --use-case sft --max-seq-len 32768
    """
    found = ask(
        base_url,
        lambda control: control.capabilities(model=model, use_case=use_case, max_seq_len=max_seq_len),
    ).supported_models
    if as_json:
        print_json(found)
        return
    rows = [
        [
            one.model_name,
            f"{one.max_seq_len:,}",
            f"{one.max_enabled_seq_len:,}",
            _yes(one.supports_vision_language),
            _state(one),
        ]
        for one in found
    ]
    print_table(["MODEL", "LONGEST", "LONGEST HERE", "IMAGES", "ENABLED"], rows, empty="no models")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _state(model: SupportedModel) -> str:
    """Whether it may be used; if not, why and what would help."""
    details = model.enablement_details
    if model.enabled or details is None:
        return _yes(model.enabled)
    return "no: " + "; ".join(part for part in (details.reason_detail or details.reason, details.remediation) if part)
