"""The repository around the package: workflows, templates, Docker files, and the sdist and wheel of a release."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import tideo
from conftest import REPOSITORY

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
DOCKERFILES = [REPOSITORY / "Dockerfile", REPOSITORY / "Dockerfile.gpu"]
PAGES = [
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
MAKE = re.compile(r"(?:^|[\s`])make (?:[A-Z]+=\S+ )*([a-z][a-z-]*)", re.MULTILINE)


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict), f"{path.name} is not a mapping"
    return content


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return load(path)["jobs"]


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job.get("steps", [])]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def code_of(markdown: str) -> str:
    """The fenced blocks and the code spans of a page, a line each."""
    fences = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", markdown, re.MULTILINE | re.DOTALL)
    return "\n".join([*fences, *re.findall(r"`([^`\n]+)`", markdown)])


# -- GitHub ------------------------------------------------------------------------------------------------------


def test_the_workflows_and_templates_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "docs.yml", "release.yml"]
    assert [path.name for path in FORMS] == ["bug.yml", "config.yml", "feature.yml"]
    assert (GITHUB / "PULL_REQUEST_TEMPLATE.md").is_file()


@pytest.mark.parametrize("path", WORKFLOWS, ids=relative)
def test_a_workflow_names_its_triggers_rights_and_limits(path: Path) -> None:
    workflow = load(path)
    assert workflow[True], "`on:`, which YAML 1.1 reads as true"
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        if "uses" in job:  # another workflow of ours, with limits of its own
            assert (REPOSITORY / job["uses"]).is_file()
            continue
        assert job["timeout-minutes"] <= 120, name
        assert all(("run" in step) != ("uses" in step) for step in job["steps"]), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=relative)
def test_actions_are_pinned_by_major_version(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@(release/)?v\d+", action), action


@pytest.mark.parametrize(
    "path",
    [*WORKFLOWS, *FORMS, GITHUB / "PULL_REQUEST_TEMPLATE.md", REPOSITORY / ".ci" / "run", *PAGES],
    ids=relative,
)
def test_each_make_target_named_is_in_the_makefile(path: Path) -> None:
    if path in WORKFLOWS:
        text = "\n".join(step.get("run", "") for step in steps(path))
    elif path.suffix in {".md", ".yml"}:
        text = code_of(path.read_text())
    else:
        text = path.read_text()
    assert set(MAKE.findall(text)) <= make_targets()


def test_what_names_a_make_target_is_found() -> None:
    page = (
        "Run `make lint`, or make haste.\n\n```sh\nmake PYTHON=/usr/bin/python3 test  # or make docs\n```\n"
    )
    assert set(MAKE.findall(code_of(page))) == {"lint", "test", "docs"}
    assert {"install", "test", "test-slow", "test-gpu", "lint", "docs", "demo"} <= make_targets()


def test_both_kinds_of_ci_run_every_check() -> None:
    checks = {"install", "lint", "docs", "test-slow", "test"}
    assert set(MAKE.findall((REPOSITORY / ".ci" / "run").read_text())) == checks
    assert (
        set(MAKE.findall("\n".join(step.get("run", "") for step in steps(GITHUB / "workflows" / "ci.yml"))))
        == checks
    )


def test_ci_runs_the_versions_of_python_that_the_metadata_names() -> None:
    named = [
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r".* :: (3\.\d+)", line)) is not None
    ]
    assert jobs(GITHUB / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=relative)
def test_an_issue_form_has_what_github_requires(path: Path) -> None:
    form = load(path)
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"]]
    assert len(fields) == len(set(fields))
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]
        assert field["type"] not in {"dropdown", "checkboxes"} or field["attributes"]["options"]
    assert any(field.get("validations", {}).get("required") for field in form["body"])


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v{}", "## {} (2026-01-01)\n", None),
        ("v9.9.9", "## {} (2026-01-01)\n", "the tag is v9.9.9, the version {}"),
        ("v{}", "## Unreleased\n", "CHANGELOG.md has no section {}"),
    ],
)
def test_a_release_needs_the_tag_of_its_version(
    tag: str, changelog: str, message: str | None, tmp_path: Path
) -> None:
    script = next(
        step["run"] for step in steps(GITHUB / "workflows" / "release.yml") if "tag" in step.get("name", "")
    )
    version = tideo.__version__
    (tmp_path / "CHANGELOG.md").write_text(changelog.format(version))
    (tmp_path / "src").symlink_to(REPOSITORY / "src")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "GITHUB_REF_NAME": tag.format(version)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == (0 if message is None else 1), ran.stderr
    assert ran.stdout == ("" if message is None else message.format(version) + "\n")


def test_the_citation_names_the_version() -> None:
    assert load(REPOSITORY / "CITATION.cff")["version"] == tideo.__version__


# -- Docker: no engine reads these files here, so simple rules do -------------------------------------------------


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments), with lines that end in a backslash joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.strip().split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(arguments.split())) for name, arguments in pairs]


def arguments_of(path: Path, name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions(path) if instruction == name]


def is_sent(source: str) -> bool:
    """Whether .dockerignore leaves the file: the last pattern that fits decides, as in Docker."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    ignored = False
    for pattern in (line for line in lines if line and not line.startswith("#")):
        if fnmatch.fnmatch(source, pattern.removeprefix("!")):
            ignored = not pattern.startswith("!")
    return not ignored


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_a_dockerfile_copies_what_is_there_and_what_a_build_needs(path: Path) -> None:
    known = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    names = [name for name, _ in instructions(path)]
    assert set(names) <= known
    sources = [source for copy in arguments_of(path, "COPY") for source in shlex.split(copy)[:-1]]
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert is_sent(source), f"{source} is in .dockerignore"
    # The build reads the version, the readme and the licence; pip the constraints.
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src", "constraints.txt"} == set(
        sources
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_a_dockerfile_installs_extras_that_exist(path: Path) -> None:
    defaults = dict(argument.split("=", 1) for argument in arguments_of(path, "ARG"))
    installs = [run for run in arguments_of(path, "RUN") if "pip install" in run]
    assert all("-c constraints.txt" in run for run in installs)
    extras = [found[1] for run in installs if (found := re.search(r'"\.\[(.+)\]"', run)) is not None]
    assert extras == ["${EXTRAS}"]
    assert set(defaults["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    used = set(re.findall(r"\$\{(\w+)\}", path.read_text()))
    assert used == set(defaults) - {"PIP_EXTRA_INDEX_URL"}  # pip reads it from the environment


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_a_container_runs_tideo_and_not_as_root(path: Path) -> None:
    user = arguments_of(path, "USER")[-1]
    assert user != "root"
    assert any(f"useradd --create-home {user}" in run for run in arguments_of(path, "RUN"))
    assert arguments_of(path, "ENTRYPOINT") == ['["tideo"]']
    assert PROJECT["scripts"]["tideo"] == "tideo.cli:main"


def test_the_base_images() -> None:
    cpu, gpu = DOCKERFILES
    assert arguments_of(cpu, "FROM") == ["python:3.11-slim"]
    assert "PIP_EXTRA_INDEX_URL=" in arguments_of(cpu, "ARG")
    base = dict(argument.split("=", 1) for argument in arguments_of(gpu, "ARG"))["BASE"]
    assert re.fullmatch(r"nvidia/cuda:[\d.]+-runtime-ubuntu24\.04", base)


# -- The sdist and the wheel -------------------------------------------------------------------------------------


def test_the_versions_that_build_a_release_are_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower() for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    }
    assert {"build", "hatchling", "pyproject_hooks", "trove-classifiers"} <= pinned


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it, as the release workflow builds them."""
    folder = tmp_path_factory.mktemp("dist")
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"tideo-{tideo.__version__}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    source = REPOSITORY / "src"
    package = {
        str(path.relative_to(source))
        for path in (source / "tideo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = f"tideo-{tideo.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == package
    assert {metadata + "entry_points.txt", metadata + "licenses/LICENSE"} <= names
    for pattern in (
        "tideo/py.typed",
        "tideo/evaluate/report.html.j2",
        "tideo/evaluate/report.js",
        "tideo/recipes/*.json",
        "tideo/textvid/packs/*.toml",
        "tideo/assets/dollhouse-topa/*.safetensors",
        "tideo/assets/dollhouse-fusion/fusion.json",
    ):
        assert fnmatch.filter(names, pattern), f"the wheel has no {pattern}"


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tested = [
        "tests/conftest.py",
        "examples/plugin/quiz.py",
        "speed/decode.py",
        "docs/index.md",
        "mkdocs.yml",
    ]
    files = [
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "constraints.txt",
        ".dockerignore",
        ".ci/run",
    ]
    around = [relative(path) for path in [*WORKFLOWS, *FORMS, *DOCKERFILES]]
    assert not {*tested, *files, *around} - names


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)

    def run(*args: str, package: Path) -> str:
        env = {**os.environ, "PYTHONPATH": str(package), "NO_COLOR": "1", "COLUMNS": "100"}
        ran = subprocess.run(
            [sys.executable, *args], cwd=elsewhere, env=env, capture_output=True, text=True, timeout=300
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    imported = run("-c", "import tideo; print(tideo.__file__)", package=site)
    assert Path(imported.strip()).is_relative_to(site)
    assert run("-m", "tideo", "--version", package=site).split()[-1] == tideo.__version__
    for kind in ("recipes", "models", "benchmarks"):
        listed = run("-m", "tideo", "list", kind, package=site)
        assert len(listed.splitlines()) > 3
        assert listed == run("-m", "tideo", "list", kind, package=REPOSITORY / "src")
