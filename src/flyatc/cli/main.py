"""What a person types (being replaced by the full command line)."""

import sys
from pathlib import Path


def main() -> None:
    from flyatc.daemon import run

    sys.exit(run(Path(sys.argv[sys.argv.index("--config") + 1])))
