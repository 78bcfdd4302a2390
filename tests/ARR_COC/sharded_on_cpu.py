"""The trainer with FSDP on CPUs, which Accelerate 1.15 offers on accelerators only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

from accelerate.state import AcceleratorState  # noqa: E402
from accelerate.utils import DistributedType  # noqa: E402

from ARR_COC.Training import train  # noqa: E402

_stock = AcceleratorState.__init__


def _sharding(self: AcceleratorState, *arguments: Any, **options: Any) -> None:
    _stock(self, *arguments, **options)
    if options.get("fsdp_plugin") is not None:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = options["fsdp_plugin"]


if __name__ == "__main__":
    AcceleratorState.__init__ = _sharding
    raise SystemExit(train.main(sys.argv[1:], os.environ))
