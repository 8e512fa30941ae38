"""`keyfob advise`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.prompt import Prompt

from keyfob.advice.access_log import DEFAULT_LOGIN_PATHS, Traffic, read_access_log
from keyfob.advice.advice import Advice
from keyfob.advice.advice import advise as answer
from keyfob.advice.need import Asked, Need, Question
from keyfob.advice.rules import Rules, read_rules
from keyfob.advice.settings_file import settings_file
from keyfob.advice.told import document, told
from keyfob.base.errors import ConfigurationError
from keyfob.cli.opened import AsJson
from keyfob.cli.output import examples, plain, say, say_json, warn

_BACK = "b"
Flag = Annotated[str | None, typer.Option(metavar="ANSWER", help="The answer; see --questions.")]


def register(commands: typer.Typer) -> None:
    """Add `advise` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob advise                                             # asks",
            "keyfob advise --situation microservices --out keyfob.toml",
            "keyfob advise --services 12 --clients browser,mobile --revocation on-demand --json",
            "keyfob advise --access-log /var/log/nginx/access.log --services 3",
            "keyfob advise --questions",
        )
    )(advise)


def advise(
    services: Flag = None,
    run_by: Flag = None,
    clients: Flag = None,
    domains: Flag = None,
    revocation: Flag = None,
    cut_off: Flag = None,
    requests: Flag = None,
    logins: Flag = None,
    regions: Flag = None,
    profile: Flag = None,
    situation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Begin with the answers of a situation.")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", help="Answers in TOML, by the names of the questions."),
    ] = None,
    access_log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compute requests, logins and clients from a log in common or combined format.",
        ),
    ] = None,
    login_path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="A path that a login is posted to, in the log; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the settings there; an existing file is left alone."),
    ] = None,
    questions: Annotated[bool, typer.Option("--questions", help="Print the questions, and end.")] = False,
    json: AsJson = False,
) -> None:
    """Say which strategy to use for whom, with the arithmetic. Asks what no flag, file or log answers, if there is a terminal to ask at.

    Later ones win: the situation, the file, the log, the flags. Without a terminal, or with --json, what is not answered is its default.
    """
    rules = read_rules()
    if questions:
        _tell_questions(rules)
        return
    flags = {
        "services": services, "run_by": run_by, "clients": clients, "domains": domains, "revocation": revocation,
        "cut_off": cut_off, "requests": requests, "logins": logins, "regions": regions, "profile": profile,
    }  # fmt: skip
    given = {
        **_of_situation(rules, situation),
        **(_of_file(answers) if answers else {}),
        **(_of_log(access_log, login_path) if access_log else {}),
        **{name: value for name, value in flags.items() if value is not None},
    }
    console = Console()
    if not json and not given and console.is_terminal:
        given = ask(rules, console)
    advice = answer(Need.of(rules.question, given), rules)
    if out is not None:
        _write(out, settings_file(advice, rules))
    _show(advice, rules, out=out) if not json else say_json(
        {**document(advice), "keyfob_toml": settings_file(advice, rules)}
    )


def ask(rules: Rules, console: Console) -> dict[str, str]:
    """Ask every question at *console*, with its default; `b` goes back to the one before."""
    said: dict[str, str] = {}
    number = 0
    while number < len(rules.question):
        question = rules.question[number]
        _offer(question, console)
        reply = Prompt.ask(
            plain(question.text), console=console, default=said.get(question.name, question.default)
        )
        if reply.strip().lower() == _BACK:
            number = max(0, number - 1)
            continue
        try:
            said[question.name] = question.require(reply)
        except ConfigurationError as error:
            console.print(plain(str(error)), style="red", markup=False)
            continue
        number += 1
    return said


def _offer(question: Asked, console: Console) -> None:
    console.print()
    for choice, meaning in question.choices.items():
        console.print(f"  {choice:15} {meaning}", markup=False, highlight=False)
    if question.kind is Question.SEVERAL:
        console.print("  one or more, with commas between", markup=False)
    console.print(f"  {_BACK:15} back", style="dim", markup=False, highlight=False)


def _tell_questions(rules: Rules) -> None:
    for question in rules.question:
        say(f"--{question.name.replace('_', '-'):12} {question.text} [{question.default}]")
        for choice, meaning in question.choices.items():
            say(f"{'':15}{choice}: {meaning}")
    say("situations:")
    for name, situation in rules.situation.items():
        say(f"{'':15}{name}: {situation.title}")


def _of_situation(rules: Rules, name: str | None) -> Mapping[str, str]:
    if name is None:
        return {}
    if name not in rules.situation:
        raise ConfigurationError(f"--situation is one of {', '.join(rules.situation)}")
    return rules.situation[name].answers


def _of_file(file: Path) -> dict[str, str]:
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in tree.items()
    }


def _of_log(file: Path, login_paths: list[str] | None) -> dict[str, str]:
    try:
        with file.open("rb") as lines, Progress(console=Console(stderr=True), transient=True) as progress:
            size = os.fstat(lines.fileno()).st_size
            task = progress.add_task("reading the log", total=size or None)
            traffic = read_access_log(
                lines,
                login_paths=login_paths or DEFAULT_LOGIN_PATHS,
                tell=lambda octets: progress.update(task, completed=octets),
            )
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    _tell_traffic(file, traffic)
    return traffic.answers()


def _tell_traffic(file: Path, traffic: Traffic) -> None:
    kinds = ", ".join(traffic.clients) or "none"
    warn(
        f"{file}: {traffic.lines} lines, {traffic.malformed} of them malformed; in the busiest minute"
        f" {traffic.requests:.4g} requests/s and {traffic.logins:.4g} logins/s; clients: {kinds}"
    )


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{file} is there already; give --out another name, or remove it") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None


def _show(advice: Advice, rules: Rules, *, out: Path | None) -> None:
    for line in told(advice):
        say(line)
    say("")
    if out is not None:
        say(f"wrote {out}; next: keyfob doctor --config {out}, then keyfob serve --config {out}")
        return
    say("keyfob.toml (--out writes it):")
    for line in settings_file(advice, rules).splitlines():
        say(f"  {line}".rstrip())
