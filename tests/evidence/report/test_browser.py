"""The page in a real browser: it asks nothing, its filter works by mouse and by keyboard, and it is readable in every form.

Chromium is looked for on the path. Where ``AXE_PATH`` names the file ``axe.min.js`` of axe-core, its rules are checked too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.evidence import verify
from engine.evidence.about import ABOUT_NAMES
from engine.evidence.bundle import read_bundle
from engine.evidence.report import packaged_page, report_page
from tests.evidence.report.browser import Browser, Tab, find_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed on this machine"),
]
WIDTHS = (400, 1000, 1600)
VISIBLE = "[...document.querySelectorAll('.item')].filter(item => item.offsetParent !== null).map(item => item.id)"
FOCUSED = """(() => { const at = document.activeElement, shown = at.matches('.pick') ? at.nextElementSibling : at;
  const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
  return {what: at.id || at.getAttribute('href') || at.getAttribute('aria-labelledby') || at.tagName, outline: style.outlineStyle,
          wide: parseFloat(style.outlineWidth), seen: box.width > 0 && box.left >= 0}; })()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    with Browser(find_browser() or "") as started:
        yield started


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    """The files of a run, of two categories and with two wrong answers."""
    about = (*ABOUT_NAMES, "manifest-sha256.txt", "verify.py")
    files = {name: data for name, data in read_bundle(folder).files.items() if name not in about}
    files["eval_set.jsonl"] = files["eval_set.jsonl"].replace(b'"addition"', b'"sums"', 2)
    files["predictions.jsonl"] = files["predictions.jsonl"].replace(b"Answer: 2", b"Answer: 7")
    return files


@pytest.fixture
def page(files: dict[str, bytes], tmp_path: Path) -> Path:
    """The page of these files."""
    path = tmp_path / "page.html"
    path.write_bytes(packaged_page(files))
    return path


@pytest.fixture
def live(folder: Path, tmp_path: Path) -> Path:
    """The page of ``runspec report``, of evidence that fails: it has every part that a page can have."""
    (folder / "eval_summary.json").write_text("{}")
    path = tmp_path / "live.html"
    path.write_bytes(report_page(read_bundle(folder), verify(folder)))
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_asks_nothing_and_complains_of_nothing(
    browser: Browser, page: Path, live: Path, width: int, dark: bool
) -> None:
    """No request but for itself, an empty console, and nothing that sticks out sideways, in light and in dark."""
    for path in (page, live):
        tab = browser.open(path, width=width, dark=dark)
        assert (tab.errors, tab.requests) == ([], [path.as_uri()])
        assert tab.value("document.documentElement.scrollWidth") <= width
        light = tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light is not dark


def test_the_filter_by_mouse(browser: Browser, page: Path) -> None:
    """Wrong, right, a category, both together; and a sentence where both leave nothing."""
    tab = browser.open(page)
    seen = {}
    for name, clicks in (("all", []), ("wrong", ["show-wrong"]), ("right", ["show-right"]), ("wrong of sums", ["show-wrong", "c-1"])):  # fmt: skip
        tab.value("['show-all', 'c-all'].forEach(id => document.querySelector(`label[for=${id}]`).click())")
        for id_ in clicks:
            tab.value(f"document.querySelector('label[for={id_}]').click()")
        seen[name] = tab.value(VISIBLE)
    assert seen == {"all": ["i1", "i2", "i3", "i4", "i5"], "wrong": ["i2", "i5"], "right": ["i1", "i3", "i4"],
                    "wrong of sums": ["i2"]}  # fmt: skip
    assert tab.value("document.querySelector('#none').offsetParent") is None


def test_a_choice_that_leaves_nothing_says_so(browser: Browser, files: dict[str, bytes], tmp_path: Path) -> None:
    """Wrong answers of a category that has none."""
    path = tmp_path / "page.html"
    path.write_bytes(packaged_page({**files, "predictions.jsonl": files["predictions.jsonl"].replace(b": 7", b": 2")}))
    tab = browser.open(path)
    tab.value("['show-wrong', 'c-1'].forEach(id => document.querySelector(`label[for=${id}]`).click())")
    assert tab.value(VISIBLE) == []
    assert tab.value("document.querySelector('#none').offsetParent !== null") is True


def _stops(tab: Tab) -> list[str]:
    """Every stop of the Tab key, each of them seen and outlined."""
    stops: list[str] = []
    for _ in range(60):
        tab.press("Tab")
        at = tab.value(FOCUSED)
        if at["what"] == "BODY":
            break
        assert (at["seen"], at["outline"], at["wide"] >= 2) == (True, "solid", True), at
        stops.append(at["what"])
    return stops


def test_the_keyboard_reaches_everything_in_order(browser: Browser, page: Path) -> None:
    """Skip link, parts, wrong answers, the filter (one stop a group), tables that may scroll, the run-spec; each with a focus to see."""
    stops = _stops(browser.open(page))
    parts = [
        f"#{part}" for part in ("vouch", "wrong", "curves", "groups", "items", "checks", "run", "environment", "files")
    ]
    assert stops[:10] == ["#result", *parts]
    assert stops[10:13] == ["h-wrong", "#i2", "#i5"]
    assert [stop for stop in stops if stop in ("show-all", "c-all")] == ["show-all", "c-all"]
    assert stops.index("c-all") < stops.index("h-checks") < stops.index("SUMMARY") < stops.index("h-files")


def test_the_filter_by_keyboard(browser: Browser, page: Path) -> None:
    """Arrow keys choose within a group, as in every browser; a link of a wrong answer leads to its item."""
    tab = browser.open(page)
    while tab.value("document.activeElement.id") != "show-all":
        tab.press("Tab")
    tab.press("ArrowRight")
    assert tab.value(VISIBLE) == ["i2", "i5"]
    tab.press("Tab")
    tab.press("ArrowDown")
    assert tab.value("document.activeElement.id") == "c-0"
    assert tab.value(VISIBLE) == ["i5"]
    tab.value("document.querySelector('a[href=\"#i5\"]').focus()")
    tab.press("Enter")
    assert tab.value("document.querySelector(':target').id") == "i5"


def test_it_prints(browser: Browser, page: Path) -> None:
    """On white, without what only a screen can use, with every item."""
    tab = browser.open(page, media="print", dark=True)
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        tab.value("['nav', '.filter', '.pick + label'].map(name => document.querySelector(name).offsetParent)")
        == [None] * 3
    )
    assert len(tab.value(VISIBLE)) == 5
    assert tab.pdf().startswith(b"%PDF-")


def test_thousands_of_items_are_filtered_at_once(browser: Browser, files: dict[str, bytes], tmp_path: Path) -> None:
    """The work of one click grows with the items, and not with their square: that would take a minute here."""
    many = dict(files)
    for name in ("eval_set.jsonl", "predictions.jsonl"):
        rows = [json.loads(line) for line in files[name].splitlines()]
        copies = [{**row, "id": f"{row['id']}-{n}", **({"prompt": f"{n} {row['prompt']}"} if "prompt" in row else {})}
                  for n in range(1000) for row in rows]  # fmt: skip
        many[name] = b"".join(json.dumps(row).encode() + b"\n" for row in copies)
    path = tmp_path / "page.html"
    path.write_bytes(packaged_page(many))
    tab = browser.open(path)
    tab.ask("Performance.enable")
    before = _work(tab)
    tab.value("document.querySelector('label[for=show-wrong]').click()")
    assert len(tab.value(VISIBLE)) == 2000
    assert _work(tab) - before < 5.0


def _work(tab: Tab) -> float:
    """Seconds that the page's own thread has worked."""
    return float(next(m["value"] for m in tab.ask("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"))


# Contrast that axe cannot tell (in a drawing, in a table that scrolls) is no finding: test_page computes it from the colours.
AXE = """axe.run().then(said => [...said.violations, ...said.incomplete.filter(one => one.id !== 'color-contrast')]
  .map(one => [one.id, one.nodes.map(node => node.html).slice(0, 3)]))"""


@pytest.mark.skipif("AXE_PATH" not in os.environ, reason="AXE_PATH does not name axe-core's axe.min.js")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1000])
def test_axe_finds_nothing(browser: Browser, page: Path, live: Path, width: int, dark: bool) -> None:
    """Contrast, landmarks, names, order of headings, tables: no violation, and nothing else left undecided."""
    rules = Path(os.environ["AXE_PATH"]).read_text(encoding="utf-8")
    for path in (page, live):
        tab = browser.open(path, width=width, dark=dark)
        tab.value(
            f"{rules}; document.querySelectorAll('.item').forEach(item => item.style.contentVisibility = 'visible')"
        )
        assert tab.value(AXE) == []
