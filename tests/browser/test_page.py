"""The local page in a browser, over deployments that train while it looks."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from playwright.async_api import Page, expect

from loops_sdk import AdamParams, Datum, ServiceClient, TrainingClient
from loops_sdk.local import LocalStack
from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.serving import Server
from loops_sdk.local.storage import RunRecord, Storage

from ..local.doubles.double_launcher import Launcher

KEY = "the-key"
Shoot = Callable[[str], Awaitable[None]]
SENTENCES = [
    "The ferry to Pebble Island leaves every hour.",
    "Ahoy! One night in the blue cabin costs ten coins.",
    "The lighthouse is open until sunset, and tea is served on the stairs.",
]


@asynccontextmanager
async def running(training: TrainingClient, steps: int = 10**6) -> AsyncIterator[None]:
    """Training goes on for the length of the block, or for so many steps."""
    task = asyncio.create_task(train(training, steps))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def train(training: TrainingClient, steps: int) -> None:
    tokenizer = await training.get_tokenizer_async()
    texts = [tokenizer.encode(sentence) for sentence in SENTENCES]
    data = [Datum(tokens[:-1], {"target_tokens": tokens[1:]}) for tokens in texts]
    for _ in range(steps):
        passed = await training.forward_backward_async(data)
        stepped = await training.optim_step_async(AdamParams(learning_rate=2e-3))
        loss = (await passed).loss / sum(len(tokens) - 1 for tokens in texts)
        training.log_metrics({"perplexity": math.exp(loss)})
        version = int((await stepped).metrics["step"])
        if version % 10 == 0:
            await (await training.save_weights_for_sampler_async(f"step-{version}"))


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    async with LocalStack(data_dir=tmp_path / "data") as stack:
        yield stack


@pytest.fixture
async def service(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServiceClient]:
    """As the lines that `loops serve` prints make it, with metrics."""
    monkeypatch.setenv("LOOPS_METRICS_DIR", stack.env["LOOPS_METRICS_DIR"])
    async with ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:
        yield service


async def points(page: Page, curve: str) -> int:
    line = await page.locator(f'[data-curve="{curve}"] polyline').get_attribute("points")
    return len((line or "").split())


async def test_a_run_grows_before_ones_eyes(
    stack: LocalStack, service: ServiceClient, page: Page, shoot: Shoot
) -> None:
    first = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=1)
    training = await service.create_lora_training_client_async("loops/tiny", rank=16, seed=2)
    await train(first, 3)
    await train(training, 21)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("#")[0]))  # what goes into a request line
    async with running(training):
        await page.goto(stack.page_url)
        row = page.locator(f'tr[data-run="{training.run_id}"]')
        await expect(row).to_contain_text("running")
        assert "key" not in page.url  # taken out of the address, kept in the tab
        await page.set_viewport_size({"width": 1280, "height": 420})
        await shoot("page-runs")
        await page.set_viewport_size({"width": 1280, "height": 900})

        await row.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text(str(training.run_id))
        await expect(page.locator('[data-curve="loss"]')).to_be_visible()
        before = await points(page, "loss")
        line = page.locator('[data-curve="loss"] polyline')
        while await points(page, "loss") < before + 4:
            await expect(line).not_to_have_attribute("points", str(await line.get_attribute("points")), timeout=30_000)
        for curve in ("grad_norm", "perplexity"):  # what the trainer tells, and what the script does
            await expect(page.locator(f'[data-curve="{curve}"] .latest')).not_to_be_empty()
        await expect(page.locator('tr[data-state="done"]').first).to_contain_text("policy version")
        assert await page.locator(".strip .bar.pass").count() > 5
        await page.locator('[data-curve="loss"] svg').hover()
        await expect(page.locator('[data-curve="loss"] .latest')).to_contain_text(re.compile(r"at step \d+"))
    await page.reload()  # the key is still in the tab
    await expect(page.locator(".checkpoints li").first).to_contain_text("weights for sampling")
    await sample(page)
    await shoot("page-run")
    assert not [url for url in asked if stack.api_key in url]
    await page.set_viewport_size({"width": 390, "height": 800})
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390  # nothing to scroll sideways


async def sample(page: Page) -> None:
    """From a checkpoint, in plain text; then as a chat; then from the base model."""
    await page.locator(".checkpoints button").last.click()
    await expect(page.get_by_label("Weights", exact=True)).to_have_value(
        re.compile(r"bt://loops:.*/sampler_weights/step-10")
    )
    await page.get_by_label("Prompt", exact=True).fill("The ferry to")
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Most tokens").fill("24")
    await page.get_by_role("button", name="Sample", exact=True).click()
    newest = page.locator(".log li").first
    await expect(newest).to_contain_text("answered by policy version 10", timeout=60_000)
    await page.get_by_label("chat").check()
    await page.get_by_label("Weights", exact=True).select_option("base")
    await page.get_by_label("Prompt", exact=True).fill("What does one night cost?")
    await page.get_by_label("Prompt", exact=True).press("Control+Enter")
    await expect(page.locator(".log li")).to_have_count(2, timeout=60_000)
    await expect(newest).to_contain_text("answered by policy version 0")


async def test_a_sampler_is_started_for_a_run_without_one(
    stack: LocalStack, service: ServiceClient, page: Page
) -> None:
    training = await service.create_lora_training_client_async("loops/tiny", rank=8)
    await train(training, 1)
    await (await training.save_state_async("only"))
    await page.goto(f"{stack.page_url}&run={training.run_id}")
    await page.get_by_role("button", name="Sample from only").click()
    await page.get_by_label("Prompt", exact=True).fill("The ferry")
    await page.get_by_role("button", name="Sample", exact=True).click()
    await expect(page.locator(".log li").first).to_contain_text("answered by policy version 1", timeout=90_000)


async def test_a_deployment_that_goes_away_and_comes_back(tmp_path: Path, page: Page) -> None:
    stack = LocalStack(data_dir=tmp_path / "data")
    async with stack, ServiceClient(base_url=stack.base_url, api_key=stack.api_key) as service:
        training = await service.create_lora_training_client_async("loops/tiny", rank=8)
        await train(training, 3)
        port = int(stack.base_url.rpartition(":")[2])
        await page.goto(f"{stack.page_url}&run={training.run_id}")
        await expect(page.locator('[data-curve="loss"]')).to_be_visible()
    await expect(page.locator("#banner")).to_contain_text("does not answer")
    await expect(page.locator("#live")).to_have_text("not answering")
    assert await points(page, "loss") == 3  # what was known stays
    async with LocalStack(data_dir=tmp_path / "data", port=port):
        await expect(page.locator("#live")).to_have_text("live", timeout=30_000)
        await expect(page.locator("#banner")).not_to_contain_text("does not answer")
        assert await points(page, "loss") == 3


# ---------------------------------------------------------------- a control plane that starts nothing is enough


@attrs.frozen
class Bare:
    url: str
    storage: Storage

    @property
    def page_url(self) -> str:
        return f"{self.url}/#key={KEY}"


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Bare]:
    storage = Storage.create(tmp_path)
    server = Server(ControlPlane(storage, Launcher(), api_key=KEY).app)
    await server.start()
    yield Bare(f"http://127.0.0.1:{server.port}", storage)
    await server.aclose()


async def test_what_users_and_models_write_is_text(bare: Bare, page: Page) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    bare.storage.write_run(RunRecord("run7", "session", hostile, "double/model", datetime.now(UTC), lora_rank=4))
    failed = {"id": "a", "operation": "forward", "finished_at": 1.0, "error": hostile}
    bare.storage.history("run7").write_text(json.dumps(failed) + "\n")
    (bare.storage.root / "metrics").mkdir()
    (bare.storage.root / "metrics" / "run7.jsonl").write_text(json.dumps({"step": 1, hostile: 0.5}) + "\n")
    await page.goto(bare.page_url)
    await expect(page.locator('tr[data-run="run7"]')).to_contain_text(hostile)
    await page.locator('tr[data-run="run7"] a').click()
    for where in ("h1", ".operations .result", ".chart figcaption"):
        await expect(page.locator(where)).to_contain_text(hostile)
    answer = {"state": "done", "text": hostile, "policy_version": 1, "completion_tokens": 1, "finish_reason": "stop"}
    await page.route("**/sample", lambda route: route.fulfill(json=answer))
    await page.get_by_label("Prompt", exact=True).fill(hostile)
    await page.get_by_role("button", name="Sample", exact=True).click()
    await expect(page.locator(".log .answer")).to_have_text(hostile)
    assert await page.locator("main img, main script").count() == 0
    assert await page.title() == "Run run7 | Loops"


async def test_a_wrong_key_and_none(bare: Bare, page: Page) -> None:
    await page.goto(bare.url)
    await expect(page.get_by_role("heading", level=1)).to_contain_text("needs the deployment's key")
    await page.get_by_label("Key").fill("another")
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("status").first).to_contain_text("The key is wrong")
    await page.get_by_label("Key").fill(KEY)
    await page.get_by_role("button", name="Open").click()
    await expect(page.locator("main")).to_contain_text("No run yet")
    await expect(page.locator("#live")).to_have_text("live")


async def test_a_run_that_there_is_not(bare: Bare, page: Page) -> None:
    await page.goto(f"{bare.page_url}&run=nosuchrun")
    await expect(page.locator("#banner")).to_contain_text("there is no run 'nosuchrun'")


async def test_a_hidden_page_asks_nothing(bare: Bare, page: Page) -> None:
    await page.goto(bare.page_url)
    await expect(page.locator("#live")).to_have_text("live")
    hide = """(hidden) => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    await page.evaluate(hide, True)
    await expect(page.locator("#live")).to_have_text("paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.evaluate("new Promise((done) => setTimeout(done, 3500))")  # two rounds that do not come
    assert asked == []
    await page.evaluate(hide, False)
    await expect(page.locator("#live")).to_have_text("live")
    assert asked
