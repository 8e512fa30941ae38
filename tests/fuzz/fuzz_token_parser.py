"""Drive the parser of tokens with what libFuzzer thinks of: `make fuzz`.

What it finds goes to `build/fuzz`, beside the corpus of the tree; an input that breaks something is printed and kept there. Its options are
libFuzzer's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["keyfob.jwt", "keyfob.base.base64url"]):
    import token_parser

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("build/fuzz")
MAX_INPUT = 2048  # bytes: past all that has a meaning of its own, but for the size limits, which have tests


def main() -> None:
    """Fuzz until an option says to stop, or something breaks."""
    FOUND.mkdir(parents=True, exist_ok=True)
    parser = token_parser.Parser.of_one_key()
    given = sys.argv[1:]
    folders = [] if any(not option.startswith("-") for option in given) else [str(FOUND), str(CORPUS)]
    options = [
        f"-max_len={MAX_INPUT}",
        f"-artifact_prefix={FOUND}/",
        f"-dict={CORPUS.parent / 'token_parser.dict'}",
    ]
    atheris.Setup([sys.argv[0], *options, *given, *folders], parser.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
