# ruff: noqa: T201
"""Check that this image's PyTorch is the one that was meant; needs no GPU.

Prints one line a finding. Exit status: 0 when all that was asked for holds, 1 when something
does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import metadata

import torch


def compiled_archs() -> list[str]:
    """Return the GPU architectures compiled in, such as sm_89; none in a CPU build.

    torch.cuda.get_arch_list() is of no use here: in 2.6 it answers [] where there is no GPU.
    """
    flags = torch._C._cuda_getArchFlags() if torch.version.cuda else None
    return flags.split() if flags else []


def findings(wanted: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    """Yield (holds, sentence) for each thing to check."""
    installed = metadata.version("torch")
    yield (
        installed == torch.__version__ == (wanted.torch or installed),
        f"torch {torch.__version__}, {installed} to pip, {wanted.torch or 'any'} wanted",
    )
    cuda = torch.version.cuda or "none"
    yield cuda == (wanted.cuda or cuda), f"CUDA {cuda}, {wanted.cuda or 'any'} wanted"

    archs = compiled_archs()
    missing = [a for a in wanted.arch if "sm_" + a.replace(".", "") not in archs]
    yield not missing, f"compiled for {' '.join(archs) or 'no GPU'}, missing {missing or 'none'}"

    two = torch.eye(2) * 2
    yield torch.allclose(torch.linalg.inv(two), torch.eye(2) / 2), "LAPACK answers"
    if torch.version.cuda:
        yield torch.distributed.is_nccl_available(), "NCCL is compiled in"
    if wanted.torchvision:
        import torchvision

        version = torchvision.__version__
        yield version == wanted.torchvision, f"torchvision {version}, {wanted.torchvision} wanted"
        if torch.version.cuda:
            yield torch.ops.torchvision._cuda_version() > 0, "torchvision has its CUDA operators"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", metavar="VERSION", help="exact version, local part included")
    parser.add_argument("--torchvision", metavar="VERSION")
    parser.add_argument("--cuda", metavar="X.Y", help="CUDA version, or none for a CPU build")
    parser.add_argument(
        "--arch",
        metavar="LIST",
        default=[],
        type=lambda text: text.replace(";", " ").split(),
        help='compute capabilities that must be compiled in, such as "7.5;8.0"',
    )
    failed = False
    for holds, sentence in findings(parser.parse_args()):
        print("ok  " if holds else "FAIL", sentence)
        failed = failed or not holds
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
