"""Where the former system had the files of a job: the artifacts that its paths become."""

from typing import Final

# The n-th thumbnail of a size belongs to the n-th output. A size is told by a file's name
# (fox_300.webp) or folder (300/fox.webp).
INSERT_ARTIFACTS: Final = r"""
WITH named AS (
    SELECT job_id, completed_at, 'output' AS role, n - 1 AS position, 0 AS thumbnail_size, path
    FROM import_batch
    CROSS JOIN LATERAL jsonb_array_elements_text(output_paths) WITH ORDINALITY AS file (path, n)
    WHERE output_paths IS NOT NULL
    UNION ALL
    SELECT job_id, completed_at, 'thumbnail',
        row_number() OVER (PARTITION BY job_id, size ORDER BY n) - 1, size, path
    FROM import_batch
    CROSS JOIN LATERAL jsonb_array_elements_text(thumbnail_paths) WITH ORDINALITY AS file (path, n)
    CROSS JOIN LATERAL (SELECT coalesce(CAST(
        substring(path FROM '(?:^|[^0-9])(150|300|600)(?:px)?(?:[._/\\-][^0-9]*$|$)') AS integer
    ), 0) AS size) AS told
    WHERE thumbnail_paths IS NOT NULL
)
INSERT INTO job_artifacts (
    job_id, attempt, role, position, thumbnail_size, filename, content_type, size, sha256,
    object_key, created_at, stored_at, external_location
)
SELECT job_id, 0, role, position, thumbnail_size,
    coalesce(nullif(right(filename, 255), ''), 'unnamed'),
    CASE WHEN strpos(filename, '.') > 0 THEN
        CASE lower(split_part(filename, '.', -1))
            WHEN 'png' THEN 'image/png'
            WHEN 'jpg' THEN 'image/jpeg' WHEN 'jpeg' THEN 'image/jpeg'
            WHEN 'webp' THEN 'image/webp'
            WHEN 'gif' THEN 'image/gif'
            WHEN 'mp4' THEN 'video/mp4' WHEN 'webm' THEN 'video/webm'
            WHEN 'wav' THEN 'audio/wav' WHEN 'mp3' THEN 'audio/mpeg' WHEN 'flac' THEN 'audio/flac'
            WHEN 'txt' THEN 'text/plain'
            ELSE 'application/octet-stream'
        END
    ELSE 'application/octet-stream' END,
    NULL, NULL,
    'jobs/' || job_id || '/0/' || position || '-' || role
        || CASE WHEN thumbnail_size > 0 THEN '-' || thumbnail_size ELSE '' END,
    completed_at, completed_at, path
FROM named
CROSS JOIN LATERAL (SELECT split_part(replace(path, '\', '/'), '/', -1) AS filename OFFSET 0) AS f
"""
