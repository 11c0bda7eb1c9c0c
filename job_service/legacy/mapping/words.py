"""What the former words for states and types of jobs mean."""

from typing import Final

#: The state that ``{status}`` names; null: no known one.
STATUS_WORDS: Final = """
CASE lower(btrim({status}))
    WHEN 'pending' THEN 'pending'
    WHEN 'running' THEN 'running' WHEN 'processing' THEN 'running' WHEN 'started' THEN 'running'
    WHEN 'completed' THEN 'completed'
    WHEN 'failed' THEN 'failed'
    WHEN 'cancelled' THEN 'cancelled' WHEN 'canceled' THEN 'cancelled'
END
"""
#: The type that ``{job_type}`` names; null: no known one.
TYPE_WORDS: Final = """
CASE {job_type}
    WHEN 'image' THEN 'image' WHEN 'image_generation' THEN 'image'
    WHEN 'text' THEN 'text' WHEN 'text_generation' THEN 'text'
    WHEN 'video' THEN 'video' WHEN 'video_generation' THEN 'video'
    WHEN 'audio' THEN 'audio' WHEN 'audio_generation' THEN 'audio'
END
"""
