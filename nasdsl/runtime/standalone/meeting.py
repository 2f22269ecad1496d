"""How processes that `torchrun` started together find each other."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it counts them as lost."""

NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What of the environment one of several processes must find."""
LAUNCHED = (*NEEDED, "TORCHELASTIC_RUN_ID")
"""What of it makes a process one of several."""


def connect(device: torch.device, rank: int, world: int) -> Any:
    """Joins the processes: NCCL between GPUs, gloo otherwise.

    Returns:
        The group by which the hosts tell each other things: that must not wait for a GPU.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    store, c10d = None, cast(Any, dist)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        whole = c10d.TCPStore(address, port, is_master=False, timeout=PATIENCE)
        store = c10d.PrefixStore(attempt(whole, rank, world), whole)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    return dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)


def attempt(store: Any, rank: int, world: int) -> str:
    """A word that the processes which were started together share, and those before them did not.

    The store of `torchrun` outlives a restart with all that ended processes wrote, addresses among it (seen in
    PyTorch 2.13), and nothing else tells one start from another on all machines. So the first process offers a
    word, and every other one takes it once its own word was answered under it: an old offer answers nobody.

    Raises:
        RuntimeError: the others did not come.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("nasdsl", own)
        others = [store.get(f"{own}/{other}").decode() for other in range(1, world)]
        for other in others:
            store.set(f"{own}/{other}", "")
        return own
    end = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < end:
        offered: str = store.get("nasdsl").decode()
        store.set(f"{offered}/{rank}", own)
        for _ in range(10):
            if store.check([f"{offered}/{own}"]):
                return offered
            time.sleep(0.05)
    raise RuntimeError("the first process did not answer")
