"""What a peer sends below the level of calls does not get into the log of the command."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

from tests.end_to_end.real_processes import RealProcess, free_address, serving
from tests.every_method import METHODS, path_of
from tests.fuzz import raw_http2

FORGED = b'x\n{"event": "forged", "level": "error"}\n\x1b[2J'


async def test_frames_forge_no_line_of_the_log(tmp_path: Path, database_url: str) -> None:
    address, log = free_address(), tmp_path / "log"
    service = RealProcess(
        ["job-service", "serve"],
        log,
        JOB_SERVICE_LISTEN=address,
        JOB_SERVICE_DATABASE_URL=database_url,
        JOB_SERVICE_DATA_DIR=str(tmp_path),
        JOB_SERVICE_LOG_FORMAT="json",
    )
    async with AsyncExitStack() as stack:
        await serving(stack, service, address)
        for method in METHODS[:3]:
            async with raw_http2.RawConnection(address) as connection:
                headers = [
                    *raw_http2.call_headers(path_of(method)),
                    ("te", FORGED),
                    ("x-text", b"\xff\xfe" + FORGED),
                ]
                goaway = raw_http2.frame(raw_http2.GOAWAY, bytes(4) + b"\x7f\x00\x00\x01" + FORGED)
                await connection.send(
                    raw_http2.PREFACE + raw_http2.settings() + raw_http2.opened(1, headers) + goaway
                )
                await connection.read(0.5)
    lines = log.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert "stopped" in events
    assert "forged" not in events
