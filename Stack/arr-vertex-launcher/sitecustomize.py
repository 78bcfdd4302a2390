"""Loaded by every Python of the image, so it costs nothing: it only waits for W&B's launch agent.

The moment the agent's module is imported, wandb_vertex_patch is applied to it. If that cannot be
done the process ends at once with code 78: an unpatched agent would train on-demand, at full price.
"""

import sys

AGENT = "wandb.sdk.launch.agent.agent"


class _WaitForTheAgent:
    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != AGENT:
            return None
        sys.meta_path.remove(_WaitForTheAgent)
        try:
            import wandb_vertex_patch

            return wandb_vertex_patch.spec_that_applies(name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, no agent without the patch
            import os

            print(f"arr: the agent does not start: the patch failed: {error!r}", file=sys.stderr)  # noqa: T201
            sys.stderr.flush()
            os._exit(78)


sys.meta_path.insert(0, _WaitForTheAgent)
