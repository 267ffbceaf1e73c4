"""Private parts of Ray that count accelerators, without what runs anything."""

from __future__ import annotations

from ray._private.accelerators import get_accelerator_manager_for_resource


def gpus_here() -> int:
    """How many GPUs Ray would count if it were started on this machine.

    Stands in for a way to ask without starting it.
    """
    manager = get_accelerator_manager_for_resource("GPU")
    count = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    return int(count if visible is None else min(count, len(visible)))
