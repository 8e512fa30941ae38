"""A page in real Chromium, with several tabs, in front of a real `keyfob serve`: nobody is logged out who should not be, and everybody who should."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

PASSWORD = "seventeen green llamas"
REPLAY_WINDOW = 6.0  # seconds, as in the conftest.py above
WITHOUT_LOCKS = "Object.defineProperty(navigator, 'locks', { value: undefined });"
WITHOUT_MESSAGES = "delete window.BroadcastChannel;"
IMPATIENT = "window.timeout = 1000;"
AN_HOUR_LATER = "Date.now = ((now) => () => now() + 3600e3)(Date.now.bind(Date));"
STATUS = "keyfob.fetch('/session').then((answer) => answer.status)"
ROLES = "keyfob.fetch('/session').then((answer) => answer.json()).then((session) => session.roles.join())"


@pytest.fixture
def user(authority: Any) -> str:
    return authority.add_user()


@pytest.fixture
def signed_in(browser: Any, user: str) -> Callable[..., Awaitable[list[Any]]]:
    """Open tabs, sign in in the first of them, and resume in the others."""

    async def open_tabs(count: int = 1, *, before: str = "") -> list[Any]:
        tabs = [await browser.tab(before=before) for _ in range(count)]
        if before == IMPATIENT:  # which a login on a busy machine does not bear
            assert await (await browser.tab()).run(login(user)) == 30
        else:
            assert await tabs[0].run(login(user)) == 30
        for tab in tabs:
            assert await tab.run("keyfob.resume().then((session) => session.subject.length)") == 30
        return tabs

    return open_tabs


def login(name: str) -> str:
    return f"keyfob.login({{ username: '{name}', password: '{PASSWORD}' }}).then((session) => session.subject.length)"


def set_roles(authority: Any, user: str, *roles: str) -> None:
    """Change the roles, so that every access token that the user has is stale, and a refresh is needed now."""
    authority.ask("PUT", f"/admin/api/users/{user}/roles", {"roles": list(roles)})


async def cookie_becomes(browser: Any, value: str | None) -> None:
    async with asyncio.timeout(20):
        while await browser.cookie() != value:
            await asyncio.sleep(0.005)


async def all_of(tabs: list[Any], script: str) -> list[Any]:
    return await asyncio.gather(*(tab.run(script) for tab in tabs))


# Without locks tabs have to hear of each other in time, which a machine that is busy enough prevents: then two ask.
@pytest.mark.parametrize(
    ("before", "most"), [("", 1), (WITHOUT_LOCKS, 2)], ids=["with locks", "without locks"]
)
async def test_tabs_that_need_a_refresh_at_once_make_one(
    signed_in, site, authority, user, before, most
) -> None:
    tabs = await signed_in(4, before=before)
    refreshes = site.count("/refresh")
    set_roles(authority, user, "buyer")
    assert await all_of(tabs, ROLES) == ["buyer"] * 4
    assert 1 <= site.count("/refresh") - refreshes <= most
    assert await all_of(tabs, "told.join()") == [""] * 4


@pytest.mark.parametrize(
    "before", [WITHOUT_MESSAGES, WITHOUT_LOCKS + WITHOUT_MESSAGES], ids=["locks alone", "neither"]
)
async def test_tabs_that_cannot_talk_log_nobody_out(signed_in, site, authority, user, before) -> None:
    tabs = await signed_in(2, before=before)
    for roles in ("buyer", "payer"):
        set_roles(authority, user, roles)
        assert await all_of(tabs, ROLES) == [roles] * 2
    assert await all_of(tabs, "told.join()") == [""] * 2
    assert {status for path, status in site.seen if path == "/refresh"} == {200}


async def test_roles_that_change_cost_one_refresh_and_no_login(signed_in, site, authority, user) -> None:
    (tab,) = await signed_in()
    assert await tab.run(ROLES) == ""
    set_roles(authority, user, "buyer")
    site.seen.clear()
    assert await tab.run(ROLES) == "buyer"
    assert site.seen == [("/session", 401), ("/refresh", 200), ("/session", 200)]


async def test_a_request_with_a_body_is_repeated_with_it(signed_in, site, authority, user) -> None:
    (tab,) = await signed_in()
    set_roles(authority, user, "buyer")
    site.seen.clear()
    change = f"""keyfob.fetch('/password', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }},
        body: JSON.stringify({{ current: 'wrong', new: '{PASSWORD} too' }}) }}).then((answer) => answer.json()).then(({{ code }}) => code)"""
    assert await tab.run(change) == "bad_credentials"
    assert site.seen == [("/password", 401), ("/refresh", 200), ("/password", 401)]


async def test_a_lost_answer_is_found_again_by_asking_again(
    signed_in, site, browser, authority, user
) -> None:
    (tab,) = await signed_in()
    site.refresh_cookies.clear()
    set_roles(authority, user, "buyer")
    site.lose("/refresh")
    assert await tab.run(ROLES) == "buyer"
    lost, found = site.refresh_cookies
    assert lost == found == await browser.cookie()
    assert await tab.run("told.join()") == ""


async def test_a_tab_that_is_closed_during_a_refresh_loses_nothing(
    signed_in, site, browser, authority, user
) -> None:
    (closed,) = await signed_in()
    before = await browser.cookie()
    set_roles(authority, user, "buyer")
    held = site.hold("/refresh")
    asking = asyncio.create_task(closed.send("Runtime.evaluate", expression="void keyfob.fetch('/session')"))
    await asyncio.wait_for(held.came.wait(), 20)
    await closed.close()
    held.let_go()
    asking.cancel()
    async with asyncio.timeout(20):
        while await browser.cookie() == before:
            await asyncio.sleep(0.01)
    assert await browser.cookie() == site.refresh_cookies[-1]
    other = await browser.tab()
    assert await other.run(f"keyfob.resume().then(() => {ROLES})") == "buyer"


async def test_a_laptop_that_slept_wakes_up_with_a_fresh_token(signed_in, site, browser) -> None:
    (tab,) = await signed_in()
    await (await browser.tab()).come_forward()
    await tab.freeze()
    refreshes = site.count("/refresh")
    # The wall clock went on, timers did not.
    await tab.run(AN_HOUR_LATER)
    assert site.count("/refresh") == refreshes
    await tab.thaw()
    await tab.come_forward()
    async with asyncio.timeout(20):
        while site.count("/refresh") == refreshes:
            await asyncio.sleep(0.01)
    assert await tab.run(STATUS) == 200
    assert site.count("/refresh") == refreshes + 1


async def test_a_request_after_a_sleep_does_not_send_the_old_token(signed_in, site) -> None:
    (tab,) = await signed_in()
    await tab.run(AN_HOUR_LATER)
    site.seen.clear()
    assert await tab.run(STATUS) == 200
    assert site.seen == [("/refresh", 200), ("/session", 200)]


async def test_a_tab_that_slept_through_a_sign_out_knows_when_it_wakes(signed_in) -> None:
    asleep, awake = await signed_in(2)
    await asleep.freeze()
    await awake.run("keyfob.logout()")
    await asleep.thaw()
    await asleep.until("told.join() === 'logout' && keyfob.session === null")


async def test_a_late_answer_after_a_newer_cookie_is_repaired(
    signed_in, site, browser, authority, user
) -> None:
    sleeper, worker = await signed_in(2, before=IMPATIENT)
    # One answer is given up by its tab, and asked for again.
    set_roles(authority, user, "one")
    given_up = site.hold("/refresh")
    assert await worker.run(ROLES) == "one"
    # One tab goes to sleep while its refresh is on the way; the other waits for its turn no longer than it has patience.
    set_roles(authority, user, "two")
    late = site.hold("/refresh")
    await sleeper.run("void keyfob.fetch('/session').then(() => told.push('answered'), String)")
    await asyncio.wait_for(late.came.wait(), 20)
    await sleeper.freeze()
    assert await worker.run(ROLES) == "two"
    older = await browser.cookie()
    await asyncio.sleep(REPLAY_WINDOW + 0.1)  # the server gives no other token before
    set_roles(authority, user, "three")
    assert await worker.run(ROLES) == "three"
    newer = await browser.cookie()
    assert newer != older
    # Now both come. The first is nobody's any more; the second brings the older cookie.
    given_up.let_go()
    assert await worker.run(STATUS) == 200
    assert await browser.cookie() == newer
    late.let_go()
    await cookie_becomes(browser, older)
    await sleeper.thaw()
    await cookie_becomes(browser, newer)
    await sleeper.until("told.length > 0")
    assert await all_of([sleeper, worker], ROLES) == ["three", "three"]
    assert await all_of([sleeper, worker], "told.join()") == ["answered", ""]
    assert authority.events("refresh_reused", user) == []


async def test_signing_out_in_one_tab_signs_out_all(signed_in, site, browser) -> None:
    tabs = await signed_in(3)
    await tabs[1].run("keyfob.logout()")
    for tab in tabs:
        await tab.until("told.join() === 'logout' && keyfob.session === null")
    assert await browser.cookie() is None
    site.seen.clear()
    assert await all_of(tabs, f"failure({STATUS})") == ["SignedOutError logout"] * 3
    assert site.seen == []
    assert await tabs[0].run("keyfob.resume()") is None


async def test_a_session_that_an_administrator_ends_is_given_up_by_every_tab(
    signed_in, site, browser, authority
) -> None:
    tabs = await signed_in(2)
    session = await tabs[0].run("keyfob.session.sessionId")
    authority.ask("DELETE", f"/admin/api/sessions/{session}")
    site.seen.clear()
    assert await tabs[0].run(f"failure({STATUS})") == "SignedOutError revoked"
    for tab in tabs:
        await tab.until("told.join() === 'revoked' && keyfob.session === null")
    assert site.seen == [("/session", 401), ("/refresh", 401)]
    fresh = await browser.tab()
    assert await fresh.run("keyfob.resume()") is None


async def test_a_page_that_is_loaded_again_is_still_signed_in(signed_in, site) -> None:
    (tab,) = await signed_in()
    await tab.open(site.origin + "/")
    assert await tab.run("keyfob.session") is None
    assert await tab.run("keyfob.resume().then((session) => session.subject.length)") == 30
    assert await tab.run(STATUS) == 200


async def test_ten_tabs_of_a_restored_browser_make_one_refresh(
    signed_in, site, browser, authority, user
) -> None:
    (tab,) = await signed_in()
    await tab.close()
    tabs = [await browser.tab() for _ in range(6)]
    refreshes = site.count("/refresh")
    assert await all_of(tabs, "keyfob.resume().then((session) => session.subject.length)") == [30] * 6
    assert site.count("/refresh") == refreshes + 1


async def test_no_token_is_where_a_script_could_find_it(signed_in, browser, authority, user) -> None:
    (tab,) = await signed_in()
    set_roles(authority, user, "buyer")
    assert await tab.run(ROLES) == "buyer"
    found = await tab.run(
        """(async () => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys(),
        document.documentElement.outerHTML.includes("eyJ"), JSON.stringify(keyfob), Object.getOwnPropertyNames(keyfob), keyfob.session,
        history.state, name, performance.getEntries().map((entry) => entry.name)].map(String)))()"""
    )
    assert "eyJ" not in found
    assert "kfr_" not in found
    assert found.startswith('["[object Object]","[object Object]","","","","false","{}",""')
    assert await tab.run("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    assert (await browser.cookie() or "").startswith("kfr_")


async def test_offline_is_not_signed_out(signed_in, site) -> None:
    (tab,) = await signed_in()
    await tab.send("Network.enable")
    await _go(tab, offline=True)
    await tab.run(AN_HOUR_LATER)
    assert await tab.run(f"failure({STATUS})") == "KeyfobError unavailable"
    assert await tab.run("keyfob.session.subject.length + told.join()") == "30"
    await _go(tab, offline=False)
    assert await tab.run(STATUS) == 200


async def test_a_sign_out_without_a_network_is_made_up_for(signed_in, site, browser) -> None:
    (tab,) = await signed_in()
    await tab.send("Network.enable")
    await _go(tab, offline=True)
    assert await tab.run("failure(keyfob.logout())") == "KeyfobError unavailable"
    assert await tab.run("told.join() + keyfob.session") == "logoutnull"
    assert await browser.cookie() is not None
    await _go(tab, offline=False)
    await cookie_becomes(browser, None)
    assert site.seen[-1] == ("/logout", 204)


async def _go(tab: Any, *, offline: bool) -> None:
    await tab.send(
        "Network.emulateNetworkConditions",
        offline=offline,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )


async def test_a_changed_password_goes_on_in_every_tab_and_ends_other_browsers(
    signed_in, site, authority, user
) -> None:
    tabs = await signed_in(2)
    changed = f"keyfob.changePassword('{PASSWORD}', 'eighteen blue llamas').then((session) => session.subject.length)"
    assert await tabs[0].run(changed) == 30
    assert await all_of(tabs, STATUS) == [200, 200]
    set_roles(authority, user, "buyer")
    assert await all_of(tabs, ROLES) == ["buyer"] * 2
    assert await all_of(tabs, "told.join()") == ["", ""]


async def test_another_user_who_signs_in_in_another_tab_does_not_take_over_this_page(
    signed_in, authority
) -> None:
    alices, bobs = await signed_in(2)
    bob = authority.add_user()
    assert await bobs.run(login(bob)) == 30
    await alices.until("told.join() === 'replaced' && keyfob.session === null")
    assert await alices.run(f"failure({STATUS})") == "SignedOutError replaced"
    assert await bobs.run(STATUS) == 200


@pytest.fixture
async def services() -> AsyncIterator[tuple[str, str, list[tuple[str, str | None]]]]:
    """Two origins of services, and what `Authorization` came to which; `/away` leads from any of them to the second."""
    came: list[tuple[str, str | None]] = []
    runners, origins = [], []

    async def answer(request: web.Request) -> web.Response:
        origin = request.headers.get("Origin", "")
        headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Headers": "authorization"}
        if request.method == "OPTIONS":
            return web.Response(headers=headers)
        came.append((f"http://{request.host}", request.headers.get("Authorization")))
        if request.path == "/away":
            return web.Response(status=307, headers=headers | {"Location": origins[1]})
        return web.Response(headers=headers)

    for _ in range(2):
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        runners.append(runner)
        origins.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield origins[0], origins[1], came
    for runner in runners:
        await runner.cleanup()


async def test_the_token_goes_to_allowed_origins_alone_also_when_they_redirect(signed_in, services) -> None:
    allowed, other, came = services
    (tab,) = await signed_in(before=f"window.more = ['{allowed}'];")
    for url in (allowed + "/", other + "/", allowed + "/away"):
        await tab.run(f"keyfob.fetch('{url}').then((answer) => answer.status, String)")
    assert [(origin, bool(token)) for origin, token in came if origin == allowed] == [
        (allowed, True),
        (allowed, True),
    ]
    assert {token for origin, token in came if origin == other} == {None}


async def test_a_page_of_another_origin_cannot_refresh_with_the_cookie(
    signed_in, services, browser, site
) -> None:
    await signed_in()
    stranger = await browser.tab(url=services[1] + "/", ready="true")
    before = await browser.cookie()
    site.seen.clear()
    forged = f"fetch('{site.origin}/refresh', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }}).catch(String)"
    await stranger.run(forged)
    assert [status for _, status in site.seen] == [403]
    assert await browser.cookie() == before


async def test_the_page_of_the_how_to_works(browser, site, authority, user) -> None:
    how_to = Path(__file__).parents[3] / "docs" / "how-to" / "browser.md"
    (site.page,) = re.findall(r"^```html\n(.*?)^```$", how_to.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    tabs = [await browser.tab(ready="!login.hidden") for _ in range(2)]

    async def sign_in(password: str) -> None:
        await tabs[0].run(
            f"login.username.value = '{user}'; login.password.value = '{password}'; login.requestSubmit()"
        )

    await sign_in("not the password")
    await tabs[0].until("message.textContent === 'That did not work: bad_credentials'")
    await sign_in(PASSWORD)
    for tab in tabs:  # the other one takes part
        await tab.until("!account.hidden && login.hidden && message.textContent === ''")
    set_roles(authority, user, "buyer")
    await tabs[1].run("ask.click()")
    await tabs[1].until("roles.textContent === 'buyer'")
    await tabs[1].open(site.origin + "/", ready="roles.textContent === 'buyer'")
    await tabs[1].run("logout.click()")
    for tab in tabs:
        await tab.until(
            "account.hidden && !login.hidden && message.textContent === 'You are signed out.' && roles.textContent === ''"
        )
    await cookie_becomes(browser, None)
    assert authority.events("refresh_reused", user) == []
