"""Who gets which message: recordings 08a to 08d."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from comfy_worker.simulator import Simulator
from tests.worker.simulator.client import Client, plain_image, text_to_image, types


async def received(socket: aiohttp.ClientWebSocketResponse, message_type: str) -> Any:
    """Return the data of the next message of a type; skip others."""
    async with asyncio.timeout(10):
        while True:
            message = await socket.receive_json()
            if message["type"] == message_type:
                return message["data"]


async def test_a_run_is_told_to_its_client_alone(client: Client, simulator: Simulator) -> None:
    async with Client(simulator.url, "bystander") as bystander:
        prompt_id = await client.submit(plain_image())
        mine = await client.messages_until_end(prompt_id)
        own_id = await bystander.submit(plain_image(2))
        theirs = await bystander.messages_until_end(own_id)

    assert "executed" in types(mine)
    seen = {each["data"].get("prompt_id") for each in theirs if each["type"] != "status"}
    assert seen == {own_id}


async def test_a_client_that_returns_mid_run_is_told_the_node(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("long", step=2)
    await client.submit(text_to_image(), prompt_id="long")
    await hold.reached()
    await client.socket.close()
    await simulator.signals.sockets_connected(0)
    client.socket = await client.http.ws_connect(f"/ws?clientId={client.client_id}")

    assert (await client.socket.receive_json())["type"] == "status"
    assert await client.socket.receive_json() == {"type": "executing", "data": {"node": "3"}}
    hold.release()
    rest = await client.messages_until_end("long")
    values = [each["data"]["value"] for each in rest if each["type"] == "progress"]
    assert values == [2, 3]


async def test_a_second_socket_of_the_same_id_silences_the_first(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("shared", step=1)
    second_hold = simulator.faults.hold("shared", step=2)
    await client.submit(text_to_image(), prompt_id="shared")
    await hold.reached()
    async with Client(simulator.url, client.client_id) as second:
        assert (await second.socket.receive_json())["type"] == "status"
        hold.release()
        assert (await received(second.socket, "progress"))["value"] == 1
        # When the first one goes, the second goes silent too.
        await client.socket.close()
        await simulator.signals.sockets_connected(0)
        await second_hold.reached()
        second_hold.release()
        await simulator.signals.prompt_ended("shared")
        with pytest.raises(TimeoutError):
            await second.socket.receive(timeout=0.05)


async def test_the_handshake_is_answered_once(client: Client) -> None:
    handshake = json.dumps({"type": "feature_flags", "data": {}})
    await client.socket.send_str("not json")
    await client.socket.send_str(handshake)
    answer = await received(client.socket, "feature_flags")
    assert answer == await client.get("/features")

    await client.socket.send_str(handshake)
    prompt_id = await client.submit(plain_image())
    assert "feature_flags" not in types(await client.messages_until_end(prompt_id))


async def test_leaving_the_simulator_cuts_the_sockets() -> None:
    async with Simulator() as simulator:
        client = await Client(simulator.url).__aenter__()
        await client.socket.receive_json()
    async with asyncio.timeout(10):
        message = await client.socket.receive()

    assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    assert client.socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
    await client.http.close()
