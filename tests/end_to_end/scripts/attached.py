"""A user's script beside servers that run already: no control plane, addresses by hand, everything awaited."""

import argparse
import asyncio

from baseten.loops import AdamParams, Datum, SamplingParams, TrainingClient
from baseten.loops.helpers.datum import datum_from_tokens
from baseten.loops.sampling_client import LocalDeployment, SamplingClient

parser = argparse.ArgumentParser()
parser.add_argument("--trainer-url", required=True)
parser.add_argument("--sampler-url", required=True)
parser.add_argument("--base-model", required=True)
parser.add_argument("--run-id", required=True)
args = parser.parse_args()


async def train(training_client: TrainingClient, data: list[Datum]) -> None:
    before = await training_client.forward_async(data, loss_fn="cross_entropy")
    print("before", (await before.result_async()).loss)
    for step in range(3):
        await training_client.forward_backward_async(data, loss_fn="cross_entropy")
        future = await training_client.optim_step_async(AdamParams(learning_rate=1e-2))
        print("step", step, (await future.result_async(timeout=600.0)).metrics["grad_norm"])
    after = await (await training_client.forward_async(data)).result_async()
    print("after", after.loss, after.loss_fn_outputs[0]["logprobs"].to_torch().shape[0])


async def main() -> None:
    deployment = LocalDeployment(base_url=args.sampler_url)
    training_client = TrainingClient(
        args.trainer_url,
        lora_rank=4,
        base_model=args.base_model,
        timeout=600.0,
        ready_timeout=600.0,
        run_id=args.run_id,
        paired_sampling_deployment=deployment,
    )
    tokenizer = training_client.get_tokenizer()
    tokens = tokenizer.encode("The ferry to Pebble Island leaves every hour.")
    await train(training_client, [datum_from_tokens(tokens)])

    sampling_client = await training_client.save_weights_and_get_sampling_client_async(name="step-1")
    params = SamplingParams(max_tokens=6, temperature=0.0)
    result = await sampling_client.sample_async(tokens[:4], sampling_params=params)
    print("sampled", len(result.sequences[0].tokens), "policy version", result.policy_version)
    with SamplingClient(base_model=args.base_model, deployment=deployment) as follower:
        print("newest", follower.sample(tokens[:4], sampling_params=params).policy_version)
    await training_client.aclose()


asyncio.run(main())
