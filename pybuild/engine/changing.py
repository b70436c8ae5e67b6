"""Changing containers that are there: pause, rename, the size of a terminal, and removing all that are over.

Not here: their life (containers.py).
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pybuild.engine.containers import DEFAULT_CGROUP_PARENT, Container, Containers
from pybuild.engine.names import check_name
from pybuild.engine.options import Restart
from pybuild.engine.records import Record
from pybuild.engine.usage import counter
from pybuild.errors import Conflict, EngineError, NotFound
from runner.container.limits import settings as limit_settings
from runner.container.state import write_state
from runner.errors import NoSuchContainer
from runner.kernel.cgroups import Cgroup


def pause(containers: Containers, container: Container) -> None:
    """Stop all its processes where they are. Raises Conflict: it does not run, or is paused already."""
    _freeze(containers, container, wanted=True)


def unpause(containers: Containers, container: Container) -> None:
    """Let them go on. Raises Conflict: it is not paused."""
    _freeze(containers, container, wanted=False)


def _freeze(containers: Containers, container: Container, *, wanted: bool) -> None:
    record = container.record
    with containers.records.locked(record.id):
        state = containers.get(record.id).state
        if state.status != "running":
            raise Conflict(f"Container {record.name} is not running")
        if state.paused == wanted:
            raise Conflict(f"Container {record.name} is {'already' if wanted else 'not'} paused")
        cgroup = cgroup_of(record)
        if wanted and not cgroup.freeze():
            cgroup.thaw()
            raise EngineError(f"container {record.name} could not be frozen", hint="this needs a freezer cgroup")
        if not wanted:
            cgroup.thaw()
        write_state(containers.records.of(record.id), replace(state, paused=wanted))
    containers.tell(record, "pause" if wanted else "unpause")


def cgroup_of(record: Record) -> Cgroup:
    parent = "/" + (record.options.cgroup_parent or DEFAULT_CGROUP_PARENT).strip("/")
    return Cgroup.named(f"{parent}/{record.id}")


def rename(containers: Containers, container: Container, name: str) -> Record:
    """Give a container another name. Raises Conflict when somebody has it, UsageError when it is none."""
    old = container.record.name
    if name == old:
        raise Conflict("Renaming a container with the same name as its current name")
    with containers.records.locked(container.record.id):
        record = containers.records.rename(container.record, check_name(name))
    containers.tell(record, "rename", oldName=f"/{old}")
    return record


def update(
    containers: Containers, container: Container, limits: Mapping[str, Any], policy: Restart | None
) -> list[str]:
    """Change limits, at once if it runs, and the restart policy. Returns what the kernel refused.

    Args:
        containers: where it lives.
        container: which one.
        limits: fields of Resources with their new values.
        policy: None: as it is.
    """
    warnings: list[str] = []
    with containers.records.locked(container.record.id):
        record = containers.records.load(container.record.id)
        options = record.options
        resources = replace(options.resources, **limits)
        if 0 < resources.memory_swap < resources.memory:
            raise Conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same "
                "time"
            )
        if containers.is_running(record.id):
            cgroup = cgroup_of(record)
            settings = limit_settings(resources, cgroup.hierarchies.driver)
            for setting in settings:  # of memory and memory with swap one may have to come before the other
                cgroup.apply(setting)
            cgroup.warnings.clear()
            for setting in settings:
                cgroup.apply(setting)
            warnings = cgroup.warnings
        changed = replace(options, resources=resources, restart=policy or options.restart)
        containers.records.put(replace(record, options=changed))
    containers.tell(record, "update")
    return warnings


def resize(containers: Containers, container: Container, rows: int, columns: int) -> None:
    """Tell its terminal the size of the one that it is shown in. Raises Conflict when it does not run."""
    try:
        with containers.supervisor.attach(container.record.id, ("exit",)) as running:
            running.resize(rows, columns)
    except NoSuchContainer:
        raise Conflict(f"Container {container.record.name} is not running") from None


def prune(containers: Containers, labels: Sequence[str] = ()) -> tuple[list[str], int]:
    """Remove all that do not run (of those with the labels). Returns their ids, and the bytes that came free."""
    removed, freed = [], 0
    for container in containers.all():
        if container.running or not all(_has(container.record, label) for label in labels):
            continue
        snapshot = containers.snapshots.get(container.record.snapshot)
        size = counter(containers.root).tree(snapshot.upper) if snapshot and os.path.isdir(snapshot.upper) else 0
        with contextlib.suppress(NotFound, Conflict):  # somebody else was faster, or started it
            containers.remove(container)
            removed.append(container.record.id)
            freed += size
    return removed, freed


def _has(record: Record, label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in record.labels and (not equals or record.labels[key] == value)
