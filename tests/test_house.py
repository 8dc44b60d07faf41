"""The laws of docs/house.md that code can check."""

import ast
import dataclasses
import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("distill", "pipelines", "teachers") for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, inside_functions: bool) -> set[str]:
    """Dotted names of what a module imports when it is imported, or also later."""
    found = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.update({str(child.module)} | {f"{child.module}.{alias.name}" for alias in child.names})
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not typing_only and (inside_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
                walk(child)

    walk(ast.parse(path.read_text()))
    return found


def room(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def touches(found: set[str], *packages: str) -> set[str]:
    return {name for name in found for package in packages if name == package or name.startswith(package + ".")}


def test_imports_run_downward():
    """The contract in pyproject.toml, inside functions too."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_what_is_heavy_is_loaded_where_it_is_needed(path):
    assert not touches(imports(path, False), "tensorflow", "matplotlib", "skimage", "PIL")


@pytest.mark.parametrize("room", ["models", "losses", "training"])
def test_training_is_of_no_backend(room):
    for path in (ROOT / "distill" / room).glob("*.py"):
        assert not touches(imports(path, True), "tensorflow", "jax", "torch"), path


def test_importing_the_packages_loads_nothing_heavy():
    heavy = "import sys, distill, pipelines, teachers, distill.cli; print([n for n in ('tensorflow', 'keras', 'apache_beam', 'jax', 'matplotlib') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    watched = "import sys, runpy; sys.argv = ['distill', '--help']\ntry: runpy.run_module('distill.cli', run_name='__main__')\nexcept SystemExit: pass\n"
    code = watched + "print([n for n in ('tensorflow', 'apache_beam', 'pyarrow', 'numpy') if n in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith("[]") and "embed" in printed


def test_no_room_for_odds_and_ends():
    assert not {path.stem for path in MODULES} & {"utils", "util", "common", "helpers", "misc", "base", "core"}


def test_every_room_says_what_it_guarantees():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_global_randomness_and_no_unsafe_reading():
    banned = re.compile(
        r"np\.random\.(seed|rand|randn|randint|choice|shuffle)\(|^import random|\bpickle\.load|\beval\(|\bexec\(|allow_pickle=True|safe_mode=False", re.M
    )
    for path in MODULES:
        assert not banned.search(path.read_text()), path


def test_a_job_is_a_small_frozen_value(tmp_path):
    from pipelines.job import Job
    from teachers import Teacher

    job = Job(source=str(tmp_path), out=str(tmp_path / "out"), root=str(tmp_path), teacher=Teacher(str(tmp_path), "saved_model"))
    assert pickle.loads(pickle.dumps(job)) == job and len(pickle.dumps(job)) < 1500
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.rows = 1


def test_the_repository_names_no_package_index_and_no_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    banned = re.compile("files.python" + "hosted|pypi.org/" + "simple|[\"' (=](/" + "root/|/" + "work/)")
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".txt", ".toml", ".yaml", ".yml", "") and path.is_file():
            assert not banned.search(path.read_text(errors="ignore")), name


def test_the_command_line_names_every_engine():
    from distill.cli import data
    from pipelines.engines import ENGINES

    assert set(data.ENGINES) == set(ENGINES)


def test_code_that_another_process_is_given_as_a_text_names_what_is_there():
    """No tool that moves a function finds its name in `python -c "from pipelines.services import work; work()"`."""
    texts = [
        node.value
        for room in ("distill", "pipelines", "teachers")
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    named = [found for text in texts for found in re.findall(r"^from ((?:distill|pipelines|teachers)[\w.]*) import (\w+);", text)]
    assert named, "no worker process is begun by a text any more: this test can go"
    for module, name in named:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
