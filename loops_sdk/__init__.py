"""loops_sdk: train LoRA adapters of large language models by remote calls, from asyncio code."""
