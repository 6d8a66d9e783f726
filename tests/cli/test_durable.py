"""--no-durable reaches the deployment; without it runs survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loops_sdk.cli import deployment, loops


class Asked(Exception):
    """In place of a deployment: what it was asked for."""


@pytest.mark.parametrize(("given", "durable"), [([], True), (["--durable"], True), (["--no-durable"], False)])
@pytest.mark.parametrize("command", ["serve", "run"])
def test_the_option_reaches_the_deployment(
    command: str, given: list[str], durable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stack(base_model: str, **options: Any) -> None:
        raise Asked(options["durable"])

    monkeypatch.setattr(deployment, "LocalStack", stack)
    (script := tmp_path / "script.py").touch()
    result = CliRunner().invoke(loops, [command, *given, *([str(script)] if command == "run" else [])])
    assert isinstance(result.exception, Asked)
    assert result.exception.args == (durable,)
