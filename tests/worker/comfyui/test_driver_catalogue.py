"""What a server offers is read from its object info and system stats."""

from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui.catalogue import catalogue_of
from comfy_worker.comfyui.server_info import ServerInfo, server_info_of
from tests.worker.comfyui import recorded

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
OBJECT_INFO = {
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors", "b.ckpt"]]}}},
    "LoraLoader": {
        "input": {"required": {"lora_name": ["COMBO", {"options": ["x.safetensors", 3]}]}}
    },
    "VAELoader": {"input": {"required": {"vae_name": [["pixel_space"], {"tooltip": "…"}]}}},
    "KSampler": {
        "input": {"required": {"sampler_name": [["euler", "heun"]], "scheduler": [["normal"], {}]}}
    },
    "EmptyLatentImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}],
                "height": ["INT", {"max": 8192}],
                "batch_size": ["INT", {"max": 4096}],
            }
        }
    },
}


def test_both_spellings_of_choices_and_the_limits() -> None:
    catalogue = catalogue_of(OBJECT_INFO)
    assert catalogue.checkpoints == ("a.safetensors", "b.ckpt")
    assert catalogue.loras == ("x.safetensors",)
    assert catalogue.vaes == ("pixel_space",)
    assert catalogue.samplers == ("euler", "heun")
    assert catalogue.schedulers == ("normal",)
    assert catalogue.node_classes == tuple(OBJECT_INFO)
    assert (catalogue.max_dimension, catalogue.max_batch_size) == (8192, 4096)


def test_a_server_without_the_nodes_offers_nothing() -> None:
    catalogue = catalogue_of({})
    assert catalogue.checkpoints == ()
    assert catalogue.max_dimension is None


@given(st.dictionaries(st.sampled_from(list(OBJECT_INFO)), JSON_VALUES))
def test_any_object_info_is_read(object_info: dict[str, object]) -> None:
    catalogue_of(object_info)


def test_recorded_system_stats() -> None:
    _, body = next(iter(recorded.answers("01_get_routes", "/system_stats")))
    assert server_info_of(body) == ServerInfo("0.8.0", "cpu", 25276502016, interrupts_by_id=True)


@given(JSON_VALUES)
def test_any_system_stats_are_read(body: object) -> None:
    assert not server_info_of(body).interrupts_by_id


def test_only_versions_known_to_heed_ids_count() -> None:
    heeding = {
        version: server_info_of({"system": {"comfyui_version": version}}).interrupts_by_id
        for version in ("0.3.56", "0.3.57", "v0.4.0", "1.0.0rc1", "0.0.0", "nightly", "0.3")
    }
    assert heeding == {
        "0.3.56": False,
        "0.3.57": True,
        "v0.4.0": True,
        "1.0.0rc1": True,
        "0.0.0": False,
        "nightly": False,
        "0.3": False,
    }
