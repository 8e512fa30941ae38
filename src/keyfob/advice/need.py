"""What somebody needs: the answers to the questions of `rules.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from keyfob.base.errors import ConfigurationError


class ClientKind(StrEnum):
    """What a caller uses."""

    BROWSER = "browser"
    MOBILE = "mobile"
    MACHINE = "machine"


class Revocation(StrEnum):
    """How soon a credential that was taken away must be refused, from the laxest to the strictest; the last two are equally strict."""

    AT_EXPIRY = "at-expiry"
    WITHIN_MINUTES = "within-minutes"
    ON_DEMAND = "on-demand"
    ON_BREACH = "on-breach"

    @property
    def is_at_once(self) -> bool:
        """Say whether nothing but at once will do."""
        return self in {Revocation.ON_DEMAND, Revocation.ON_BREACH}


class Question(StrEnum):
    """How a question is answered."""

    WHOLE = "whole"
    NUMBER = "number"
    CHOICE = "choice"
    SEVERAL = "several"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, as `rules.toml` has it. `least` and `most` are the bounds of a number, both included."""

    name: str
    text: str
    kind: Question
    default: str
    choices: Mapping[str, str] = field(default_factory=dict)
    least: float = 0
    most: float = 0

    def require(self, answer: str) -> str:
        """Return *answer* as it is kept.

        Raises:
            ConfigurationError: it is none, and what would be one.
        """
        text = answer.strip().lower()
        if self.kind is Question.CHOICE:
            return self._choice(text)
        if self.kind is Question.SEVERAL:
            chosen = {self._choice(one.strip()) for one in text.split(",") if one.strip()}
            if not chosen:
                raise self._refusal("one or more of " + ", ".join(self.choices))
            return ",".join(choice for choice in self.choices if choice in chosen)
        return self._number(text)

    def _choice(self, text: str) -> str:
        if text not in self.choices:
            raise self._refusal("one of " + ", ".join(self.choices))
        return text

    def _number(self, text: str) -> str:
        wanted = f"a {'whole number' if self.kind is Question.WHOLE else 'number'} from {self.least:g} to {self.most:.0f}"
        if len(text) > 20 or not text.isascii():
            raise self._refusal(wanted)
        try:
            number = int(text) if self.kind is Question.WHOLE else float(text)
        except ValueError:
            raise self._refusal(wanted) from None
        if not self.least <= number <= self.most:  # nan is in no bounds
            raise self._refusal(wanted)
        return f"{number:g}" if isinstance(number, float) else str(number)

    def _refusal(self, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name} is {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is needed. `cut_off` is in seconds, `requests` and `logins` are per second."""

    services: int
    run_by: str
    clients: tuple[ClientKind, ...]
    domains: int
    revocation: Revocation
    cut_off: float
    requests: float
    logins: float
    regions: int
    profile: str

    @classmethod
    def of(cls, questions: tuple[Asked, ...], answers: Mapping[str, str]) -> Need:
        """Return the need of *answers*, by the names of *questions*; what is not answered is its default.

        Raises:
            ConfigurationError: an answer that is none, or one to no question.
        """
        unknown = answers.keys() - {question.name for question in questions}
        if unknown:
            known = ", ".join(question.name for question in questions)
            raise ConfigurationError(f"{sorted(unknown)[0]} is no question; they are {known}")
        said = {
            question.name: question.require(answers.get(question.name, question.default))
            for question in questions
        }
        return cls(
            services=int(said["services"]),
            run_by=said["run_by"],
            clients=tuple(ClientKind(kind) for kind in said["clients"].split(",")),
            domains=int(said["domains"]),
            revocation=Revocation(said["revocation"]),
            cut_off=float(said["cut_off"]),
            requests=float(said["requests"]),
            logins=float(said["logins"]),
            regions=int(said["regions"]),
            profile=said["profile"],
        )
