"""In a notebook: lines in the output of the cell that runs, replaced by the kernel and gone when the wait is over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import loops_sdk
from loops_sdk.instrumentation.progress.notebook import as_html
from loops_sdk.instrumentation.progress.waits import Line

SOURCE = Path(loops_sdk.__file__).parents[1]

#: Runs cells in a kernel, and prints what the kernel displays, as lines of JSON. A program of its own, whose warnings
#: are those of the libraries behind it.
FRONT_END = """
import json, sys
from jupyter_client import KernelManager

manager = KernelManager(kernel_name="python3")
manager.start_kernel()
client = manager.client()
client.start_channels()
try:
    client.wait_for_ready(timeout=60)
    for number, cell in enumerate(json.load(sys.stdin)):
        def tell(message):
            kind, content = message["msg_type"], message["content"]
            if kind in ("display_data", "update_display_data"):
                shown = content["data"].get("text/html")
                print(json.dumps([number, kind, content["transient"]["display_id"], shown]))
            elif kind in ("stream", "error"):
                print(json.dumps([number, kind, None, content.get("text") or content["traceback"]]))
        reply = client.execute_interactive(cell, output_hook=tell, timeout=60)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""
CELLS = [
    """
import threading
from loops_sdk.instrumentation import Call, OperationFinished
from loops_sdk.instrumentation.progress import display, notebook, progress_observer

drawn = threading.Semaphore(0)
show = notebook.Notebook._show

def shown(self, html):
    show(self, html)
    drawn.release()

notebook.Notebook._show = shown
notebook.Notebook.pause = 0.02
display.DELAY = 0.0
observer = progress_observer(None)
""",
    """
follower = observer.follow(Call("forward_backward", "http://t"))
for _ in range(3):
    drawn.acquire()
follower(OperationFinished("forward_backward", "op-1", 1.0))
print("after")
""",
    """
followers = [observer.follow(Call("sample", "http://s")) for _ in range(40)]
for _ in range(3):
    drawn.acquire()
""",
    """
observer.close()
""",
]


def test_lines_are_html_that_shows_whatever_is_said_as_text() -> None:
    html = as_html([Line("trainer <b>", 5.0, "a & b")], 0.0)
    assert html.startswith("<pre style=")
    assert "trainer &lt;b&gt;: a &amp; b" in html
    assert "class=" not in html


def test_a_real_kernel_shows_and_clears_them(tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    env = {**os.environ, **places, "PYTHONPATH": str(SOURCE), "CI": "", "LOOPS_PROGRESS": ""}
    command = [sys.executable, "-c", FRONT_END]
    done = subprocess.run(command, input=json.dumps(CELLS), env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one[3] for one in told if one[1] in ("stream", "error")] == ["after\n"]
    second = [one for one in told if one[0] == 1 and one[1] != "stream"]
    assert [one[1] for one in second] == ["display_data"] + ["update_display_data"] * (len(second) - 1)
    assert len({one[2] for one in second}) == 1  # one place in the cell, however often it is drawn
    assert all("forward_backward" in one[3] for one in second[:-1])
    assert second[-1][3] == ""  # and before the next line of the cell was run
    assert told.index(second[-1]) < told.index([1, "stream", None, "after\n"])
    third = [one for one in told if one[0] == 2]
    assert third[0][1] == "display_data"
    assert third[0][2] != second[0][2]
    assert "40 waiting" in third[0][3]
    assert (told[-1][0], told[-1][3]) == (3, "")


@pytest.mark.parametrize("count", [1, 50])
def test_many_lines_are_few(count: int) -> None:
    assert as_html([Line(f"run {number}", 5.0) for number in range(count)], 0.0).count("\n") <= 10
