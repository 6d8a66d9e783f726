"""The whole deployment behind one `async with`: the control plane here, trainers and samplers in child processes."""

from loops_sdk.local.stack.local_stack import LocalStack

__all__ = ["LocalStack"]
