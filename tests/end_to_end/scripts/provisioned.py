"""A user's script for the service: a trainer by `ServiceClient()`, a few steps, a sample, its checkpoints."""

import os

from baseten.loops import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient, TensorData
from baseten.loops.models import EncodedTextChunk

base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
assert os.environ["BASETEN_API_KEY"], "export BASETEN_API_KEY first"

service_client = ServiceClient()
training_client = service_client.create_lora_training_client(
    base_model=base_model, rank=8, seed=0, replicas=1, ready_timeout=1800.0
)
print("session", service_client.session_id)
print("run", training_client.run_id)

tokenizer = training_client.get_tokenizer()
prompt = tokenizer.encode("When does the ferry leave?")
answer = tokenizer.encode(" Every hour, on the hour.")
tokens = prompt + answer
targets = [-100] * (len(prompt) - 1) + answer
example = Datum(
    model_input=ModelInput(chunks=[EncodedTextChunk(tokens=tokens[:-1])]),
    loss_fn_inputs={"target_tokens": TensorData(data=targets, dtype="int64", shape=[len(targets)])},
)
example = Datum.model_validate(example.model_dump())

for _ in range(12):
    fwd_bwd = training_client.forward_backward(data=[example])
    step = training_client.optim_step(AdamParams(learning_rate=5e-3))
    result = fwd_bwd.result(timeout=600.0)
    metrics = getattr(step.result(timeout=600.0), "metrics", None) or {}
    assert len(result.loss_fn_outputs[0]["logprobs"].tolist()) == len(targets)
    print("step", int(metrics["step"]), "loss", result.loss)

saved = training_client.save_weights_for_sampler(name="step-12").result(timeout=600.0)
print("saved", saved.model_dump()["path"])
sampling_client = training_client.create_sampling_client(model_path=saved.path)
sample = sampling_client.sample(
    prompt=ModelInput.from_ints(prompt), sampling_params=SamplingParams(max_tokens=8, temperature=0.0)
)
print("completion", tokenizer.decode(sample.sequences[0].tokens))
for checkpoint in training_client.list_checkpoints():
    print("checkpoint", checkpoint.checkpoint_id)
