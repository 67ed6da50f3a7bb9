"""The message box: a text is sent once, and what is typed while it is sent stays."""

import json
import subprocess
from pathlib import Path

import deno


def test_text_typed_before_the_page_learns_of_the_clear_is_kept() -> None:
    script = Path(__file__).with_name("take_message.js")
    command = [deno.find_deno_bin(), "run", "--no-config", str(script)]
    results = json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
    assert results == [["One", "other"], ["", "other"], "Two", ["Two"], " and three", " and three", [" and three"], ""]
