"""The driver keeps a ComfyUI busy: hardly slower than posting everything to it at once."""

import pytest

from comfy_worker.comfyui import ComfyBackend
from tests.conformance.busy import PROMPTS, by_driver, compare, model_free, straight
from tests.conformance.targets import Target

ROUNDS = 2
AIM = 1.10
SECONDS = 120
"""For how long more rounds are tried while the ratio is above the aim."""
LIMIT = 1.5
"""What is asserted: a machine with other work to do on few cores does not reach the aim."""


@pytest.mark.conformance
async def test_many_prompts_take_hardly_longer_than_posted_straight(
    backend: ComfyBackend, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    await straight(target.url, [model_free() for _ in range(10)])
    compared = await compare(
        lambda: straight(target.url, [model_free() for _ in range(PROMPTS)]),
        lambda: by_driver(backend, [model_free() for _ in range(PROMPTS)]),
        rounds=ROUNDS,
        aim=AIM,
        seconds=SECONDS,
    )
    with capsys.disabled():
        print(f"\n{PROMPTS} model-free prompts by the driver took {compared}, aim {AIM}")
    assert compared.ratio <= LIMIT, compared
