"""LoRAs and sampler settings as this service stores them, read from what was written."""

from typing import Final

from job_service.jobs.limits import DEFAULT_LORA_STRENGTH, MAX_LORAS, MAX_NAME, MAX_SEED, MAX_WORD


def _sampler(name: str, type_: str, condition: str, value: str = "{it}") -> str:
    """A setting that is of its type and in its bounds; ``{it}`` is what was given."""
    given = f"(sampler_given -> '{name}')"
    return f"""'{name}', CASE WHEN jsonb_typeof({given}) = '{type_}' THEN
            CASE WHEN {condition.format(it=given)} THEN {value.format(it=given)} END END"""


_WHOLE: Final = "CAST({it} AS numeric) BETWEEN 1 AND 150 AND CAST({it} AS numeric) % 1 = 0"
_WORD: Final = f"length({{it}} #>> '{{{{}}}}') BETWEEN 1 AND {MAX_WORD}"
#: The usable ones of ``sampler_given``, as JSON.
SAMPLER: Final = f"""jsonb_strip_nulls(jsonb_build_object(
            {_sampler("steps", "number", _WHOLE, "to_jsonb(CAST({it} AS integer))")},
            {_sampler("cfg", "number", "CAST({it} AS numeric) BETWEEN 0 AND 30")},
            {_sampler("sampler_name", "string", _WORD)},
            {_sampler("scheduler", "string", _WORD)},
            {_sampler("denoise", "number", "CAST({it} AS numeric) BETWEEN 0 AND 1")}
        ))"""

#: Those in ``lora_models``; null when one of them cannot be stored. The former ones had one
#: strength, or none.
LORAS: Final = f"""CASE WHEN jsonb_typeof(lora_models) = 'array' THEN
            CASE WHEN jsonb_array_length(lora_models) <= {MAX_LORAS} THEN (
                SELECT CASE WHEN bool_and(
                    length(name) BETWEEN 1 AND {MAX_NAME}
                    AND model BETWEEN -10 AND 10 AND clip BETWEEN -10 AND 10
                ) IS NOT FALSE AND count(*) = count(name) AND count(*) = count(model)
                    AND count(*) = count(clip)
                THEN coalesce(jsonb_agg(jsonb_build_object(
                    'name', name, 'strength_model', model, 'strength_clip', clip
                ) ORDER BY n), '[]') END
                FROM jsonb_array_elements(lora_models) WITH ORDINALITY AS lora (given, n)
                CROSS JOIN LATERAL (SELECT
                    CASE jsonb_typeof(given) WHEN 'string' THEN given #>> '{{}}' WHEN 'object' THEN
                    CASE jsonb_typeof(given -> 'name') WHEN 'string' THEN given ->> 'name' END
                    END AS name,
                    coalesce(
                        given -> 'strength_model', given -> 'strength', given -> 'weight',
                        to_jsonb({DEFAULT_LORA_STRENGTH})
                    ) AS model_given
                ) AS named
                CROSS JOIN LATERAL (SELECT
                    coalesce(given -> 'strength_clip', model_given) AS clip_given
                ) AS strong
                CROSS JOIN LATERAL (SELECT
                    CASE jsonb_typeof(model_given) WHEN 'number'
                        THEN CAST(model_given AS numeric) END AS model,
                    CASE jsonb_typeof(clip_given) WHEN 'number'
                        THEN CAST(clip_given AS numeric) END AS clip
                ) AS measured
            ) END
        END"""

#: The seed in ``sampler_given``; null: none that can be used.
SEED: Final = f"""CASE WHEN jsonb_typeof(sampler_given -> 'seed') = 'number' THEN
            CASE WHEN CAST(sampler_given -> 'seed' AS numeric) BETWEEN 0 AND {MAX_SEED}
                AND CAST(sampler_given -> 'seed' AS numeric) % 1 = 0
            THEN CAST(sampler_given -> 'seed' AS bigint) END
        END"""
