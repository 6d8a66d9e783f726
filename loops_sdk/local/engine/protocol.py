"""What an engine must do, said without torch: servers hold these protocols, never an implementation.

An engine has no thread, no lock and no clock of its own. Whoever drives it calls it from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.types import AdamParams, Datum, ForwardBackwardOutput, OptimStepResponse, SamplingParams
from loops_sdk.types._checks import whole

__all__ = ["MOST_RANK", "AdapterConfig", "Generation", "GenerationEngine", "GenerationRequest", "TrainingEngine"]

#: The largest rank an adapter may have: beyond it LoRA saves nothing, and a slip of the pen takes all memory.
MOST_RANK = 1024


@attrs.frozen
class AdapterConfig:
    """A LoRA adapter (arXiv 2106.09685): ``W + (lora_alpha / lora_rank) B A`` on the linear layers of the chosen parts.

    Args:
        lora_rank: rank of A and B, from 1 to `MOST_RANK`.
        lora_alpha: scale before division by the rank, whatever the rank is.
        seed: seed of A (Kaiming-uniform, B is zero); `None` draws one.
        train_attn, train_mlp, train_unembed: which parts are targets: attention and MLP projections, `lm_head`.

    Raises:
        InvalidInputError: a rank, alpha or seed out of range, or no part at all.
    """

    lora_rank: int = attrs.field(default=32, validator=whole(low=1, high=MOST_RANK))
    lora_alpha: int = attrs.field(default=32, validator=whole(low=1))
    seed: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole(low=0, high=2**63 - 1)))
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = True

    def __attrs_post_init__(self) -> None:
        if not (self.train_attn or self.train_mlp or self.train_unembed):
            raise InvalidInputError("train_attn, train_mlp, train_unembed: expected at least one to be true")


class TrainingEngine(Protocol):
    """A model with one adapter and its optimizer."""

    @property
    def max_seq_len(self) -> int:
        """Longest sequence the model takes, in tokens."""
        ...

    @property
    def step(self) -> int:
        """Number of optimizer steps applied to the adapter since it was fresh: the policy version."""
        ...

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        """The adapter's configuration as PEFT writes it to ``adapter_config.json``."""
        ...

    def init_adapter(self, config: AdapterConfig) -> None:
        """Replace the adapter by a fresh one, drop gradients and moments, set `step` to 0."""
        ...

    def check(self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None) -> None:
        """Refuse what `forward_backward` could not compute. Cheap; may run in any thread while a pass runs in another.

        Raises:
            InvalidInputError: unknown loss or config key, missing input, wrong dtype or length, token id outside the
                vocabulary, sequence too long or empty, an image for a text-only model. The message names which and
                where (``data[3].loss_fn_inputs['advantages']``).
        """
        ...

    def forward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """Loss and logprobs without gradients; the accumulated gradients stay as they are."""
        ...

    def forward_backward(
        self, data: Sequence[Datum], loss_fn: str, loss_fn_config: Mapping[str, Any] | None
    ) -> ForwardBackwardOutput:
        """Loss and logprobs; adds the gradient of the summed loss to what has accumulated since the last step."""
        ...

    def poison(self, reason: str) -> None:
        """Make the next `optim_step` refuse, as after a `forward_backward` that failed with `reason`: a trainer that
        takes over from one that died cannot repeat the failure itself.
        """
        ...

    def optim_step(self, params: AdamParams) -> OptimStepResponse:
        """One AdamW step with the accumulated gradients, which are cleared; `step` grows by one.

        Raises:
            RuntimeError: nothing accumulated, a failed `forward_backward` since the last step, or a non-finite gradient
                norm. The gradients are cleared, the weights untouched, `step` unchanged.
        """
        ...

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as a PEFT folder (``adapter_config.json``, ``adapter_model.safetensors``) into `folder`."""
        ...

    def save_state(self, folder: Path) -> None:
        """Write adapter, Adam moments and step count into `folder`: everything that bit-exact resumption needs."""
        ...

    def load_state(self, folder: Path, *, optimizer: bool) -> None:
        """Read what `save_state` wrote. Without `optimizer` moments are fresh and `step` is 0; with it all is restored.

        The adapter becomes the saved one: `adapter_config` tells its alpha and its targets, not those from before.

        Raises:
            RuntimeError: the folder holds an adapter of another base model or of another rank. Nothing has changed.
        """
        ...


@attrs.frozen
class GenerationRequest:
    """One prompt to continue.

    Args:
        prompt: token ids, at least one.
        params: how to sample. `max_tokens` `None` means as many as the context still holds.
        num_samples: number of continuations, >= 1. Continuation `i` of a seeded request uses stream ``(seed, i)``,
            so the result does not depend on what else is in the batch.
        adapter: name under which the adapter was loaded; `None` means the base model.
        prompt_logprobs: `None`, or the number of most probable alternatives to report per prompt position (0: only the
            prompt's own tokens).
    """

    prompt: Sequence[int]
    params: SamplingParams
    num_samples: int = 1
    adapter: str | None = None
    prompt_logprobs: int | None = None


@attrs.frozen
class Generation:
    """What came of a `GenerationRequest`.

    Attributes:
        tokens: one list of new token ids per continuation, the stop token included.
        logprobs: for each new token its log-probability under the model itself (temperature 1, nothing cut off).
        texts: the decoded continuations, without stop token and stop string.
        finish_reasons: ``"stop"`` or ``"length"`` per continuation.
        prompt_logprobs: per prompt position `None` (the first) or ``{token id: (logprob, rank)}`` that holds the
            prompt's own token and as many of the most probable ones as were asked for; rank 1 is the most probable.
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]
    texts: list[str]
    finish_reasons: list[Literal["stop", "length"]]
    prompt_logprobs: list[dict[int, tuple[float, int]] | None] | None = None


class GenerationEngine(Protocol):
    """A model that continues prompts, many at a time. Requests join and leave the running batch between steps."""

    @property
    def tokenizer_path(self) -> str:
        """A folder or hub id for `AutoTokenizer.from_pretrained`."""
        ...

    @property
    def max_seq_len(self) -> int:
        """Longest prompt plus continuation, in tokens."""
        ...

    def encode(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a text, or of a conversation that the model is to answer.

        Args:
            prompt: a text, encoded with the special tokens that the tokenizer puts before one, or messages with
                ``role`` and ``content``, encoded by the tokenizer's chat template up to where the answer begins.

        Raises:
            InvalidInputError: messages, and there is no chat template or it refuses them.
        """
        ...

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the PEFT folder available to requests under `name`.

        Raises:
            RuntimeError: the folder does not fit this base model.
        """
        ...

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter once the requests that use it have finished; unknown names are ignored."""
        ...

    def check(self, request: GenerationRequest) -> None:
        """Refuse what cannot be sampled: an empty or too long prompt, a token id outside the vocabulary.

        Raises:
            InvalidInputError: naming the argument.
        """
        ...

    def add(self, request: GenerationRequest) -> int:
        """Queue a request that `check` accepts; the number is its ticket."""
        ...

    def cancel(self, ticket: int) -> None:
        """Drop a request, also in the middle; unknown tickets are ignored."""
        ...

    def step(self) -> list[tuple[int, Generation | Exception]]:
        """Prefill what is new, decode one token for everything that runs, and return what finished. Empty when idle."""
        ...

    @property
    def pending(self) -> int:
        """Number of requests that have not finished."""
        ...
