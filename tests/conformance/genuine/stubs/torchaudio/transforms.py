"""The one name of torchaudio.transforms that ComfyUI 0.3.75 imports at start."""

from typing import NoReturn


class MelScale:
    def __init__(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise NotImplementedError("this ComfyUI has no torchaudio: audio models cannot run")
