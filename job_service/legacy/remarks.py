"""What a person should know of the former tables before they are imported, in sentences."""

from job_service.legacy import former
from job_service.legacy.inspection import Found


def remarks(found: Found) -> list[str]:
    """What else a person should know."""
    said = []
    jobs, requests = found.tables.get(former.JOBS), found.tables.get(former.REQUESTS)
    for table, name in ((jobs, former.JOBS), (requests, former.REQUESTS)):
        if table is None:
            said.append(f"there is no table {name}")
        elif table.next_id is not None and table.next_id <= (table.max_id or 0):
            said.append(
                f"the sequence of {name} is behind: it gives {table.next_id} next, and the highest "
                f"id is {table.max_id}"
            )
    if requests is not None:
        kept = [one_ for one_ in found.references if one_.referred == requests.oid]
        said += [
            f"{one_.table} refers to requests: that foreign key stays with the former table"
            for one_ in kept
        ]
    said += [
        f"the view {reader} reads the former tables, and will go on reading them"
        for reader in found.readers
    ]
    return said
