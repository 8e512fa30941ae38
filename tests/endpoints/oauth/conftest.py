"""A browser and a client at an authority in memory."""

from __future__ import annotations

from typing import Any

import pytest

from .journeys import Browser, Relying, relying


@pytest.fixture
async def browser(desk: Any) -> Browser:
    await desk.user()
    return Browser(desk)


@pytest.fixture
async def signed_in(browser: Browser) -> Browser:
    await browser.login()
    await browser.desk.advance(1)
    return browser


@pytest.fixture
async def shop(desk: Any) -> Relying:
    return await relying(desk)
