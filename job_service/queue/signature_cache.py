"""What the node classes of live ComfyUIs take and give, loaded when somebody asks."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from generation_jobs.v1.worker_service_pb2 import BackendCatalogue

from job_service.jobs.node_signatures import unpacked
from job_service.store.node_signatures import NodeSignatureTable

#: Bytes of serialised signatures that are kept; in memory they take two to three times as much. A
#: ComfyUI with many node packs has some two megabytes, and workers set up alike share one.
_CAPACITY: Final = 32 * 1024**2


class SignatureCache:
    """Signatures by digest; those asked for last are kept, up to a size."""

    def __init__(self, table: NodeSignatureTable, capacity: int = _CAPACITY) -> None:
        self._table = table
        self._capacity = capacity
        self._kept: OrderedDict[bytes, tuple[BackendCatalogue, int]] = OrderedDict()
        self._size = 0
        self._loading = asyncio.Lock()

    async def get(self, digests: Collection[bytes]) -> list[BackendCatalogue]:
        """The signatures with these digests, in that order; unknown ones are left out.

        One statement for all that are not in memory, none when all are. The messages are shared:
        read them, do not change them. Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        found = self._known(digests)
        if len(found) < len(digests):
            async with self._loading:  # who waits here mostly finds what the one before loaded
                found = self._known(digests)
                await self._load([one for one in digests if one not in found], found)
        return [found[digest] for digest in digests if digest in found]

    def _known(self, digests: Collection[bytes]) -> dict[bytes, BackendCatalogue]:
        found = {}
        for digest in digests:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                found[digest] = self._kept[digest][0]
        return found

    async def _load(self, missing: list[bytes], found: dict[bytes, BackendCatalogue]) -> None:
        if not missing:
            return
        for digest, content in (await self._table.contents(missing)).items():
            signatures, size = await asyncio.to_thread(unpacked, content)
            found[digest] = signatures
            self._kept[digest] = signatures, size
            self._size += size
        while self._size > self._capacity and self._kept:
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size
