"""litestream mode without the litestream program: said before the first client is refused."""

from whole.conftest import StartDaemon
from whole.daemon import config

LACKING = "storage.litestream: /none is not a program: name the litestream to use"


def test_the_log_and_flyatc_check_say_at_once_that_no_tenant_can_start(start: StartDaemon) -> None:
    text = config().replace("storage: {interval: 0}", "storage: {mode: litestream, litestream: /none}")
    daemon = start(text)
    assert daemon.until_reported("no tenant can start")["reason"] == LACKING
    checked = daemon.cli("check")
    assert checked.returncode == 0, "it may be installed later"
    assert f"warning   {LACKING}. No tenant can start until then" in checked.stdout
