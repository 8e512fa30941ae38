"""The account record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from keyfob.base.identifiers import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A login name with a password. The subject is random (`usr_` + 26 characters), immutable, and never used again.

    `name` is as it is compared: NFC, case-folded. Roles stand on the subject's record.
    """

    subject: Subject
    name: str
    password_hash: str = field(repr=False)
    created_at: datetime
    password_changed_at: datetime
    roles: frozenset[str] = frozenset()
    disabled_at: datetime | None = None


class SubjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a subject, with an account or without: its roles today, and whether it is barred."""

    subject: Subject
    roles: frozenset[str] = frozenset()
    disabled_at: datetime | None = None
