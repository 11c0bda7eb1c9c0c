"""Fair share tags: start-time fair queueing between the users of one priority.

Each user has a clock for each priority. A job that becomes dispatchable is tagged with the user's
clock, or the virtual time dispatch has reached if that is later, and moves the clock on by one
turn. Jobs run in the order of their tags. So a user who comes back after a while starts at the
present, not in the past, and a user with ten thousand jobs waiting is only ever one turn ahead of
one with a single job.
"""

from typing import Final

#: Virtual time of one turn of a user of weight 1.
TURN: Final = 1_000_000


def tagging(due: str) -> str:
    """CTEs that tag jobs; the last, ``tagged``, has the columns id and virtual_start.

    ``due`` selects id, user_id and priority of the jobs to tag; they are tagged in the order of
    their ids. Clocks are locked in the order of their keys, so that statements do not deadlock.
    """
    return f"""tag_due AS MATERIALIZED (
    SELECT due.id, coalesce(due.user_id, '00000000-0000-0000-0000-000000000000') AS user_id,
        due.priority, CAST({TURN} / coalesce(share.weight, 1) AS bigint) AS turn
    FROM ({due}) AS due LEFT JOIN user_shares AS share USING (user_id)
), tag_clock AS (
    INSERT INTO user_clocks (user_id, priority, virtual_finish, last_span)
    SELECT user_id, priority, coalesce(dispatch.virtual_time, 0) + span, span
    FROM (
        SELECT user_id, priority, sum(turn) AS span FROM tag_due GROUP BY user_id, priority
    ) AS spans
    LEFT JOIN dispatch_clocks AS dispatch USING (priority)
    ORDER BY user_id, priority
    ON CONFLICT (user_id, priority) DO UPDATE SET
        virtual_finish = excluded.last_span + greatest(
            user_clocks.virtual_finish, excluded.virtual_finish - excluded.last_span
        ),
        last_span = excluded.last_span
    RETURNING user_id, priority, virtual_finish - last_span AS start
), tagged AS MATERIALIZED (
    SELECT tag_due.id, tag_clock.start + tag_due.turn * (row_number() OVER (
        PARTITION BY tag_due.user_id, tag_due.priority ORDER BY tag_due.id
    ) - 1) AS virtual_start
    FROM tag_due JOIN tag_clock USING (user_id, priority)
)"""
