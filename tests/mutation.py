"""Plant every small mistake in the core and see whether a test notices: `python tests/mutation.py`.

Works on a copy, with `[tool.mutmut]` of pyproject.toml; arguments go to `mutmut run` (`--max-children 1`). Ends with 1
when fewer than 95 % are noticed, or when docs/explanation/mutation.md does not explain one that is not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/explanation/mutation.md"
NEEDED = ("pyproject.toml", "src", "tests")
LEAST = 95.0


def mutmut(folder: str, *arguments: str, shown: bool = False) -> str:
    told = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments], cwd=folder, check=True, text=True, capture_output=not shown
    )
    return told.stdout or ""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for name in NEEDED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder, name))
        mutmut(folder, "run", *sys.argv[1:], shown=True)
        mutmut(folder, "export-cicd-stats")
        counts = json.loads(Path(folder, "mutants/mutmut-cicd-stats.json").read_text("utf-8"))
        names = [line.split(": ") for line in mutmut(folder, "results").splitlines()]
        survivors = [planted(mutmut(folder, "show", name.strip())) for name, end in names if end == "survived"]

    noticed = counts["killed"] + counts["timeout"]
    score = 100 * noticed / counts["total"]
    page = PAGE.read_text("utf-8")
    unexplained = [line for line in survivors if f"`{line}`" not in page]
    print(", ".join(f"{counts[name]} {name}" for name in ("total", "killed", "timeout", "survived")))
    print(f"score {score:.1f} %, at least {LEAST:.0f} % wanted")
    for line in unexplained:
        print(f"survives and is not explained: {line}")
    return 0 if score >= LEAST and not unexplained else 1


def planted(diff: str) -> str:
    """Return the line that a mutant puts into the code, without its comment."""
    lines = [line[1:] for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return " ".join(lines).split("  # ")[0].strip()


if __name__ == "__main__":
    sys.exit(main())
