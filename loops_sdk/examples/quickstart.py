"""The service's quickstart: one training step, a checkpoint for the sampler, a completion from it.

    loops examples run quickstart              # on a laptop, without an account
    loops examples run --service quickstart    # on the service, with BASETEN_API_KEY

Look at how a prompt and its answer become a `Datum`: targets are the tokens shifted by one, and -100 keeps the prompt
out of the loss. All other examples let `Renderer` do that.
"""

import os

from loops_sdk_sync import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient, TensorData

base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")

service_client = ServiceClient()
training_client = service_client.create_lora_training_client(base_model, rank=16)
print("session_id:", service_client.session_id)
print("run_id:", training_client.run_id)

tokenizer = training_client.get_tokenizer()
question = [{"role": "user", "content": "What is the capital of France?"}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
answer = tokenizer.encode("Paris.", add_special_tokens=False)
tokens = prompt + answer

# Position i is trained to say token i + 1; -100 keeps the prompt out of the loss.
targets = [-100] * (len(prompt) - 1) + answer
datum = Datum(
    model_input=ModelInput.from_ints(tokens[:-1]),
    loss_fn_inputs={"target_tokens": TensorData(data=targets, dtype="int64", shape=[len(targets)])},
)

fb = training_client.forward_backward(data=[datum]).result(timeout=600.0)
print("loss:", fb.loss)
training_client.optim_step(AdamParams(learning_rate=4e-5)).result(timeout=600.0)

save_resp = training_client.save_weights_for_sampler(name="step-1").result(timeout=600.0)
print("saved:", save_resp.path)

sampling_client = training_client.create_sampling_client(model_path=save_resp.path)
result = sampling_client.sample(ModelInput.from_ints(prompt), sampling_params=SamplingParams(max_tokens=8))
print("completion:", repr(tokenizer.decode(result.sequences[0].tokens)))

for checkpoint in training_client.list_checkpoints():
    print("id:", checkpoint.id)
    print("checkpoint_id:", checkpoint.checkpoint_id)
    print("created_at:", checkpoint.created_at)

service_client.close()
