"""``embshare`` where FSDP2 shards the model over processes without an accelerator.

Accelerate shards on accelerators alone, and takes the variables of ``accelerate launch --use_fsdp``
for nothing elsewhere. The sharding itself works over gloo, so this tells accelerate to do it.
"""

from __future__ import annotations

from typing import Any

from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from accelerate.utils import DistributedType  # type: ignore[import-untyped]

from embshare.cli import main

VARIABLES = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "NO_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def _shard_anyway() -> None:
    begin = AcceleratorState.__init__

    def sharding(self: Any, *arguments: Any, **given: Any) -> None:
        begin(self, *arguments, **given)
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = given.get("fsdp_plugin") or self.fsdp_plugin

    AcceleratorState.__init__ = sharding


if __name__ == "__main__":
    _shard_anyway()
    main()
