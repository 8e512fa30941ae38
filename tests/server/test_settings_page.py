"""The page of settings names every one of them."""

from __future__ import annotations

from pathlib import Path

from keyfob.server.settings import SETTINGS

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md"


def test_every_setting_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in SETTINGS if f"`{name}`" not in text] == []
