"""Many rows like those of a sample, made inside PostgreSQL."""

from tests.legacy_import.old_content import JOBS, REQUESTS, Connection, OldContent

#: What is different in every copy, so that merged pairs match their own twin and no other.
_DIFFERENT = {
    "id": "id + n * 1000",
    "comfyui_prompt_id": "comfyui_prompt_id || '-' || n",
    "created_at": "created_at + n * interval '1 second'",
}


def multiply(connection: Connection, content: OldContent, times: int) -> None:
    """Copy every row so many times, in both tables; prompts of megabytes but once."""
    tables = {JOBS: content.shape.job_columns}
    if content.shape.has_requests:
        tables[REQUESTS] = content.shape.request_columns
    for table, columns in tables.items():
        names = ["id", *columns]
        values = [_DIFFERENT.get(name, name) for name in names]
        connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)}"
            f" FROM {table}, generate_series(1, {times}) AS n"
            f" WHERE octet_length(CAST({table} AS text)) < 20000".encode()
        )
    connection.commit()
