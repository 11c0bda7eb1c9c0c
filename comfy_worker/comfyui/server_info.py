"""What a ComfyUI says about itself in ``/system_stats``. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_INTERRUPTS_BY_ID_SINCE: Final = (0, 3, 57)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Version, first device and its memory in bytes; empty or 0 where the server is silent.

    ``interrupts_by_id``: ``POST /interrupt`` heeds the prompt id. Servers before
    0.3.57 ignore the id and stop whatever runs; no question that is free of side
    effects tells the two apart, so the version decides, and an unknown version does
    not count as heeding it.
    """

    version: str
    device: str
    device_memory: int
    interrupts_by_id: bool


def server_info_of(system_stats: Any) -> ServerInfo:
    """Read a ``/system_stats`` answer (recording 01); any shape is taken."""
    stats = system_stats if isinstance(system_stats, Mapping) else {}
    system, devices = stats.get("system"), stats.get("devices")
    version = _text(system, "comfyui_version")
    numbers = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    known = tuple(int(number) for number in numbers.groups()) if numbers else ()
    first = devices[0] if isinstance(devices, list) and devices else None
    memory = first.get("vram_total") if isinstance(first, Mapping) else None
    return ServerInfo(
        version,
        _text(first, "name"),
        memory if isinstance(memory, int) else 0,
        interrupts_by_id=known >= _INTERRUPTS_BY_ID_SINCE,
    )


def _text(value: Any, key: str) -> str:
    text = value.get(key) if isinstance(value, Mapping) else None
    return text if isinstance(text, str) else ""
