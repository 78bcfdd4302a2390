"""check_torch.py against a package that only looks like PyTorch: it must say no when it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .dockerfiles import STACK

LOOKS_LIKE_TORCH = """
from types import SimpleNamespace

__version__ = "2.6.0"
version = SimpleNamespace(cuda={cuda!r})
_C = SimpleNamespace(_cuda_getArchFlags=lambda: "sm_75 sm_89")
linalg = SimpleNamespace(inv=lambda matrix: 1 / matrix)
distributed = SimpleNamespace(is_nccl_available=lambda: True)
eye = lambda size: 1.0
allclose = float.__eq__
"""


def check(
    site: Path, *arguments: str, cuda: str | None = "12.6", to_pip: str = "2.6.0"
) -> tuple[int, str]:
    """Run check_torch.py on a torch that calls itself 2.6.0; return its exit status and output."""
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text(LOOKS_LIKE_TORCH.format(cuda=cuda))
    info = site / f"torch-{to_pip}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {to_pip}\n")
    done = subprocess.run(
        [sys.executable, STACK / "arr-pytorch-base" / "check_torch.py", *arguments],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_all_as_wanted(tmp_path: Path) -> None:
    code, said = check(tmp_path, "--torch", "2.6.0", "--cuda", "12.6", "--arch", "7.5;8.9")
    assert code == 0, said
    assert "compiled for sm_75 sm_89, missing none" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--torch", "2.7.1"), "FAIL torch 2.6.0, 2.6.0 to pip, 2.7.1 wanted"),
        (("--cuda", "none"), "FAIL CUDA 12.6, none wanted"),
        (("--arch", "7.5;9.0"), "FAIL compiled for sm_75 sm_89, missing ['9.0']"),
    ],
)
def test_another_torch_than_wanted(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    code, said = check(tmp_path, *arguments)
    assert code == 1
    assert complaint in said


def test_pip_must_see_the_version_that_python_sees(tmp_path: Path) -> None:
    code, said = check(tmp_path, to_pip="2.6.0a0+git1eba9b3")
    assert code == 1
    assert "FAIL torch 2.6.0, 2.6.0a0+git1eba9b3 to pip, any wanted" in said


def test_a_cpu_build_has_no_gpu_architecture(tmp_path: Path) -> None:
    code, said = check(tmp_path, "--cuda", "none", "--arch", "8.9", cuda=None)
    assert code == 1
    assert "FAIL compiled for no GPU, missing ['8.9']" in said
