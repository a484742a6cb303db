"""What a weekly workflow found, as a GitHub issue: opened once, kept up to date, closed when over.

It runs on a bare runner with Python and ``gh`` alone, so it imports the standard library only.

    python tools/report.py broke --before OLD.lock --after NEW.lock --log LOG > body.md
    python tools/report.py issue --title "Links lead nowhere" --run URL --body body.md
    python tools/report.py issue --title "Links lead nowhere" --run URL      # all is well: close it
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

LABEL = "upkeep"
#: What a run's log says of its own failure: pytest, mypy and ruff, pip, make, this library.
_TELLING = re.compile(
    r"^(FAILED |ERROR |ERROR: |error: |mlk8s: |\S+:\d+(:\d+)?: error: |make(\[\d+\])?: \*\*\* ).*",
    re.MULTILINE,
)
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)
#: GitHub takes 65,536 characters; the versions and the lines above need some of them.
_LOG_END = 20_000
_LINES = 60


def broke(before: str, after: str, log: str) -> str:
    """Which versions are new and which lines of the log tell what failed, as Markdown.

    Args:
        before: the lock file of the last release.
        after: the lock file with the newest versions; the same where nothing could be resolved.
        log: what the run printed.
    """
    old, new = dict(_PIN.findall(before)), dict(_PIN.findall(after))
    changed = [
        f"| {name} | {old.get(name, '–')} | {new.get(name, '–')} |"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    telling = list(dict.fromkeys(line[0] for line in _TELLING.finditer(log)))
    parts = ["## What failed", _fenced("\n".join(telling[:_LINES]) or "No line says it.")]
    if len(telling) > _LINES:
        parts.append(f"{len(telling) - _LINES} more lines are in the log.")
    parts.append("## New versions")
    table = ["| package | locked | newest |", "|---|---|---|", *changed]
    parts.append("\n".join(table) if changed else "None: the resolution changed no version.")
    end = _fenced(log[-_LOG_END:].strip())
    parts.append(f"<details><summary>The end of the log</summary>\n\n{end}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """A block of code, whatever backticks are in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def issue(title: str, run: str, body: str | None) -> str:
    """Open the issue of that title, or update it, or close it where there is no body.

    Args:
        title: by which it is found again.
        run: address of the run that found it, or found nothing.
        body: what was found; ``None`` where all is well.

    Returns:
        What was done, one sentence.

    Raises:
        subprocess.CalledProcessError: ``gh`` refused; its message is in ``stderr``.
    """
    known = json.loads(
        _gh("issue", "list", "--label", LABEL, "--state", "open", "--json", "number,title")
    )
    number = next((str(each["number"]) for each in known if each["title"] == title), None)
    if body is None:
        if number is None:
            return "All is well, and no issue is open."
        _gh("issue", "close", number, "--comment", f"No longer so: {run}")
        return f"Closed issue {number}."
    text = f"Found by {run}. The next run updates or closes this.\n\n{body}"
    if number is not None:
        _gh("issue", "edit", number, "--body-file", "-", text=text)
        return f"Updated issue {number}."
    # Without --force it fails where the label exists.
    _gh("label", "create", LABEL, "--force", "--description", "Found by a weekly workflow")
    return _gh(
        "issue", "create", "--title", title, "--label", LABEL, "--body-file", "-", text=text
    ).strip()


def _gh(*arguments: str, text: str = "") -> str:
    done = subprocess.run(
        ["gh", *arguments], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    of_broke = commands.add_parser("broke", help="print what failed with which new versions")
    for name in ("--before", "--after", "--log"):
        of_broke.add_argument(name, type=Path, required=True)
    of_issue = commands.add_parser("issue", help="open, update or close an issue (needs gh)")
    of_issue.add_argument("--title", required=True)
    of_issue.add_argument("--run", required=True, help="address of the workflow's run")
    of_issue.add_argument("--body", type=Path, help="a Markdown file; without it, all is well")
    given = parser.parse_args()
    try:
        if given.command == "broke":
            read = [
                path.read_text(encoding="utf-8", errors="replace")
                for path in (given.before, given.after, given.log)
            ]
            print(broke(*read), end="")
        else:
            body = given.body.read_text(encoding="utf-8") if given.body else None
            print(issue(given.title, given.run, body))
    except OSError as error:
        sys.exit(f"report: {error.filename} cannot be used: {error.strerror}. Next: name another.")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"report: gh {' '.join(error.cmd[1:3])} ended with status {error.returncode}: "
            f"{error.stderr.strip()} Next: check GH_TOKEN, GH_REPO and the job's permissions."
        )


if __name__ == "__main__":
    main()
