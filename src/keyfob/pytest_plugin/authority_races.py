"""Races at an authority of your own configuration: what must come out when many do the same at the same moment.

    class TestOurRaces(AuthorityRaces):
        @pytest.fixture
        def open_authority(self):
            return partial(Authority.open, "postgresql://...", issuer="https://auth.example", master_key=..., policy=OUR_POLICY)

Two authorities are opened on the one store, as two processes would. Each test takes subjects of its own, so the store need not be empty; it
gets a few hundred sessions, which run out by themselves.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from keyfob.base.errors import Denied, KeyfobError
from keyfob.sync import Authority

DEADLINE = 60.0  # seconds until a race counts as a deadlock


class AuthorityRaces:
    """The races. Subclasses give `open_authority`; raise `rounds` for a soak."""

    rounds: ClassVar[int] = 5
    racers: ClassVar[int] = 8

    @pytest.fixture
    def open_authority(self) -> Callable[[], Authority]:
        """Return what opens an authority of your configuration."""
        raise NotImplementedError("a class of races needs a fixture `open_authority`")

    @pytest.fixture
    def authorities(self, open_authority: Callable[[], Authority]) -> Iterator[list[Authority]]:
        """Give two authorities on one store."""
        with open_authority() as first, open_authority() as second:
            yield [first, second]

    def race(self, authorities: list[Authority], act: Callable[[Authority, int], str]) -> list[str]:
        """Let all racers *act* at once, dealt out to the authorities; return what each got: the code of an error of Keyfob's."""
        barrier = threading.Barrier(self.racers)

        def run(number: int) -> str:
            barrier.wait(DEADLINE)
            try:
                return act(authorities[number % len(authorities)], number)
            except KeyfobError as error:
                return error.code

        with ThreadPoolExecutor(self.racers) as pool:
            return list(pool.map(run, range(self.racers), timeout=DEADLINE))

    def test_tabs_that_refresh_at_once_all_get_the_same_token(self, authorities: list[Authority]) -> None:
        for _ in range(self.rounds):
            token = str(authorities[0].login(_somebody(), strategy="hybrid").refresh_token)

            def refresh(one: Authority, _: int, token: str = token) -> str:
                return str(one.refresh(token).refresh_token)

            outcomes = self.race(authorities, refresh)
            assert len(set(outcomes)) == 1, Counter(outcomes)
            assert authorities[1].refresh(outcomes[0]).access_token

    def test_no_refresh_survives_a_logout(self, authorities: list[Authority]) -> None:
        for _ in range(self.rounds):
            token = str(authorities[0].login(_somebody(), strategy="hybrid").refresh_token)

            def act(one: Authority, number: int, token: str = token) -> str:
                if number == 0:
                    one.logout(token)
                    return ""
                return str(one.refresh(token).access_token)

            outcomes = self.race(authorities, act)
            for text in {token, *(outcome for outcome in outcomes if outcome.startswith("eyJ"))}:
                _require_over(authorities, text)

    def test_no_login_survives_the_end_of_its_subject(self, authorities: list[Authority]) -> None:
        for _ in range(self.rounds):
            subject, begun, ended = _somebody(), threading.Barrier(self.racers), threading.Event()

            def act(
                one: Authority,
                number: int,
                subject: str = subject,
                begun: threading.Barrier = begun,
                ended: threading.Event = ended,
            ) -> str:
                with one.sign_in() as attempt:
                    begun.wait(DEADLINE)  # everybody is at the password
                    if number == 0:
                        one.revoke("subject", subject, reason="race")
                        ended.set()
                        return "ended"
                    ended.wait(DEADLINE)
                    return str(attempt.login(subject, strategy="session").session_token)

            assert Counter(self.race(authorities, act)) == {"ended": 1, "revoked": self.racers - 1}
            assert authorities[1].login(subject, strategy="session").session_token

    def test_a_session_is_ended_by_one(self, authorities: list[Authority]) -> None:
        for _ in range(self.rounds):
            token = str(authorities[0].login(_somebody(), strategy="session").session_token)

            def end(one: Authority, _: int, token: str = token) -> str:
                return "ended" if one.logout(token) else "over"

            assert Counter(self.race(authorities, end)) == {"ended": 1, "over": self.racers - 1}
            _require_over(authorities, token)

    def test_the_limit_of_sessions_is_never_exceeded(self, authorities: list[Authority]) -> None:
        limit, subject = authorities[0].policy.sessions_per_subject, _somebody()

        def log_in(one: Authority, _: int) -> str:
            return one.login(subject, strategy="session").session_id

        for _ in range(limit // self.racers + 2):
            self.race(authorities, log_in)
            assert len(authorities[0].list_sessions(subject, limit=1000).sessions) <= limit

    def test_data_is_written_by_one(self, authorities: list[Authority]) -> None:
        for _ in range(self.rounds):
            session_id = authorities[0].login(_somebody(), strategy="session").session_id

            def write(one: Authority, number: int, session_id: str = session_id) -> str:
                return "written" if one.write_data(session_id, b"%d" % number, version=0) else "late"

            outcomes = self.race(authorities, write)
            assert Counter(outcomes) == {"written": 1, "late": self.racers - 1}
            kept = authorities[1].read_data(session_id)
            assert kept is not None
            assert kept.data == b"%d" % outcomes.index("written")

    def test_roles_taken_away_are_in_no_token_that_is_given_afterwards(
        self, authorities: list[Authority]
    ) -> None:
        for _ in range(self.rounds):
            subject = _somebody()
            issued = authorities[0].login(subject, strategy="hybrid", roles=["payer"])
            authorities[0].set_roles(subject, [])

            def pay(one: Authority, _: int, token: str = str(issued.refresh_token)) -> str:
                one.authenticate(str(one.refresh(token).access_token), roles={"payer"})
                return "paid"

            assert set(self.race(authorities, pay)) == {"insufficient_role"}


def _somebody() -> str:
    return "race-" + secrets.token_hex(8)


def _require_over(authorities: list[Authority], token: str) -> None:
    """See that nobody takes *token* for a live credential, by what the store says."""
    for authority in authorities:
        assert authority.introspect(token) == {"active": False}
        if token.startswith("kfr_"):
            with pytest.raises(Denied):
                authority.refresh(token)
