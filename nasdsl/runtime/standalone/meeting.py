"""How processes that `torchrun` started together find each other."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist

from nasdsl.runtime.standalone.basics import WrongUse, pick_device

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it counts them as lost."""

NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What of the environment one of several processes must find."""
LAUNCHED = (*NEEDED, "TORCHELASTIC_RUN_ID")
"""What of it makes a process one of several."""


def started_again() -> bool:
    """Whether `torchrun` repeats a command for the user."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return count.isdecimal() and int(count) > 0


def processes_here() -> tuple[int, int]:
    """How many processes were started together, and the number of this one on its machine.

    Raises:
        WrongUse: an environment in which some other launcher has said only half of it, or no number.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        return 1, 0
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise WrongUse(
            f"WORLD_SIZE is {world} and there is no {', '.join(missing)}: start several processes with torchrun "
            "--nproc-per-node N search.py ..., or unset WORLD_SIZE for one"
        )
    _number("RANK", 0)
    return world, _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or (name == "WORLD_SIZE" and int(text) == 0):
        raise WrongUse(
            f"{name}={text} in the environment is no number of processes: start several with torchrun, "
            "or unset it for one"
        )
    return int(text)


def device_among(device: str, local: int) -> torch.device:
    """The device of one of several processes of a machine."""
    found = pick_device(device)
    if found.type not in ("cpu", "cuda"):
        raise WrongUse(f"--device {device}: several processes compute on cpu or cuda")
    if found.type == "cuda":
        if ":" in device:
            raise WrongUse(f"--device {device}: several processes take a GPU each; write --device cuda")
        if local >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise WrongUse(f"{local + 1} processes or more on a machine with {count} GPUs: start {count}")
        found = torch.device("cuda", local)
        torch.cuda.set_device(found)
    return found


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
