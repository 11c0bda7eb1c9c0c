"""What an application may have hung on its tables, besides what every installation has."""

from typing import Final

#: On the tables of an installation in state A or B, with the application's own. An index with
#: ``status IN (…)`` would come back from a dump too, but PostgreSQL writes it otherwise then.
SURROUNDINGS: Final = """
ALTER TABLE comfyui_generation_requests
    ADD CONSTRAINT requests_user_fkey FOREIGN KEY (user_id) REFERENCES users (id)
        ON DELETE SET NULL,
    ADD CONSTRAINT requests_have_an_area CHECK (width <> 0) NOT VALID,
    ALTER COLUMN status SET DEFAULT 'pending',
    ALTER COLUMN created_at SET DEFAULT now();
CREATE TABLE favourites (
    id serial PRIMARY KEY,
    request_id integer NOT NULL REFERENCES comfyui_generation_requests (id) ON DELETE CASCADE
);
INSERT INTO favourites (request_id) VALUES (1), (4), (4);
CREATE TABLE job_notes (
    job_id integer REFERENCES generation_jobs (id) ON DELETE CASCADE DEFERRABLE, note text
);
INSERT INTO job_notes VALUES (3, 'printed'), (6, 'soon');
ALTER TABLE job_notes ADD COLUMN parent_id integer;
ALTER TABLE job_notes ADD CONSTRAINT once_there
    FOREIGN KEY (parent_id) REFERENCES generation_jobs (id) NOT VALID;
CREATE INDEX jobs_at_work ON generation_jobs (status, created_at)
    WHERE completed_at IS NULL AND status = 'pending';
CREATE UNIQUE INDEX jobs_by_content ON generation_jobs (id, lower(prompt) text_pattern_ops);
CREATE FUNCTION keep_the_prompt() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the prompt is immutable'; END $$;
CREATE TRIGGER keep_the_prompt BEFORE UPDATE OF prompt ON generation_jobs
    FOR EACH ROW WHEN (old.prompt <> new.prompt) EXECUTE FUNCTION keep_the_prompt();
CREATE TRIGGER an_idle_one BEFORE DELETE ON generation_jobs
    FOR EACH ROW EXECUTE FUNCTION keep_the_prompt();
ALTER TABLE generation_jobs DISABLE TRIGGER an_idle_one;
COMMENT ON TABLE generation_jobs IS 'what users have asked for';
COMMENT ON COLUMN generation_jobs.prompt IS 'in their own words';
GRANT SELECT ON generation_jobs, comfyui_generation_requests TO PUBLIC;
"""
