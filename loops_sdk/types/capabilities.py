"""What a service can train."""

from __future__ import annotations

import attrs

from loops_sdk.types._holding import few

__all__ = ["EnablementDetails", "ServerCapabilities", "SupportedModel"]


@attrs.frozen
class EnablementDetails:
    """Why a model cannot be used.

    Attributes:
        reason: ``"needs_approval"``, ``"sequence_length_unsupported"`` or another: new ones may appear at any time.
        reason_detail: the same, as a sentence.
        remediation: what would help, as a sentence.
    """

    reason: str
    reason_detail: str
    remediation: str


@attrs.frozen
class SupportedModel:
    """A base model.

    Attributes:
        model_name: the name that `create_lora_training_client` takes.
        max_seq_len: longest sequence in tokens that the platform can serve.
        max_enabled_seq_len: longest sequence in tokens that this workspace can train at; 0 when it cannot at all.
        supports_vision_language: whether it takes images.
        enabled: whether this workspace may use it. No promise that machines are free.
        serverless: whether it is served without a deployment of its own; `None` when that is not said.
        enablement_details: why it is not enabled.
    """

    model_name: str
    max_seq_len: int
    max_enabled_seq_len: int = 0
    supports_vision_language: bool = False
    enabled: bool = True
    serverless: bool | None = None
    enablement_details: EnablementDetails | None = None


@attrs.frozen
class ServerCapabilities:
    """What a service can do.

    Attributes:
        supported_models: the base models that it offers.
    """

    supported_models: list[SupportedModel] = attrs.field(repr=few)
