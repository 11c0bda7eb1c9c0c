"""A small ComfyUI client, and the graphs the tests send with it."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

import aiohttp

CHECKPOINT = "sd_xl_base_1.0.safetensors"


def text_to_image(
    prompt: str = "a red fox in the snow",
    *,
    seed: int = 1,
    steps: int = 3,
    size: tuple[int, int] = (128, 192),
    batch_size: int = 1,
    prefix: str = "picture",
) -> dict[str, Any]:
    width, height = size
    return {
        "4": _node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "5": _node("EmptyLatentImage", width=width, height=height, batch_size=batch_size),
        "6": _node("CLIPTextEncode", text=prompt, clip=["4", 1]),
        "7": _node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "3": _node(
            "KSampler",
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            seed=seed,
            steps=steps,
            cfg=5.5,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("SaveImage", images=["8", 0], filename_prefix=prefix),
    }


def plain_image(color: int = 0, prefix: str = "plain") -> dict[str, Any]:
    return {
        "1": _node("EmptyImage", width=64, height=64, batch_size=1, color=color),
        "2": _node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


class Client:
    """One HTTP session and one WebSocket."""

    def __init__(self, url: str, client_id: str = "tester") -> None:
        self.client_id = client_id
        self._url = url

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(self._url)
        path = f"/ws?clientId={self.client_id}"
        self.socket = await self.http.ws_connect(path, max_msg_size=0)
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.socket.close()
        await self.http.close()

    async def submit(self, graph: dict[str, Any], **more: Any) -> str:
        body = {"prompt": graph, "client_id": self.client_id, **more}
        async with self.http.post("/prompt", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return str(answer["prompt_id"])

    async def messages_until_end(self, prompt_id: str) -> list[Any]:
        """Return what arrives up to `executing null` of the prompt; binary frames as bytes."""
        received: list[Any] = []
        async with asyncio.timeout(20):
            async for message in self.socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    received.append(message.data)
                    continue
                body = json.loads(message.data)
                received.append(body)
                data = body["data"]
                ended = body["type"] == "executing" and data["node"] is None
                if ended and data["prompt_id"] == prompt_id:
                    return received
        raise AssertionError(f"the socket closed before {prompt_id} ended: {received}")

    async def run(self, graph: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run a graph to its end and return its history entry."""
        prompt_id = await self.submit(graph, **more)
        await self.messages_until_end(prompt_id)
        return await self.history(prompt_id)

    async def history(self, prompt_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = (await self.get(f"/history/{prompt_id}"))[prompt_id]
        return entry

    async def get(self, path: str) -> Any:
        async with self.http.get(path) as response:
            assert response.status == 200, (path, response.status)
            return await response.json()

    async def post(self, path: str, body: Any = None) -> int:
        async with self.http.post(path, json=body) as response:
            return response.status

    async def status(self, path: str) -> int:
        async with self.http.get(path) as response:
            return response.status

    async def file(self, image: dict[str, str]) -> bytes:
        async with self.http.get("/view", params=image) as response:
            assert response.status == 200
            return await response.read()


def images(entry: dict[str, Any]) -> list[dict[str, str]]:
    """Return the files of a history entry."""
    return [file for shown in entry["outputs"].values() for file in shown["images"]]


def types(messages: list[Any]) -> list[str]:
    """Return the message types, `binary` for a frame."""
    return ["binary" if isinstance(each, bytes) else each["type"] for each in messages]
