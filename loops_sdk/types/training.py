"""What training calls take and give back."""

from __future__ import annotations

from typing import Literal

import attrs

from loops_sdk.types._checks import as_real, number, text, whole
from loops_sdk.types.tensors import TensorData

__all__ = [
    "AdamParams",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "InitTrainerServerResponse",
    "LoadWeightsResponse",
    "LossFn",
    "OperationInfo",
    "OptimStepResponse",
    "SaveWeightsResponse",
    "WandbConfig",
]

#: The losses a trainer knows: supervised (`cross_entropy`) and policy-gradient ones.
LossFn = Literal["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "dppo"]


@attrs.frozen
class AdamParams:
    """Parameters of one Adam step (AdamW: the weight decay is decoupled, arXiv 1711.05101). All apply to that step
    only.

    Args:
        learning_rate: step size, >= 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the denominator, >= 0.
        weight_decay: decoupled decay per step, times the learning rate, >= 0.
        grad_clip_norm: largest global gradient norm; 0 means no clipping.
    """

    learning_rate: float = attrs.field(default=1e-4, converter=as_real, validator=number(low=0))
    beta1: float = attrs.field(default=0.9, converter=as_real, validator=number(low=0, below=1))
    beta2: float = attrs.field(default=0.95, converter=as_real, validator=number(low=0, below=1))
    eps: float = attrs.field(default=1e-12, converter=as_real, validator=number(low=0))
    weight_decay: float = attrs.field(default=0.0, converter=as_real, validator=number(low=0))
    grad_clip_norm: float = attrs.field(default=0.0, converter=as_real, validator=number(low=0))


@attrs.frozen
class ForwardBackwardOutput:
    """The result of `forward` or `forward_backward`.

    Attributes:
        loss: the plain sum of the loss over all positions of all datums, not divided by anything.
        metrics: numbers by name. Keys that end in ``:sum`` add up over the parts of a batch that is sent in pieces.
        loss_fn_outputs: one dict per datum, in the order of the input: ``logprobs`` of the targets (0.0 where
            ignored) and ``elementwise_loss``, both float32 with one value per position.
        loss_fn_output_type: the server's name for the shape of `loss_fn_outputs`, when it gives one.
    """

    loss: float
    metrics: dict[str, float] = attrs.field(factory=dict)
    loss_fn_outputs: list[dict[str, TensorData]] = attrs.field(
        factory=list, repr=lambda value: f"<{len(value)} datums>"
    )
    loss_fn_output_type: str | None = None


@attrs.frozen
class OptimStepResponse:
    """The result of `optim_step`.

    Attributes:
        metrics: ``step`` (number of steps applied so far), ``learning_rate`` (also as ``lr``), ``grad_norm`` (global
            norm before clipping), and whatever else the trainer reports, all floats.
    """

    metrics: dict[str, float] = attrs.field(factory=dict)


@attrs.frozen
class SaveWeightsResponse:
    """The result of a save.

    Attributes:
        path: ``bt://loops:<run_id>/weights/<name>`` or ``bt://loops:<run_id>/sampler_weights/<name>``.
        type: ``"save_weights"``.
        policy_version: number of optimizer steps in the weights that were saved; `None` when the trainer does not say.
    """

    path: str
    type: str = "save_weights"
    policy_version: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole(low=0)))


@attrs.frozen
class LoadWeightsResponse:
    """The result of a load.

    Attributes:
        path: the address that was loaded, ``bt://loops:<run_id>/weights/<name>``.
        type: ``"load_weights"``.
        policy_version: number of optimizer steps that the trainer counts now; `None` when it does not say.
    """

    path: str
    type: str = "load_weights"
    policy_version: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole(low=0)))


@attrs.frozen
class InitTrainerServerResponse:
    """The result of `init_trainer_server`: what the trainer says that it set; `None` where it does not say.

    Attributes:
        lora_rank: rank of the fresh adapter.
        lora_alpha: scale of the adapter before division by the rank.
        seed: seed that its A was drawn from.
        train_attn, train_mlp, train_unembed: whether attention, MLP and unembedding got an adapter.
    """

    lora_rank: int | None = None
    lora_alpha: int | None = None
    seed: int | None = None
    train_attn: bool | None = None
    train_mlp: bool | None = None
    train_unembed: bool | None = None


@attrs.frozen
class GetInfoResponse:
    """What a training client knows of its model.

    Attributes:
        base_model: name of the base model.
        lora_rank: rank of the adapter.
        max_seq_len: longest sequence in tokens, or `None` when the service's default applies.
    """

    base_model: str
    lora_rank: int
    max_seq_len: int | None = None


@attrs.frozen
class OperationInfo:
    """An operation that a trainer has accepted: what resuming it needs.

    Attributes:
        operation: name of the call, for example ``"forward_backward"``.
        operation_id: the trainer's id of it.
        status: ``"queued"``, ``"running"``, ``"done"`` or ``"error"``.
        idempotency_key: the key under which it was submitted, if it had one.
    """

    operation: str
    operation_id: str
    status: str
    idempotency_key: str | None = None


@attrs.frozen
class WandbConfig:
    """Where the curves of a training client are drawn: one run of Weights & Biases per client.

    Key, server and mode are wandb's own: ``wandb login`` or ``WANDB_API_KEY``, ``WANDB_BASE_URL``, ``WANDB_MODE``.

    Args:
        project: name of the project.
        name: name of the run; `None` lets wandb choose one.
    """

    project: str = attrs.field(validator=text())
    name: str | None = attrs.field(default=None, validator=attrs.validators.optional(text()))
