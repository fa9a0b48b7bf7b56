"""Pages that are read back: every element closed, texts and attributes kept."""

from html.parser import HTMLParser
from pathlib import Path

from vitpareto.search.report.facts import gather
from vitpareto.search.report.page import page
from vitpareto.search.store.run_folder import RunFolder

VOID = ("meta", "link", "br", "img")


class Sound(HTMLParser):
    """Checks that every element is closed where it must be; keeps texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.tips: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.links += [v for k, v in found.items() if k in ("src", "href") and v]
        self.tips += [found["data-tip"]] if found.get("data-tip") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(page: str) -> Sound:
    sound = Sound()
    sound.feed(page)
    assert sound.open == []
    return sound


def rebuilt(run: Path) -> Sound:
    return parsed(page(gather(RunFolder(run, lock=False))))
