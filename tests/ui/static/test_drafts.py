"""The drafts of chats that are not shown, over a reload, in Deno."""

import json
import subprocess
from pathlib import Path

import deno


def test_drafts_of_other_chats_outlive_a_reload_and_no_logout() -> None:
    script = Path(__file__).with_name("drafts.js")
    command = [deno.find_deno_bin(), "run", "--no-config", str(script)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == {
        "reloaded": [
            ["a", {"typed": "And of", "attached": []}],
            ["b", {"typed": " ", "attached": [{"name": "x.md", "text": "y"}]}],
        ],
        "emptied": [],
        "loggedOut": [],
    }
