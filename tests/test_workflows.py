"""The workflows: linted, pinned, with no right they do not need; and the steps that run here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
REPORT = ROOT / "tools" / "report.py"
BIN = Path(sys.executable).parent
LINTERS = {
    "actionlint": [str(BIN / "actionlint"), "-no-color"],
    "zizmor": [str(BIN / "zizmor"), "--offline", "--no-progress", "--color=never", ".github"],
}


def run(command: list[str], folder: Path, **options: Any) -> CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, **options
    )


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


JOBS = [
    pytest.param(job, id=f"{path.stem}: {name}")
    for path in WORKFLOWS
    for name, job in read(path)["jobs"].items()
]


# --- the files ----------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the workflows, to damage."""
    shutil.copytree(GITHUB, tmp_path / ".github")
    (tmp_path / ".git").mkdir()  # where actionlint takes the root of a repository to be
    return tmp_path


@pytest.mark.parametrize("linter", LINTERS)
def test_the_workflows_are_clean(linter: str) -> None:
    done = run(LINTERS[linter], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("linter", "old", "new", "said"),
    [
        ("actionlint", "runs-on: ubuntu-24.04", "runs-on: ubuntu-4.20", "ubuntu-4.20"),
        ("actionlint", "steps.environment.outputs", "steps.environs.outputs", "environs"),
        ("zizmor", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        ("zizmor", "run: make test", "run: echo ${{ github.head_ref }}", "template-injection"),
    ],
)
def test_a_damaged_workflow_is_not(
    copied: Path, linter: str, old: str, new: str, said: str
) -> None:
    path = copied / ".github/workflows/tests.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = run(LINTERS[linter], copied)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_action_is_a_commit_with_its_version_beside_it(path: Path) -> None:
    pinned = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    for line in path.read_text(encoding="utf-8").splitlines():
        if "uses: " in line and "uses: ./" not in line:
            assert pinned.search(line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_nothing_and_has_one_run_at_a_time(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_says_what_it_may_and_how_long(job: dict[str, Any]) -> None:
    assert job["permissions"]
    if "uses" not in job:  # a job that is another workflow has that one's limits
        assert 0 < job["timeout-minutes"] <= 240


@pytest.mark.parametrize("job", JOBS)
def test_what_may_write_runs_no_code_of_a_dependency(job: dict[str, Any]) -> None:
    if "write" in job["permissions"].values():
        scripts = " ".join(step.get("run", "") for step in job["steps"])
        assert not re.search(r"\bmake\b|\bpip\b|\.venv|npm", scripts)


# --- updates ------------------------------------------------------------------------------------


def test_the_bot_finds_the_pins_and_keeps_the_bounds() -> None:
    bot = json.loads((GITHUB / "renovate.json").read_text(encoding="utf-8"))
    (pattern,) = bot["pip_requirements"]["managerFilePatterns"]
    assert re.search(pattern.strip("/"), "requirements.lock")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounded = dict(re.findall(r'"([a-z][\w-]*)(?:>=[\d.a-z]+,)?(<[\d.]+)"', project))
    kept = {
        name: rule["allowedVersions"]
        for rule in bot["packageRules"]
        for name in rule.get("matchPackageNames", [])
        if "allowedVersions" in rule
    }
    assert kept == bounded


# --- the archive of the site --------------------------------------------------------------------


def script(workflow: str, job: str, step: str) -> str:
    (found,) = [
        each["run"]
        for each in read(GITHUB / "workflows" / workflow)["jobs"][job]["steps"]
        if each.get("name") == step
    ]
    assert "${{" not in found, "an expression would be filled in by GitHub"
    return str(found)


def test_the_archive_is_the_same_for_the_same_site_and_fits_its_checksum(tmp_path: Path) -> None:
    step = script("publish.yml", "build", "Archive it so that the same site gives the same bytes")
    archives = []
    for name, order in (("one", "ab"), ("two", "ba")):
        folder = tmp_path / name
        site = folder / "_build" / "html"
        site.mkdir(parents=True)
        for page in order:
            (site / f"{page}.html").write_text(page, encoding="utf-8")
        (site / ".built").touch()
        (folder / "_build" / "mlk8s.pdf").write_bytes(b"%PDF")
        author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        commit = [*author, "commit", "--quiet", "--allow-empty", "-m", "x"]
        day = {"GIT_AUTHOR_DATE": "@1 +0000", "GIT_COMMITTER_DATE": "@1 +0000"}
        for command in (["init", "--quiet"], commit):
            done = run(["git", *command], folder, env={"PATH": "/usr/bin:/bin", **day})
            assert done.returncode == 0, done.stderr
        done = run(
            ["bash", "-eo", "pipefail", "-c", step],
            folder,
            env={"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": "v1.2.3"},
        )
        assert done.returncode == 0, done.stderr
        release = folder / "release"
        archive = release / "mlk8s-site-v1.2.3.tar.gz"
        files = [archive.name, "mlk8s-v1.2.3.pdf"]
        assert sorted(path.name for path in release.iterdir()) == sorted(
            [*files, *(f"{file}.sha256" for file in files)]
        )
        checked = run(["sha256sum", "--check", *(f"{file}.sha256" for file in files)], release)
        assert checked.returncode == 0, checked.stderr
        archives.append(archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    listed = run(["tar", "--list", "--file", str(archives[0])], tmp_path).stdout.split()
    assert listed == ["./", "./a.html", "./b.html"]


# --- what a weekly run reports ------------------------------------------------------------------

Report = Callable[..., CompletedProcess[str]]

#: Stands in for GitHub's own program: answers `issue list`, and writes down what it is told.
GH = """#!{python}
import json, os, sys
from pathlib import Path
state = Path(os.environ["STATE"])
arguments = sys.argv[1:]
if arguments[:2] == ["issue", "list"]:
    print((state / "open.json").read_text())
    sys.exit()
if (state / "refuses").exists():
    sys.exit("HTTP 403: Resource not accessible by integration")
with (state / "calls").open("a") as calls:
    calls.write(json.dumps([arguments, sys.stdin.read()]) + "\\n")
if arguments[:2] == ["issue", "create"]:
    print("https://github.example/issues/9")
"""


@pytest.fixture
def github(tmp_path: Path) -> Path:
    """A folder with ``gh`` and its state: no issue is open."""
    program = tmp_path / "gh"
    program.write_text(GH.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "open.json").write_text("[]", encoding="utf-8")
    (tmp_path / "body.md").write_text("It broke.\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def issue(github: Path) -> Report:
    """The command for one title; further arguments follow."""
    environment = {"PATH": f"{github}:/usr/bin:/bin", "STATE": str(github)}
    command = [
        sys.executable,
        str(REPORT),
        "issue",
        "--title",
        "It",
        "--run",
        "https://run.example",
    ]
    return lambda *more: run([*command, *more], github, env=environment)


def calls(github: Path) -> list[tuple[list[str], str]]:
    path = github / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_finding_opens_an_issue(github: Path, issue: Report) -> None:
    done = issue("--body", "body.md")
    assert (done.returncode, done.stdout) == (0, "https://github.example/issues/9\n")
    (label, _), (created, text) = calls(github)
    assert label[:3] == ["label", "create", "upkeep"]
    assert created[:4] == ["issue", "create", "--title", "It"]
    assert "It broke." in text
    assert "https://run.example" in text


def test_the_next_finding_updates_it(github: Path, issue: Report) -> None:
    known = [{"number": 7, "title": "It"}, {"number": 8, "title": "It too"}]
    (github / "open.json").write_text(json.dumps(known), encoding="utf-8")
    assert issue("--body", "body.md").stdout == "Updated issue 7.\n"
    ((arguments, text),) = calls(github)
    assert arguments[:3] == ["issue", "edit", "7"]
    assert "It broke." in text


def test_a_good_run_closes_it(github: Path, issue: Report) -> None:
    (github / "open.json").write_text('[{"number": 7, "title": "It"}]', encoding="utf-8")
    assert issue().stdout == "Closed issue 7.\n"
    ((arguments, _),) = calls(github)
    assert arguments[:3] == ["issue", "close", "7"]


def test_a_good_run_with_no_issue_does_nothing(github: Path, issue: Report) -> None:
    done = issue()
    assert (done.returncode, done.stdout) == (0, "All is well, and no issue is open.\n")
    assert calls(github) == []


def test_a_refusal_of_github_is_said_with_the_next_step(github: Path, issue: Report) -> None:
    (github / "refuses").touch()
    done = issue("--body", "body.md")
    assert done.returncode == 1
    assert "HTTP 403" in done.stderr
    assert "Next: check GH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_body_that_is_missing_is_named(issue: Report) -> None:
    done = issue("--body", "none.md")
    assert done.returncode == 1
    assert "none.md" in done.stderr
    assert "Traceback" not in done.stderr


LOG = """\
tests/test_a.py .F
src/mlk8s/cli.py:10: error: Incompatible types  [assignment]
FAILED tests/test_a.py::test_one - assert ````1```` == 2
FAILED tests/test_a.py::test_one - assert ````1```` == 2
make: *** [Makefile:57: test] Error 1
"""


def broke(folder: Path, before: str, after: str, log: str) -> str:
    texts = {"before": before, "after": after, "log": log}
    arguments = []
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        arguments += [f"--{name}", name]
    done = run([sys.executable, str(REPORT), "broke", *arguments], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_report_names_new_versions_and_the_lines_that_tell(tmp_path: Path) -> None:
    text = broke(tmp_path, "a==1\nb==2\nc==3\n", "a==1\nb==2.1\nd==4\n", LOG)
    assert "| b | 2 | 2.1 |\n| c | 3 | – |\n| d | – | 4 |" in text
    assert "| a |" not in text
    failed = text.split("## New versions")[0]
    assert failed.count("FAILED tests/test_a.py::test_one") == 1
    assert "cli.py:10: error: Incompatible" in failed
    assert "make: *** [Makefile:57: test] Error 1" in failed
    assert "test_a.py .F" not in failed
    assert "\n`````\n" in failed, "the fence is longer than any in the log"


def test_a_report_fits_into_an_issue(tmp_path: Path) -> None:
    line = "FAILED tests/test_a.py::test_{} - " + "x" * 200
    log = "\n".join(line.format(number) for number in range(5000))
    lock = "\n".join(f"package-{number}==1" for number in range(400))
    assert len(broke(tmp_path, lock, lock.replace("==1", "==2"), log)) < 65_000
    assert "None: the resolution" in broke(tmp_path, lock, lock, "")


def test_the_tool_teaches() -> None:
    done = run([sys.executable, str(REPORT), "--help"], ROOT)
    assert done.returncode == 0
    assert "close it" in done.stdout
