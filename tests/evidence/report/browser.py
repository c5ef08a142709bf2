"""Chromium without a window, driven through its DevTools protocol over a pipe: nothing but the standard library.

In: a page on this disk. Out: what the browser says of it: errors of the console, requests, computed values, pictures. The
browser has a profile of its own, which goes away with it, and is told to speak to nobody.

    with Browser(find_browser()) as browser:
        tab = browser.open(page)
        tab.value("document.title"), tab.errors, tab.requests

Messages are JSON objects that end with a NUL byte; the browser reads them on descriptor 3 and writes on 4
(https://chromedevtools.github.io/devtools-protocol, ``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_SECONDS = 60.0
# descriptors 3 and 4 are what the browser expects; a shell moves them there, since Python numbers its own
_SHELL = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "ArrowUp": 38}


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One process; :meth:`open` opens a tab in it."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="runspec-browser-")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", _SHELL, "bash", str(theirs_in), str(theirs_out), program, *FLAGS,
             f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self._profile},
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number = b"", 0
        self.tabs: dict[str, Tab] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(
        self, page: Path, *, width: int = 1000, height: int = 800, dark: bool = False, media: str = "screen"
    ) -> Tab:
        """A new tab with this page, loaded."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self.tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.ask(f"{domain}.enable")
        tab.look(width=width, height=height, dark=dark, media=media)
        tab.load(page)
        return tab

    def ask(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Send one command and wait for its answer; events that come before are given to their tabs."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            said = self.next_message()
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                result: dict[str, Any] = said["result"]
                return result

    def next_message(self) -> dict[str, Any]:
        """The next answer or event."""
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], ANSWER_SECONDS)[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise RuntimeError(f"the browser ended with {self._process.wait()}")
            self._rest += data
        first, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        if "method" in message and message.get("sessionId") in self.tabs:
            self.tabs[message["sessionId"]].note(message["method"], message["params"])
        return message


class Tab:
    """``errors``: what the console, the page's policy and the log say. ``requests``: every address that was asked for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, params, self._session)

    def note(self, method: str, params: dict[str, Any]) -> None:
        """An event."""
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.errors.append(params["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.errors.append(json.dumps(params)[:500])

    def load(self, page: Path) -> float:
        """Seconds until the page is loaded and its first frame is drawn."""
        self._loaded, start = False, time.monotonic()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._browser.next_message()
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return time.monotonic() - start

    def look(self, *, width: int = 1000, height: int = 800, dark: bool = False, media: str = "screen") -> None:
        """As a window of this size, in light or dark, on the screen or in print."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, a promise's value included."""
        said = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise RuntimeError(json.dumps(said["exceptionDetails"])[:500])
        return said["result"].get("value")

    def press(self, key: str) -> None:
        """One key, as a person presses it."""
        code = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": " "} if key == " " else {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def picture(self, *, full: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"])

    def pdf(self) -> bytes:
        """The page as it prints, on A4."""
        said = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(said["data"])
