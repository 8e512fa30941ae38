"""A verifier in this process that follows a server in another, over HTTP."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfob import ConfigurationError, Denied, Verifier
from keyfob.revocation.mending import KEPT_ENTRIES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HEARTBEAT = timedelta(seconds=0.2)
MAX_STALENESS = timedelta(seconds=2)


class Follower:
    """A verifier for the audience `orders`, and what it says of a grant."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def says(self, grant: dict[str, str]) -> str:
        """Return `ok`, or the cause of the refusal."""
        try:
            self.verifier.verify(grant["access_token"])
        except Denied as denied:
            return denied.cause.value
        return "ok"


class Site:
    """A server with accounts, an administrator and a client that may follow its feed."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment
        self.api = deployment.api
        self.credentials = deployment.add_client("orders", "keyfob:feed")
        deployment.add_client("shop")
        deployment.add_users("alice", "bob", "carol")
        deployment.add_users("admin", roles=("keyfob:admin",))
        self.server = deployment.start()

    def login(self, name: str, **more: str) -> dict[str, str]:
        reply = self.api.login(name, audience=["orders", self.api.url], **more)
        assert reply.status == 200, reply.raw
        return reply.body

    def administer(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the admin API, with a login of its own: some tests end everything."""
        admin = self.api.login("admin", strategy="session").body["session_token"]
        reply = self.api.request(method, f"/admin/api{path}", body, token=admin)
        assert reply.status < 300, reply.raw
        return reply.body

    def revoke(self, scope: str, target: str = "", reach: str = "end") -> int:
        order = {"scope": scope, "id": target, "reach": reach}
        return int(self.administer("POST", "/revocations", order)["position"])


@pytest.fixture
def site(deploy: Any) -> Site:
    return Site(deploy(feed_heartbeat=f"{HEARTBEAT.total_seconds()}"))


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    with ExitStack() as stack:

        def following(site: Site, credentials: tuple[str, str] | None = None) -> Follower:
            verifier = Verifier.follow(
                site.api.url,
                audience="orders",
                credentials=credentials or site.credentials,
                heartbeat=HEARTBEAT,
                max_staleness=MAX_STALENESS,
                start_timeout=timedelta(seconds=30),
            )
            return Follower(stack.enter_context(verifier))

        yield following


def _part(grant: dict[str, str], number: int, member: str) -> str:
    """Read a member of the header (0) or the claims (1) of an access token."""
    part = grant["access_token"].split(".")[number]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))[member])


TARGETS: dict[str, Callable[[dict[str, str]], str]] = {
    "token": lambda grant: _part(grant, 1, "jti"),
    "session": lambda grant: grant["session_id"],
    "subject": lambda grant: grant["subject"],
    "client": lambda grant: "shop",
    "key": lambda grant: _part(grant, 0, "kid"),
    "everything": lambda grant: "",
}


def test_every_scope_and_reach_is_denied_by_the_follower(site: Site, follow: Any, eventually: Any) -> None:
    follower = follow(site)
    for scope, target in TARGETS.items():
        for reach in ("end", "claims") if scope not in {"token", "key"} else ("end",):
            grant = site.login("alice", client_id="shop")
            bystander = site.login("bob")
            assert (follower.says(grant), follower.says(bystander)) == ("ok", "ok")
            site.revoke(scope, target(grant), reach)
            cause = "revoked" if reach == "end" else "stale_claims"
            eventually(lambda grant=grant: follower.says(grant) != "ok", f"{scope} {reach} is denied")
            # A key is revoked by its entry, and then gone from the published set.
            refused = {cause, "unknown_key"} if scope == "key" else {cause}
            assert follower.says(grant) in refused, (scope, reach)
            is_far_reaching = scope in {"key", "everything"}
            assert follower.says(bystander) in (refused if is_far_reaching else {"ok"}), (scope, reach)
            refreshed = site.api.post("/refresh", {"refresh_token": grant["refresh_token"]})
            if reach == "end" and scope not in {"token", "key"}:  # of these two the session goes on
                assert (refreshed.status, refreshed.code) == (401, "revoked"), (scope, reach)
            else:
                assert refreshed.status == 200, (scope, reach, refreshed.raw)
                eventually(lambda fresh=refreshed.body: follower.says(fresh) == "ok", "the fresh one is good")
            assert follower.says(grant) in refused, "denied once, denied for good"
            fresh = site.login("alice", client_id="shop")
            eventually(lambda fresh=fresh: follower.says(fresh) == "ok", "a new login is good")


def test_a_follower_of_a_killed_server_grows_stale_and_learns_what_it_missed(
    site: Site, follow: Any, eventually: Any
) -> None:
    follower = follow(site)
    kept, ended = site.login("alice"), site.login("bob")
    assert (follower.says(kept), follower.says(ended)) == ("ok", "ok")
    site.server.kill()
    done = site.deployment.command("revoke", "session", ended["session_id"])
    assert done.returncode == 0, done.stderr
    eventually(lambda: follower.says(kept) == "verifier_stale", "stale")
    assert follower.says(ended) == "verifier_stale"
    assert not follower.verifier.is_level
    site.deployment.start()
    answers = set()

    def is_level_again() -> bool:
        answers.add(follower.says(ended))
        return follower.says(kept) == "ok"

    eventually(is_level_again, "level again", within=30)
    assert follower.says(ended) == "revoked"
    assert answers <= {"verifier_stale", "revoked"}


def _back_up(deployment: Any) -> Path:
    backup = deployment.folder / "backup.db"
    with closing(sqlite3.connect(deployment.database)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    return backup


def _restore(database: Path, backup: Path) -> None:
    """Put an older copy in place of the database, as somebody would who knows what belongs to a SQLite file."""
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copy(backup, database)


def _forget_head(database: Path) -> None:
    """Lose what tells the server that its database is an older copy, as where a whole folder was put back."""
    database.with_name(database.name + ".head").unlink()


def test_a_server_on_an_older_copy_learns_from_its_followers_what_it_lost(
    site: Site, follow: Any, eventually: Any
) -> None:
    """Without its head file the server cannot know that it lost revocations. Whoever followed it holds them, signed, and hands them back."""
    site.deployment.expected_errors |= {"feed_went_back"}
    follower = follow(site)
    by_session, by_subject, kept = site.login("alice"), site.login("carol"), site.login("bob")
    backup = _back_up(site.deployment)
    site.revoke("session", by_session["session_id"])
    lost = site.revoke("subject", by_subject["subject"])
    ended = (by_session, by_subject)
    eventually(lambda: {follower.says(grant) for grant in ended} == {"revoked"}, "both are denied")
    eventually(lambda: follower.verifier.is_level, "level with both")
    site.server.kill()
    _restore(site.deployment.database, backup)
    _forget_head(site.deployment.database)
    site.server = site.deployment.start()
    seen: set[str] = set()

    def is_mended() -> bool:
        seen.update(follower.says(grant) for grant in ended)
        answers = [site.api.get("/session", token=grant["access_token"]).status for grant in ended]
        return answers == [401, 401] and follower.says(kept) == "ok" and follower.verifier.is_level

    eventually(is_mended, "the server knows what was lost, and the follower goes on", within=30)
    assert seen <= {"revoked", "verifier_stale"}
    for grant in ended:
        refreshed = site.api.post("/refresh", {"refresh_token": grant["refresh_token"]})
        assert (refreshed.status, refreshed.code) == (401, "revoked")
    assert site.api.post("/refresh", {"refresh_token": kept["refresh_token"]}).status == 200
    assert site.revoke("subject", "nobody") > lost
    assert follower.says(site.login("alice")) == "ok" or not follower.verifier.is_level


def test_what_a_follower_knows_to_be_revoked_stays_so_when_positions_were_handed_out_again(
    site: Site, follow: Any, eventually: Any
) -> None:
    """Somebody revokes before the follower is back: two histories. Everything of before is over, and never was what is ended good again."""
    site.deployment.expected_errors |= {"feed_went_back", "feed_begun_anew"}
    follower = follow(site)
    ended, kept = site.login("alice"), site.login("bob")
    backup = _back_up(site.deployment)
    site.revoke("session", ended["session_id"])
    site.revoke("subject", "nobody")
    eventually(lambda: follower.says(ended) == "revoked", "denied")
    site.server.kill()
    _restore(site.deployment.database, backup)
    _forget_head(site.deployment.database)

    async def revoke_others(authority: Any) -> None:
        for _ in range(4):
            await authority.revoke("subject", "somebody")

    site.deployment.with_authority(revoke_others)
    site.server = site.deployment.start()
    seen: set[str] = set()

    def is_over() -> bool:
        seen.add(follower.says(ended))
        return follower.verifier.is_level and follower.says(kept) in {"revoked", "unknown_key"}

    eventually(is_over, "a new timeline, in which nothing of before is good", within=30)
    assert seen <= {"revoked", "verifier_stale", "unknown_key"}
    for grant in (ended, kept):
        assert site.api.post("/refresh", {"refresh_token": grant["refresh_token"]}).status == 401
    fresh = site.login("bob")
    eventually(lambda: follower.says(fresh) == "ok", "a new login is good", within=30)


@pytest.mark.parametrize("forced", [False, True])
def test_a_restored_back_up_revives_nothing_for_those_who_follow(
    site: Site, follow: Any, eventually: Any, forced: bool
) -> None:
    """With --force into the store of the running server; else into a new file, in whose place the server is started again."""
    follower = follow(site)
    by_session, by_subject, kept = site.login("alice"), site.login("carol"), site.login("bob")
    made = site.deployment.command("backup", "backup")
    assert made.returncode == 0, made.stderr
    site.revoke("session", by_session["session_id"])
    site.revoke("subject", by_subject["subject"])
    ended = (by_session, by_subject)
    eventually(lambda: {follower.says(grant) for grant in ended} == {"revoked"}, "both are denied")
    later = site.login("bob")
    if forced:
        refused = site.deployment.command("restore", "backup")
        assert refused.returncode == 1
        assert "--force" in refused.stderr
        done = site.deployment.command("restore", "backup", "--force")
    else:
        site.server.kill()
        database = site.deployment.database
        for suffix in ("", "-wal", "-shm", ".head"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        done = site.deployment.command("restore", "backup")
        site.server = site.deployment.start()
    assert done.returncode == 0, done.stderr
    seen: set[str] = set()
    fine = {"stale_claims"} if forced else {"revoked", "unknown_key"}

    def has_arrived() -> bool:
        seen.update(follower.says(grant) for grant in ended)
        return follower.verifier.is_level and {follower.says(grant) for grant in (kept, later)} <= fine

    eventually(has_arrived, "the follower knows of the restore", within=30)
    assert "ok" not in seen
    for grant in ended:
        assert site.api.post("/refresh", {"refresh_token": grant["refresh_token"]}).status == 401
        assert site.api.get("/session", token=grant["access_token"]).status == 401
    for grant in (kept, later):
        refreshed = site.api.post("/refresh", {"refresh_token": grant["refresh_token"]})
        assert refreshed.status == (200 if forced else 401)
    fresh = site.login("alice")
    eventually(lambda: follower.says(fresh) == "ok", "a new login is good", within=30)
    newcomer = follow(site)
    assert newcomer.says(fresh) == "ok"
    assert {newcomer.says(grant) for grant in ended} <= {"revoked", "unknown_key"}


def test_the_steps_after_a_restore_end_all_that_was_issued_before_it(
    site: Site, follow: Any, eventually: Any
) -> None:
    """What docs/reference/settings.md says. `revoke everything` alone is not enough: its position may be below the `as_of` of a token
    that was issued after the backup was made."""
    before, ended = site.login("alice"), site.login("carol")
    backup = _back_up(site.deployment)
    site.revoke("session", ended["session_id"])
    for _ in range(5):
        site.revoke("session", site.login("carol")["session_id"])
    after = site.login("bob")
    site.server.kill()
    _restore(site.deployment.database, backup)
    _forget_head(site.deployment.database)
    for arguments in (("revoke", "everything"), ("keys", "revoke", _part(before, 0, "kid"))):
        done = site.deployment.command(*arguments)
        assert done.returncode == 0, done.stderr
    site.server = site.deployment.start()
    follower = follow(site)
    grants = (before, ended, after)

    def require_all_denied() -> None:
        for grant in grants:
            assert follower.says(grant) != "ok"
            assert site.api.get("/session", token=grant["access_token"]).status == 401
            refreshed = site.api.post("/refresh", {"refresh_token": grant["refresh_token"]})
            assert refreshed.status == 401

    require_all_denied()
    for _ in range(8):  # up to and past the positions that were lost
        site.revoke("session", site.login("carol")["session_id"])
        require_all_denied()
    fresh = site.login("bob")
    eventually(lambda: follower.says(fresh) == "ok", "a new login is good")


def test_a_server_on_an_older_copy_of_its_database_ends_all_that_was_issued_before_it(
    site: Site, follow: Any, eventually: Any
) -> None:
    site.deployment.expected_errors |= {"feed_went_back", "feed_begun_anew"}
    follower = follow(site)
    before, ended = site.login("alice"), site.login("carol")
    backup = _back_up(site.deployment)
    site.revoke("session", ended["session_id"])
    for number in range(
        KEPT_ENTRIES + 1
    ):  # more than the server has kept beside the database, so that they cannot be appended again
        site.revoke("subject", f"somebody-{number}")
    after = site.login("bob")
    eventually(lambda: follower.says(ended) == "revoked", "denied")
    site.server.kill()
    _restore(site.deployment.database, backup)

    site.server = site.deployment.start()

    seen: set[str] = set()

    def all_denied() -> bool:
        said = [follower.says(grant) for grant in (before, ended, after)]
        seen.update(said[1:2])
        return follower.verifier.is_level and set(said) <= {"revoked", "unknown_key"}

    eventually(all_denied, "level, and nothing of before is good", within=30)
    assert "ok" not in seen, "what it knew to be ended never came back"
    fresh = site.login("bob")
    eventually(lambda: follower.says(fresh) == "ok", "a new login is good", within=30)
    for grant in (before, ended, after):
        assert follower.says(grant) in {"revoked", "unknown_key"}
        assert site.api.get("/session", token=grant["access_token"]).status == 401
        assert site.api.post("/refresh", {"refresh_token": grant["refresh_token"]}).status == 401


def test_whoever_may_not_follow_is_told_so_at_once(site: Site, follow: Any) -> None:
    client_id, secret = site.credentials
    without_scope = site.deployment.add_client("stock", "keyfob:introspect")
    for credentials in ((client_id, secret[:-1] + "x"), ("nobody", secret), without_scope):
        with pytest.raises(ConfigurationError) as refused:
            follow(site, credentials)
        assert f"client '{credentials[0]}'" in str(refused.value)
        assert "keyfob:feed" in str(refused.value)
        assert credentials[1] not in str(refused.value)


def test_a_follower_whose_client_is_deleted_denies_what_it_cannot_know(
    site: Site, follow: Any, eventually: Any
) -> None:
    follower = follow(site)
    grant = site.login("alice")
    assert follower.says(grant) == "ok"
    site.administer("DELETE", "/clients/orders")
    with pytest.raises(ConfigurationError):
        follow(site)
    # The stream that stands ends within half a minute; a restart of the server makes that sooner.
    site.server.end()
    site.server = site.deployment.start()
    eventually(lambda: follower.says(grant) == "verifier_stale", "it is stale")
    assert not follower.verifier.is_level
