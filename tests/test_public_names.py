"""The names that users import, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import crl

PUBLIC = [name for name in crl.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", PUBLIC)
def test_no_module_hides_a_public_name(name):
    """`crl.evaluate` was a module once, and hid the function as soon as anything imported it."""
    folder = Path(crl.__file__).parent
    assert not (folder / f"{name}.py").exists()
    assert not (folder / name).exists()
    assert getattr(crl, name) is not None


def run(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True,
                          check=True)
    return done.stdout.strip()


def test_a_users_own_envs_and_agents_are_never_shadowed_nor_shadow_ours(tmp_path):
    for package in ("envs", "agents"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"MINE = '{package}'\n")
    code = ("import envs, agents, crl, crl.envs, crl.agents.sac; "
            "print(envs.MINE, agents.MINE, crl.envs.__name__, len(crl.make_stream('quick3')))")
    assert run(code, tmp_path) == "envs agents crl.envs 3"
    listing = subprocess.run([sys.executable, "-m", "crl", "list", "agents"], cwd=tmp_path,
                             capture_output=True, text=True, check=True)
    assert "sac" in listing.stdout


@pytest.mark.parametrize("module", ["crl", "crl.metrics", "crl.registry", "crl.deploy", "crl.cli",
                                    "crl.tables", "crl.progress"])
def test_light_modules_do_not_import_torch(module, tmp_path):
    assert run(f"import sys, {module}; print('torch' in sys.modules)", tmp_path) == "False"


def test_listing_streams_imports_neither_torch_nor_metaworld(tmp_path):
    code = ("import sys; from crl.tables import names_table; names_table('streams'); "
            "names_table('tasks'); print({'torch', 'metaworld', 'mujoco'} & set(sys.modules))")
    assert run(code, tmp_path) == "set()"


def test_training_does_import_torch(tmp_path):
    assert run("import sys, crl.training; print('torch' in sys.modules)", tmp_path) == "True"
