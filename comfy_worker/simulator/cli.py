"""The command comfy-simulator."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from comfy_worker.simulator.server import Simulator
from comfy_worker.simulator.settings import (
    DEFAULT_CHECKPOINTS,
    DEFAULT_LORAS,
    SimulatorSettings,
)

HIGHEST_PORT = 65535


def _run(
    listen: Annotated[
        str, typer.Option(help="host:port to listen on; port 0 takes a free one.")
    ] = "127.0.0.1:8188",
    step_seconds: Annotated[
        float, typer.Option(min=0, help="Time one sampler step takes, in seconds.")
    ] = 0.1,
    load_seconds: Annotated[
        float, typer.Option(min=0, help="Time loading a checkpoint takes, in seconds.")
    ] = 0.2,
    output_directory: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Where pictures are saved; default: a directory removed at exit."
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="File name of a checkpoint to offer; repeatable.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="File name of a LoRA to offer; repeatable.")
    ] = None,
    probe_nodes: Annotated[
        bool, typer.Option("--probe-nodes", help="Offer slow, stubborn and failing test nodes.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log what happens to standard error.")
    ] = False,
) -> None:
    """Serve a simulated ComfyUI until SIGTERM or SIGINT."""
    host, port = _split(listen)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    settings = SimulatorSettings(
        host=host,
        port=port,
        step_seconds=step_seconds,
        load_seconds=load_seconds,
        output_directory=output_directory,
        checkpoints=tuple(checkpoint or DEFAULT_CHECKPOINTS),
        loras=tuple(lora or DEFAULT_LORAS),
        probe_nodes=probe_nodes,
    )
    try:
        asyncio.run(_serve(settings))
    except OSError as error:
        typer.echo(f"comfy-simulator: cannot serve on {listen}: {error}", err=True)
        raise typer.Exit(1) from error


async def _serve(settings: SimulatorSettings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    async with Simulator(settings) as simulator:
        print(f"comfy-simulator listening on {simulator.url}", flush=True)
        await stopped.wait()


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= HIGHEST_PORT):
        raise typer.BadParameter(f"{listen!r} is not host:port", param_hint="--listen")
    return host.removeprefix("[").removesuffix("]"), int(port)


def main() -> None:
    """Run the command."""
    typer.run(_run)


if __name__ == "__main__":
    main()
