"""What saving and loading give back."""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

from loops_sdk import UnsupportedError
from loops_sdk_sync.tinker.types._model import OpenModel

__all__ = [
    "LoadWeightsResponse",
    "SamplingClientKind",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
]

#: Whether a sampling client keeps to the weights that were saved, or follows later ones.
SamplingClientKind: TypeAlias = Literal["snapshot", "inflight"]


def _no_page(method: str) -> NoReturn:
    raise UnsupportedError(
        f"{method}: leads to a page of Tinker's console, which knows nothing of this checkpoint; "
        f"`loops checkpoints list` shows it"
    )


class SaveWeightsResponse(OpenModel):
    """A training state was saved.

    Attributes:
        path: ``tinker://<run_id>/weights/<name>``.
        type: ``"save_weights"``.
    """

    path: str
    type: Literal["save_weights"] | None = None

    def get_console_url(self) -> str:
        """Not supported: Loops has no such page.

        Raises:
            UnsupportedError: always.
        """
        _no_page("get_console_url")


class SaveWeightsForSamplerResponse(OpenModel):
    """An adapter was saved.

    Attributes:
        path: ``tinker://<run_id>/sampler_weights/<name>``.
        type: ``"save_weights_for_sampler"``.
    """

    path: str
    type: Literal["save_weights_for_sampler"] | None = None

    def get_console_url(self) -> str:
        """Not supported: Loops has no such page.

        Raises:
            UnsupportedError: always.
        """
        _no_page("get_console_url")

    def get_playground_url(self) -> str:
        """Not supported: Loops has no such page.

        Raises:
            UnsupportedError: always.
        """
        _no_page("get_playground_url")


class LoadWeightsResponse(OpenModel):
    """A training state was loaded.

    Attributes:
        path: ``tinker://<run_id>/weights/<name>``.
        model_id: id of the run that it was loaded into.
        type: ``"load_weights"``.
    """

    path: str | None = None
    model_id: str | None = None
    type: Literal["load_weights"] | None = None
