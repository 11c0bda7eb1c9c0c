"""Names that nobody offers are found, and what may have been meant."""

import ast
import json
import string
from typing import Any

import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from hypothesis import given
from hypothesis import strategies as st

from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.offered_names import Names, OfferedNames, by_backend_label
from job_service.jobs.principal import LOCAL
from job_service.jobs.recipe_book import RecipeBook
from job_service.jobs.refusals import RefusedError
from job_service.jobs.routing import Missing, Needs, Offer
from job_service.jobs.validation import new_job, new_jobs

REJECT = Limits(refuse_unknown_models=True)
#: Without "o", so that " or " stands between names only.
NAMES = st.text(string.ascii_letters.replace("o", "") + "_./\\ é\u4e2d", min_size=1, max_size=300)


def an_offer(**fields: Any) -> Offer:
    """What a ComfyUI offers that runs the built-in graph with ``SDXL/base_1.0.safetensors``."""
    return Offer(
        **{
            "job_types": {"image"},
            "backend_labels": {"comfyui"},
            "checkpoints": {"SDXL/base_1.0.safetensors", "dreamshaper_8.safetensors"},
            "loras": {"film_grain.safetensors"},
            "node_classes": set(),
            "samplers": {"euler", "euler_ancestral", "dpmpp_2m"},
            "schedulers": {"normal", "karras"},
            **fields,
        }
    )


OFFERED = by_backend_label([an_offer()])


def violations(limits: Limits = REJECT, **fields: Any) -> dict[str, str]:
    """By field path, what is wrong with a job of these fields."""
    given = {"prompt": "p", "checkpoint_model": "dreamshaper_8.safetensors", **fields}
    request = pb.CreateJobRequest(job=job_pb2.GenerationJob(**given))
    try:
        new_job(request, LOCAL, limits, RecipeBook(offered=OFFERED))
    except RefusedError as refused:
        return {one.field: one.description for one in refused.violations}
    return {}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("dreamshaper.safetensors", "dreamshaper_8.safetensors"),
        ("DreamShaper_8.ckpt", "dreamshaper_8.safetensors"),
        ("base_1.0.safetensors", "SDXL/base_1.0.safetensors"),
        ("sdxl\\base_1.0.safetensors", "SDXL/base_1.0.safetensors"),
    ],
)
def test_a_wrong_name_is_answered_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    assert violations(checkpoint_model=wrong) == {
        "job.checkpoint_model": f"is a checkpoint that no connected worker offers; did you mean"
        f" {meant!r}?"
    }


def test_a_name_like_no_other_is_answered_without_a_guess() -> None:
    assert violations(checkpoint_model="zzz") == {
        "job.checkpoint_model": "is a checkpoint that no connected worker offers"
    }


def test_everything_wrong_is_named_at_once() -> None:
    found = violations(
        width=63,
        checkpoint_model="dreamshaper",
        lora_models=[
            job_pb2.Lora(name="film_grain.safetensors"),
            job_pb2.Lora(name="film_grane.safetensors"),
        ],
        sampler=job_pb2.Sampler(steps=0, sampler_name="euler_a", scheduler="karas"),
    )
    assert set(found) == {
        "job.width",
        "job.checkpoint_model",
        "job.lora_models[1].name",
        "job.sampler.steps",
        "job.sampler.sampler_name",
        "job.sampler.scheduler",
    }
    assert "'film_grain.safetensors'" in found["job.lora_models[1].name"]
    assert "'euler' or 'euler_ancestral'" in found["job.sampler.sampler_name"]
    assert "'karras'" in found["job.sampler.scheduler"]


def test_what_is_wrong_already_is_not_looked_up() -> None:
    assert set(violations(checkpoint_model="")) == {"job.checkpoint_model"}
    assert set(violations(checkpoint_model="x" * 256)) == {"job.checkpoint_model"}
    many = [job_pb2.Lora(name=f"{n}") for n in range(17)]
    assert "at most 16" in violations(lora_models=many)["job.lora_models"]


def test_jobs_are_judged_by_their_own_backend_and_only_if_somebody_serves_it() -> None:
    assert violations(checkpoint_model="zzz", backend="kerniegen") == {}
    assert violations(checkpoint_model="zzz", backend="comfyui") != {}


def test_the_sampler_of_another_type_of_job_is_not_judged() -> None:
    sampler = job_pb2.Sampler(sampler_name="zzz")
    assert "job.sampler.sampler_name" in violations(sampler=sampler)
    assert "job.sampler.sampler_name" not in violations(
        sampler=sampler, job_type=job_pb2.JOB_TYPE_VIDEO
    )


def test_samplers_that_no_comfyui_has_named_are_not_judged() -> None:
    silent = by_backend_label([an_offer(samplers=frozenset(), schedulers=frozenset())])
    request = pb.CreateJobRequest(
        job=job_pb2.GenerationJob(
            prompt="p",
            checkpoint_model="dreamshaper_8.safetensors",
            sampler=job_pb2.Sampler(sampler_name="zzz", scheduler="zzz"),
        )
    )
    needs = new_job(request, LOCAL, REJECT, RecipeBook(offered=silent)).needs
    assert (needs.sampler, needs.scheduler) == ("", "")


def test_by_default_a_job_may_wait_for_what_nobody_offers() -> None:
    assert violations(Limits(), checkpoint_model="zzz") == {}


def test_a_job_is_routed_by_its_sampler_only_where_not_everybody_has_it() -> None:
    one, two = an_offer(), an_offer(samplers={"euler", "exotic"}, schedulers={"normal"})
    offered = by_backend_label([one, two])

    def needs(**sampler: Any) -> Needs:
        job = job_pb2.GenerationJob(
            prompt="p",
            checkpoint_model="dreamshaper_8.safetensors",
            sampler=job_pb2.Sampler(**sampler),
        )
        accepted: NewJob = new_job(
            pb.CreateJobRequest(job=job), LOCAL, REJECT, RecipeBook(offered=offered)
        )
        return accepted.needs

    assert "sampler" not in needs().to_json()
    assert (needs().sampler, needs().scheduler) == ("", "")
    exotic = needs(sampler_name="exotic")
    assert [offer.serves(exotic) for offer in (one, two)] == [False, True]
    assert one.missing(exotic) == [Missing("sampler", "exotic")]
    karras = needs(scheduler="karras")
    assert [offer.serves(karras) for offer in (one, two)] == [True, False]


def test_what_is_missing_is_told_with_what_was_meant() -> None:
    words = OFFERED["comfyui"].in_words(
        [
            Missing("backend", "kerniegen"),
            Missing("checkpoint", "dreamshaper"),
            Missing("LoRA", "film_grain.safetensors"),  # offered, but by another ComfyUI
        ]
    )
    assert words == [
        "backend kerniegen",
        "checkpoint dreamshaper (did you mean 'dreamshaper_8.safetensors'?)",
        "LoRA film_grain.safetensors",
    ]


@given(st.sets(NAMES, max_size=20), NAMES)
def test_suggestions_are_offered_names_in_a_bounded_text(names: set[str], wrong: str) -> None:
    hint = Names(names).hint(wrong)
    assert len(hint) <= 250 + 2 * 200  # a repr may double backslashes
    if hint:
        rest = hint.removeprefix("did you mean ").removesuffix("?")
        assert all(ast.literal_eval(one) in names for one in rest.split(" or "))


def test_of_many_wrong_jobs_only_as_many_are_looked_up_as_an_answer_has_room_for() -> None:
    job = job_pb2.GenerationJob(prompt="p", checkpoint_model="dreamshaper")
    request = pb.BatchCreateJobsRequest(requests=[pb.CreateJobRequest(job=job)] * 60)
    with pytest.raises(RefusedError) as refused:
        new_jobs(request, LOCAL, REJECT, RecipeBook(offered=OFFERED))
    hinted = ["did you mean" in one.description for one in refused.value.violations]
    assert hinted == [True] * 50 + [False] * 10


@given(st.builds(Needs, *[NAMES] * 3, st.just(()), st.just(()), NAMES | st.just(""), NAMES))
def test_needs_are_read_as_they_were_written(needs: Needs) -> None:
    assert Needs.from_json(json.loads(needs.to_json())) == needs


def test_nothing_is_offered_by_nobody() -> None:
    assert by_backend_label([]) == {}
    assert OfferedNames().in_words([Missing("checkpoint", "x")]) == ["checkpoint x"]
