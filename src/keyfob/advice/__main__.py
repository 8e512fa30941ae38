"""Print the guide: `python -m keyfob.advice > docs/how-to/choose-a-strategy.md`."""

import sys

from keyfob.advice.guide import guide
from keyfob.advice.rules import read_rules

if __name__ == "__main__":
    sys.stdout.write(guide(read_rules()))
