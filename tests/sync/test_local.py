"""The embedded deployment beside blocking clients, also where an event loop is running, as in a notebook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loops_sdk_sync import AdamParams, Datum, DeploymentFailedError, ServiceClient
from loops_sdk_sync.local import LocalStack

from .conftest import MODEL

pytestmark = pytest.mark.usefixtures("doubles_can_be_imported")


@pytest.fixture
def stack() -> Iterator[LocalStack]:
    with LocalStack(MODEL, engine="double_engine") as stack:
        yield stack


def _train(stack: LocalStack) -> float:
    with ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:
        training = service.create_lora_training_client(MODEL, rank=2)
        training.forward_backward([Datum([1, 2], {"target_tokens": [2, 3]})]).result(timeout=30)
        return training.optim_step(AdamParams()).result(timeout=30).metrics["step"]


def test_in_a_script(stack: LocalStack) -> None:
    assert stack.env.keys() == {"LOOPS_BASE_URL", "BASETEN_API_KEY", "LOOPS_METRICS_DIR"}
    assert (stack.env["LOOPS_BASE_URL"], stack.env["BASETEN_API_KEY"]) == (stack.base_url, stack.api_key)
    assert stack.page_url == f"{stack.base_url}/#key={stack.api_key}"
    assert _train(stack) == 1


async def test_while_the_callers_own_loop_is_blocked(stack: LocalStack) -> None:
    assert _train(stack) == 1


def test_closing_twice_and_asking_afterwards(stack: LocalStack) -> None:
    stack.close()
    stack.close()
    with pytest.raises(DeploymentFailedError, match="not running"):
        _ = stack.base_url


def test_one_that_cannot_start_says_why() -> None:
    with pytest.raises(DeploymentFailedError, match="no_such_engine"):
        LocalStack(MODEL, engine="no_such_engine")
