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

OF_NAMES = {
    "tinker.APITimeoutError": "ours is also a builtin TimeoutError, as that of a future is",
    "tinker.NotOfferedError": "what Loops has no counterpart of is refused with an error of its own",
    "tinker.OptimParams": "the original also takes optimizers that it does not know yet",
    "tinker.*install": "the loader, which makes `import tinker` mean ours",
    "tinker.*AdminClient": "it manages accounts of Tinker's service",
    "tinker.*LossHandle": "losses that run on Tinker's servers; here a loss of your own runs in this process",
    "tinker.*PerDatumLossFn": "losses that run on Tinker's servers; here a loss of your own runs in this process",
    "tinker.ExperimentalWarning": "there are no experimental calls here",
    "tinker.RequestOptions": "it configures the original's HTTP library",
    "tinker.Timeout": "it configures the original's HTTP library",
    "tinker.auth": "it looks for a key of Tinker's service, which we never read",
    "tinker.lib.public_interfaces.AwaitableConcurrentFuture": "`APIFuture` is such a future itself",
}

_CLIENTS = "tinker.lib.public_interfaces."
_FUTURE_OF_THE_STDLIB = "ours is also a `concurrent.futures.Future`, as which old code treats it"
_MADE_BY_SERVICE = "the service client makes it; scripts never do"
_REFUSED = "refused by name, whatever the arguments: Loops has no counterpart"

OF_FUTURES = {
    f"{_CLIENTS}*Future.{name}": _FUTURE_OF_THE_STDLIB
    for name in (
        "add_done_callback",
        "cancel",
        "cancelled",
        "done",
        "exception",
        "running",
        "set_exception",
        "set_result",
        "set_running_or_notify_cancel",
    )
} | {
    f"{_CLIENTS}*Future(*)": "the clients make it; scripts never do",
    f"{_CLIENTS}*Future.of": "how the clients make it",
    f"{_CLIENTS}Backcompat*Future.*(*)": "ours name the parameters, the original passes on any",
}

OF_CLIENTS = {
    f"{_CLIENTS}SamplingClient(*)": _MADE_BY_SERVICE,
    f"{_CLIENTS}TrainingClient(*)": _MADE_BY_SERVICE,
    f"{_CLIENTS}*.create": _MADE_BY_SERVICE,
    f"{_CLIENTS}*.holder": "the original's own connection pool",
    f"{_CLIENTS}*.on_queue_state_change": "a hook of the original's own polling",
    f"{_CLIENTS}*TrainingClient*.model_id": "a property here, an attribute of the instance there",
    f"{_CLIENTS}*SamplingClient*.from_sampler_handle": _REFUSED,
} | {
    f"{_CLIENTS}{name}(*)": _REFUSED
    for name in (
        "RestClient.assign_session_project*",
        "RestClient.copy_weights*",
        "RestClient.delete_checkpoint*",
        "RestClient.export_session_trace*",
        "RestClient.get_audit_log*",
        "RestClient.get_billing_usage*",
        "RestClient.get_current_checkpoint_storage_usage*",
        "RestClient.get_external_weights_urls*",
        "RestClient.get_sampler*",
        "RestClient.list_sessions*",
        "RestClient.publish_checkpoint*",
        "RestClient.search_sessions*",
        "RestClient.set_checkpoint_ttl*",
        "RestClient.unpublish_checkpoint*",
        "RestClient.whoami",
        "SamplingClient.from_sampler_handle",
        "SamplingClient.get_sampler_handle",
        "ServiceClient.create_custom_loss",
        "ServiceClient.get_console_url",
        "TrainingClient.get_console_url",
        "TrainingClient.save_weights_external*",
    )
}

DIFFERENCES = LEFT_OUT | OF_TYPES | OF_NAMES | OF_FUTURES | OF_CLIENTS

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
