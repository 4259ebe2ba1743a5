"""Chromium for the tests of the dashboard, driven by Debian's driver: a phone and a desktop, by touch or by keyboard,
with JavaScript or without.

It has no way to other machines: all but loopback goes through a proxy, at a port where nothing listens."""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from slowness import SLOWNESS
from whole.daemon import eventually

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "tests" / "screenshots"  # not in Git
AXE = ROOT / "tests" / "accessibility" / "node_modules" / "axe-core" / "axe.min.js"
PROGRAMS = ("/usr/lib/chromium/chromium", "/usr/bin/chromium")  # without the script that adds Debian's settings
SIZES = {"phone": (390, 844), "desktop": (1440, 900)}
THUMB = 44  # CSS pixels; the least height of what a thumb can press
QUIET = (  # no windows, no profile of earlier runs, no services of Google
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--disable-domain-reliability", "--disable-client-side-phishing-detection",
    "--disable-breakpad", "--metrics-recording-only", "--no-pings", "--password-store=basic", "--mute-audio",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,InterestFeedContentSuggestions",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How the browser is used. ``keyboard``: elements are reached by Tab only; ``scripts``: JavaScript is on."""

    size: str
    keyboard: bool = False
    scripts: bool = True

    def __str__(self) -> str:
        return self.size + "-keyboard" * self.keyboard + "-no-scripts" * (not self.scripts)


class Chromium:
    """One browser. ``origin``: what the addresses begin with."""

    def __init__(self, driver: Chrome, origin: str, downloads: Path) -> None:
        self.driver, self.origin, self.downloads = driver, origin, downloads
        downloads.mkdir()
        self._tell("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        self.way = Way("desktop")

    def become(self, way: Way) -> None:
        """Be another device, with no cookies. Takes effect with the next page."""
        self.way = way
        width, height = SIZES[way.size]
        phone = way.size == "phone"
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self._tell("Emulation.setDeviceMetricsOverride", metrics)
        self._tell("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        self._tell("Emulation.setScriptExecutionDisabled", {"value": not way.scripts})
        dark = {"name": "prefers-color-scheme", "value": "light" if phone else "dark"}
        self._tell("Emulation.setEmulatedMedia", {"features": [dark]})
        self._tell("Network.clearBrowserCookies", {})

    def _tell(self, command: str, parameters: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(command, parameters)

    def failure(self, address: str) -> str:
        """Return why an address cannot be opened."""
        try:
            self.driver.get(address)
        except WebDriverException as error:
            return str(error.msg)
        raise AssertionError(f"{address} could be opened")

    # --- what an operator does ---

    def open(self, path: str) -> None:
        self.driver.get(self.origin + path)

    def press(self, name: str, *, near: str = "") -> None:
        """Press the button, or follow the link, that has this name; by touch, or with Tab and Enter. ``near``: a text
        in the same entry of a list."""
        self._go_to("a[href], button, summary", name, near)
        if self.way.keyboard:
            self.keys(Keys.ENTER)

    def fill(self, label: str, text: str) -> None:
        """Replace the text of the field with this label."""
        self._go_to("input, textarea", label)
        self.driver.execute_script("document.activeElement.select()")
        self.keys(text)

    def append(self, label: str, text: str) -> None:
        """Write at the end of the field with this label."""
        self._go_to("textarea", label)
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys(Keys.END).key_up(Keys.CONTROL).perform()
        self.keys(text)

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def _go_to(self, *what: str) -> None:
        """Focus an element with Tab alone, or click it. A part of the page may be renewed meanwhile."""
        found = self.find(*what)
        if self.way.keyboard:
            return self._tab_to(*what)
        for _ in range(5):
            try:
                return found.click()
            except StaleElementReferenceException:
                found = self.find(*what)
        raise AssertionError(f"{what} is renewed all the time")

    def _tab_to(self, *what: str) -> None:
        """Fails if it cannot be reached, or if its focus cannot be seen."""
        for _ in range(MOST_TABS):
            self.keys(Keys.TAB)
            if self._ask("return find(...arguments) === document.activeElement", *what):
                break
        else:
            raise AssertionError(f"{what} is not reached with {MOST_TABS} Tabs")
        assert self._ask("return outlined(document.activeElement)"), f"the focus on {what} cannot be seen"

    # --- what an operator sees ---

    def find(self, selector: str, name: str, near: str = "") -> WebElement:
        """The first visible element of these with this name: its text, label or aria-label. Waits for it."""
        found = eventually(
            lambda: self._ask("return find(...arguments)", selector, name, near), 10, f"{name!r} in {self.text!r}"
        )
        assert isinstance(found, WebElement)
        return found

    def _ask(self, script: str, *arguments: str) -> Any:
        return self.driver.execute_script(FIND + script, *arguments)

    @property
    def text(self) -> str:
        """All text that can be seen."""
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.origin)

    def until(self, text: str, within: float = 10) -> str:
        """Wait until this text can be seen; return all text."""
        return str(eventually(lambda: text in (seen := self.text) and seen, within, f"{text!r} in {self.text!r}"))

    def downloaded(self, name: str) -> Path:
        """Wait for the file that a page has the browser keep; ``name``: its end."""

        def found() -> Path | None:
            return next((one for one in self.downloads.iterdir() if one.name.endswith(name)), None)

        try:
            return Path(eventually(found, 10, name))
        except AssertionError as error:
            there = [one.name for one in self.downloads.iterdir()]
            raise AssertionError(f"{error}; there are {there}, and the page has {self.text!r}") from None

    def screenshot(self, name: str) -> Path:
        """Keep a picture of what can be seen now."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}-{self.way}.png"
        assert self.driver.save_screenshot(str(path))
        return path

    # --- what a page must be ---

    def faults(self) -> list[str]:
        """Serious findings of axe; a page or a text that is too wide; targets that are too low for a thumb."""
        found = list(self.driver.execute_script(LAYOUT, THUMB if self.way.size == "phone" else 0))
        if not self.driver.execute_script("return 'axe' in window"):
            self.driver.execute_script(AXE.read_text())
        return found + list(self.driver.execute_async_script(RUN_AXE))

    @property
    def errors(self) -> list[str]:
        """Errors and warnings of the browser's console since the last look, as of a refused script; but not that a page
        itself came with a status such as 403."""
        lines = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        found = [f"{one['level']}: {one['message']}" for one in lines]
        return [one for one in found if STATUS.search(one) is None]


STATUS = re.compile(r"/_flyatc/[a-z/]* - Failed to load resource: the server responded with a status of 4")
MOST_TABS = 150
FIND = """
const plain = text => (text || '').replace(/\\s+/g, ' ').trim()
const seen = one => one.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})
const names = one => [plain(one.getAttribute('aria-label')), plain(one.innerText), plain(one.value),
                      ...[...(one.labels || [])].map(label => plain(label.innerText))]
const entry = one => one.closest('li, tr, section') || document.body
const find = (selector, name, near) => {
  const all = [...document.querySelectorAll(selector)]
    .filter(one => seen(one) && entry(one).innerText.includes(near || ''))
  return all.find(one => names(one).includes(name)) ||
    all.find(one => names(one).some(own => own.startsWith(name))) || null
}
const outlined = one => {
  const style = getComputedStyle(one)
  return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none'
}
"""
LAYOUT = """
const [thumb] = arguments, found = []
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth
if (wide > 0) found.push(`the page is ${wide} px wider than the screen`)
for (const one of document.querySelectorAll('a[href], button, summary, input:not([type=hidden]), select')) {
  const box = one.getBoundingClientRect()
  const prose = one.tagName === 'A' && getComputedStyle(one).display === 'inline'
  if (thumb && box.height && box.right > 0 && !prose && box.height < thumb - 0.5)
    found.push(`${one.outerHTML.slice(0, 100)} is ${box.height} px high`)
}
for (const one of document.querySelectorAll('.tiles > *, button, .button, .badge, dd'))
  if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline')
    found.push(`the text of ${one.outerHTML.slice(0, 100)} is wider than its box`)
return found
"""
RUN_AXE = """
const done = arguments[arguments.length - 1]
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
axe.run(document, {runOnly: tags, resultTypes: ['violations']}).then(
  found => done(found.violations.filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => `${one.id}: ${one.help}: ${one.nodes.map(node => node.html.slice(0, 120)).join(' | ')}`)),
  error => done([String(error)]))
"""


@contextlib.contextmanager
def chromium(origin: str) -> Iterator[Chromium]:
    """Start a browser with a profile of its own."""
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(socket.socket())
        nowhere.bind(("127.0.0.1", 0))  # reserved, and no one listens
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
        options = ChromeOptions()
        for one in (*QUIET, f"--proxy-server=127.0.0.1:{nowhere.getsockname()[1]}", f"--user-data-dir={profile}"):
            options.add_argument(one)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # root may not use it
        options.add_experimental_option("prefs", {"profile.default_content_setting_values.automatic_downloads": 1})
        options.set_capability("goog:loggingPrefs", {"browser": "WARNING"})
        driver = shutil.which("chromedriver")
        assert driver is not None
        options.binary_location = next(one for one in PROGRAMS if Path(one).exists())
        environment: dict[str, Any] = dict(os.environ) | {"SE_OFFLINE": "true", "HOME": profile}
        with Chrome(options, ChromeService(driver, log_output=f"{profile}/driver.log", env=environment)) as browser:
            browser.set_page_load_timeout(20 * SLOWNESS)
            browser.set_script_timeout(20 * SLOWNESS)
            yield Chromium(browser, origin, Path(profile) / "downloads")
