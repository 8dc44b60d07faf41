"""The image and the installation: what Dockerfile, Makefile and constraints.txt say agrees with each other and with pyproject.toml.

Building the image needs base images from a registry, so this reads the Dockerfile, and runs the steps of it that need no image.
"""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [Requirement(line) for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for line in lines]


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, continued lines joined as Docker joins them."""
    text = "".join(line for line in (ROOT / "Dockerfile").read_text().splitlines(keepends=True) if not line.startswith("#"))
    return [tuple(line.split(None, 1)) for line in text.replace("\\\n", "").splitlines() if line.strip()]  # type: ignore[misc]


def arguments() -> dict[str, str]:
    """Build arguments with a default, names within them replaced."""
    found: dict[str, str] = {}
    for name, rest in instructions():
        if name == "ARG" and "=" in rest:
            key, value = rest.split("=", 1)
            found.setdefault(key, re.sub(r"\$\{(\w+)\}", lambda match: found[match[1]], value))
    return found


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def pinned(name: str, python: str) -> str:
    """The one version that constraints.txt gives a package under that Python on Linux."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    (found,) = (pin for pin in pins() if pin.name == name and (pin.marker is None or pin.marker.evaluate(here)))
    return str(found.specifier).removeprefix("==")


def test_the_image_has_the_beam_of_the_constraints() -> None:
    assert arguments()["BEAM"] == pinned("apache-beam", arguments()["PYTHON"]) == version("apache-beam")


def test_the_image_has_a_python_of_the_project() -> None:
    given = arguments()
    assert f"{given['PYTHON']}.0" in SpecifierSet(PROJECT["requires-python"])
    assert given["BASE"] == f"python:{given['PYTHON']}-slim"
    images = [rest for name, rest in instructions() if name == "FROM"]
    assert images == ["apache/beam_python${PYTHON}_sdk:${BEAM} AS beam", "${BASE}"]
    assert ("COPY", "--from=beam /opt/apache/beam /opt/apache/beam") in instructions()
    assert instructions()[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')


def test_what_the_image_copies_is_there() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    copied = [source for name, rest in instructions() if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert ignore[0] == "*"
        assert f"!{source}" in ignore, f".dockerignore keeps {source} out"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} <= set(copied)
    assert {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)


@pytest.mark.parametrize("gpu", ["", "1"])
def test_the_image_installs_what_the_project_needs(tmp_path: Path, gpu: str) -> None:
    (step,) = (rest.partition(" &&")[0] for name, rest in instructions() if name == "RUN" and "tomllib" in rest)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-euc", step], cwd=tmp_path, env={**os.environ, "PATH": path, "GPU": gpu}, check=True)
    extras = PROJECT["optional-dependencies"]
    expected = [*PROJECT["dependencies"], *extras["dataflow"], *(extras["gpu"] if gpu else [])]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == expected


def test_constraints_are_versions_and_nothing_else() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://|@|\bfile:|^-|/", text, re.MULTILINE)
    assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) for pin in pins())


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_has_a_version(python: str) -> None:
    for requirement in REQUIREMENTS:
        assert pinned(requirement.name, python) in requirement.specifier, requirement


def test_the_makefile_makes_what_is_promised() -> None:
    text = (ROOT / "Makefile").read_text()
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "test-all", "check", "bench", "golden", "help"):
        assert re.search(rf"^{target}:", text, re.MULTILINE)
        assert f"make {target} " in told
    for python in ("3.11", "3.12", "3.13"):
        assert f"{python}.5" in SpecifierSet(PROJECT["requires-python"])
        assert f"python{python}" in text
    assert "3.14.0" not in SpecifierSet(PROJECT["requires-python"])


def test_the_makefile_passes_over_a_python_that_does_not_run(tmp_path: Path) -> None:
    """A stub that only prints an error stands before the real one, as pyenv leaves them."""
    stub, real = tmp_path / "stub", tmp_path / "real"
    for folder in (stub, real):
        folder.mkdir()
    (stub / "python3.11").write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
    (stub / "python3.11").chmod(0o755)
    (real / "python3.11").symlink_to(sys.executable)
    plan = subprocess.run(["make", "-n", "-B", "check", "UV="], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    search = re.search(r"python=\$\((for name in .*?; done)\)", plan, re.DOTALL)
    assert search
    path = os.pathsep.join(map(str, (stub, real, "/usr/bin", "/bin")))
    found = subprocess.run(["bash", "-c", search[1].replace("; import ensurepip", "")], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(real / "python3.11")


def test_the_check_of_every_commit_is_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail"
    assert lines[-1] == "exec make test"


def test_no_file_of_the_installation_names_an_address() -> None:
    for name in ("Makefile", "Dockerfile", ".ci/run", ".pre-commit-config.yaml", "constraints.txt", "pyproject.toml", ".dockerignore"):
        assert "://" not in (ROOT / name).read_text(), name


def test_the_license_is_the_one_that_is_named() -> None:
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert PROJECT["license"] == "Apache-2.0"
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
