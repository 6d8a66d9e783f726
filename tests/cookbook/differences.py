"""Every difference between our namespace and the original's, and why there is one.

Keys are facts, see `facts`: ``tinker.types.Datum.with_provenance(model_input)`` is a parameter; ``*`` stands for
anything. A difference that is not here, and one that is here and is none, both fail the comparison.
"""

from __future__ import annotations

from loops_sdk_sync.tinker import types

LEFT_OUT = {
    f"tinker.types.{name}": reason
    for reason, names in types._LEFT_OUT.items()  # asking for one says the same
    for name in names.split()
}

OF_TYPES = {
    "tinker.types.*.validate_*": "a hook of pydantic, no interface",
    "tinker.types.*.serialize_*": "a hook of pydantic, no interface",
    "tinker.types.OptimParams": "the original also takes optimizers that it does not know yet",
    "tinker.types.OptimizerConfig": "the original also takes optimizers that it does not know yet",
    "tinker.types.TopkLogprobs": "ours is shown, since `SampleResponse` holds it; the original hides it in its module",
    "tinker.lib.retry_handler.RetryConfig(retryable_exceptions)": "no errors of httpx: there is no httpx here",
}

OF_ERRORS = {
    "tinker.APITimeoutError": "ours is also a builtin TimeoutError, as that of a future is",
}

DIFFERENCES = LEFT_OUT | OF_TYPES | OF_ERRORS

#: Modules of the original whose types live with their family in another module of ours. Scripts import the family's
#: best known member only; the rest they take from `tinker.types`.
MOVED = {
    "checkpoints_list_response": "checkpoint",
    "cursor": "checkpoint",
    "custom_loss_input": "loss_fn_type",
    "external_weights_urls_response": "checkpoint",
    "forward_backward_input": "forward_backward_output",
    "get_info_response": "training_run",
    "get_sampler_response": "training_run",
    "get_server_capabilities_response": "training_run",
    "get_session_response": "training_run",
    "list_sessions_response": "training_run",
    "load_weights_response": "save_weights_response",
    "loss_fn_inputs": "loss_fn_type",
    "loss_fn_output": "loss_fn_type",
    "model_id": "training_run",
    "optim_step_request": "optimizer",
    "prompt_alt_tokens": "sample_response",
    "sampling_client_kind": "save_weights_response",
    "save_weights_for_sampler_response": "save_weights_response",
    "stop_reason": "sampled_sequence",
    "tensor_dtype": "tensor_data",
    "training_runs_response": "training_run",
    "unload_model_response": "training_run",
    "weights_info_response": "training_run",
}
