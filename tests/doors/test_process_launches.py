"""A daemon that is killed between the start of an app and its record."""

import io
import json
import os
import subprocess
from pathlib import Path
from sys import executable

from flyatc.observe.log import Log
from flyatc.process import proc
from flyatc.process.child_records import FOLDER
from flyatc.process.leftovers import end_leftovers

DAEMON = """
import os, subprocess, sys
from pathlib import Path
from flyatc.process.child_records import Records

environ = {**os.environ, "PORT": "20123", "WORD": "sm\\u00f6rg\\u00e5s"}
with Records(Path(sys.argv[1])).launching("u/t", environ, 20123):
    app = subprocess.Popen(["sleep", "600"], env=environ, start_new_session=True, stdout=subprocess.DEVNULL)
    print(app.pid, flush=True)
    sys.stdin.read()
"""


def killed_daemon(data: Path) -> int:
    """The pid of the app which it was about to put on record."""
    with subprocess.Popen(
        [executable, "-c", DAEMON, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        daemon.kill()
    return pid


async def test_an_unrecorded_app_is_found_by_its_environment_and_no_other_process_is(tmp_path: Path) -> None:
    log = Log(io.BytesIO())
    environ = {**os.environ, "PORT": "20124"}
    with subprocess.Popen(["sleep", "600"], env=environ, start_new_session=True) as bystander:
        try:
            pid = killed_daemon(tmp_path)
            assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["20123.launch"]
            await end_leftovers(tmp_path, log)
            found = proc.find(pid)
            assert found is None or found.ended
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert list((tmp_path / FOLDER).iterdir()) == []
    reported = [json.loads(entry[2]) for entry in log.journal.since(0)]
    assert [(line["msg"], line["tenant"]) for line in reported] == [("ended an app of an earlier run", "u/t")]
    log.close()


async def test_a_truncated_record_is_reported_and_removed(tmp_path: Path) -> None:
    log = Log(io.BytesIO())
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "20123.launch").write_bytes(b'{"boot": "')
    await end_leftovers(tmp_path, log)
    assert list(folder.iterdir()) == []
    assert len(log.journal.since(0)) == 1
    log.close()
