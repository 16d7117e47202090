-- The ledger: how far each journal was taken, entries by month of arrival, and what they come to by hour.

CREATE TABLE farthing.journals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    position bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE farthing.retention (pruned bigint NOT NULL);
INSERT INTO farthing.retention VALUES (0);

CREATE SEQUENCE farthing.taken;
CREATE TABLE farthing.entries (
    at bigint NOT NULL,
    seq bigint NOT NULL DEFAULT nextval('farthing.taken'),
    journal bigint NOT NULL,
    record bigint NOT NULL,
    grp text NOT NULL,
    doc text NOT NULL,
    PRIMARY KEY (at, seq),
    UNIQUE (journal, record, at)
) PARTITION BY RANGE (at);
CREATE INDEX ON farthing.entries USING hash (grp);

-- `cell` is a digest of the dimensions, which stand in `doc`.
CREATE TABLE farthing.rollups (
    hour bigint NOT NULL,
    cell bytea NOT NULL,
    doc text NOT NULL,
    PRIMARY KEY (hour, cell)
) WITH (fillfactor = 70);

-- A partition for every month (UTC) that one of these instants falls into. It is attached, which readers and writers
-- of the others do not notice; creating it in place would keep them out.
CREATE FUNCTION farthing.make_room(instants bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    part text;
    ends numeric;
BEGIN
    FOR month IN
        SELECT DISTINCT date_trunc('month', to_timestamp(instant / 1000000000) AT TIME ZONE 'UTC')
        FROM unnest(instants) AS instant
    LOOP
        part := to_char(month, '"entries_"YYYY_MM');
        CONTINUE WHEN to_regclass('farthing.' || part) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('farthing.make_room', 0));
        CONTINUE WHEN EXISTS ( -- made meanwhile; to_regclass() might not have heard of it
            SELECT FROM pg_class WHERE relname = part AND relnamespace = 'farthing'::regnamespace
        );
        ends := extract(epoch FROM month + interval '1 month') * 1000000000;
        EXECUTE format('CREATE TABLE farthing.%I (LIKE farthing.entries INCLUDING DEFAULTS)', part);
        EXECUTE format(
            'ALTER TABLE farthing.entries ATTACH PARTITION farthing.%I FOR VALUES FROM (%s) TO (%s)',
            part,
            (extract(epoch FROM month) * 1000000000)::bigint,
            CASE WHEN ends > 9223372036854775807 THEN 'MAXVALUE' ELSE ends::bigint::text END
        );
    END LOOP;
END $$;

-- Adds entries, and gives the roll-ups they belong to, locked in order; those that are new are empty.
CREATE FUNCTION farthing.take(
    of_journal bigint, first bigint, arrivals bigint[], groups text[], docs bytea[], hours bigint[], cells bytea[]
) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE farthing.entries IN ROW EXCLUSIVE MODE; -- no month is dropped from here on
    PERFORM farthing.make_room(arrivals);
    INSERT INTO farthing.entries (at, journal, record, grp, doc)
    SELECT arrival, of_journal, first + place - 1, grp, convert_from(doc, 'UTF8')
    FROM unnest(arrivals, groups, docs) WITH ORDINALITY AS fresh (arrival, grp, doc, place)
    ORDER BY place;
    INSERT INTO farthing.rollups (hour, cell, doc)
    SELECT fresh.hour, fresh.cell, '' FROM unnest(hours, cells) AS fresh (hour, cell) ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT kept.doc FROM unnest(hours, cells) AS fresh (hour, cell) JOIN farthing.rollups AS kept USING (hour, cell)
    ORDER BY hour, cell FOR UPDATE OF kept;
END $$;

-- Drops the oldest month if it ended before an instant; how many entries went, or null when there is none to drop.
CREATE FUNCTION farthing.drop_month(before bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    part text;
    gone bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('farthing.drop_month', 0)); -- one gateway at a time
    SELECT relname INTO part FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'farthing.entries'::regclass AND CASE WHEN relname ~ '^entries_\d{4}_\d\d$' THEN
        extract(epoch FROM to_date(relname, '"entries_"YYYY_MM') + interval '1 month') * 1000000000 <= before
    END
    ORDER BY relname LIMIT 1;
    IF part IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM farthing.%I', part) INTO gone;
    PERFORM set_config('lock_timeout', '2s', true); -- those who wait for a month in use keep others out meanwhile
    EXECUTE format('DROP TABLE farthing.%I', part);
    RETURN gone;
END $$;

-- The fields of every entry as columns; money in pico-dollars. PostgreSQL's JSON has no NUL.
CREATE VIEW farthing.calls AS
SELECT
    seq, journals.name AS journal, record, one.id, one."group", one.attempt, entries.at, one.endpoint, one.model,
    one.served, coalesce(one.upstream, '') AS upstream, coalesce(one.provider, '') AS provider, one.tier,
    coalesce(one.tenant, '') AS tenant, coalesce(one.team, '') AS team, coalesce(one.key, '') AS key,
    coalesce(one.feature, '') AS feature, coalesce(one.tags, '[]') AS tags,
    coalesce(one.usage_source, 'none') AS usage_source, coalesce(one.unknown_usage, '[]') AS unknown_usage,
    one.cost, one.list_cost, coalesce(one.saved, '[]') AS saved, coalesce(one.missing_prices, '[]') AS missing_prices,
    coalesce(one.price_version, '') AS price_version, coalesce(one.policy, '') AS policy,
    coalesce(one.cache, 'off') AS cache, coalesce(one.status, 0) AS status, coalesce(one.error, '') AS error,
    one.finish, coalesce(one.stream, false) AS stream, one.ttft, coalesce(one.latency, 0) AS latency,
    coalesce(one.overhead, 0) AS overhead, coalesce(one.decisions, '[]') AS decisions,
    coalesce(one.simulated, false) AS simulated, coalesce(one.superseded, false) AS superseded,
    coalesce(one.corrects, '') AS corrects,
    coalesce(used.input, 0) AS input_used, coalesce(used.cache_read, 0) AS cache_read_used,
    coalesce(used.cache_write_5m, 0) AS cache_write_5m_used, coalesce(used.cache_write_30m, 0) AS cache_write_30m_used,
    coalesce(used.cache_write_1h, 0) AS cache_write_1h_used, coalesce(used.cache_write_12h, 0) AS cache_write_12h_used,
    coalesce(used.input_audio, 0) AS input_audio_used, coalesce(used.input_image, 0) AS input_image_used,
    coalesce(used.input_video, 0) AS input_video_used, coalesce(used.output, 0) AS output_used,
    coalesce(used.reasoning, 0) AS reasoning_used, coalesce(used.output_audio, 0) AS output_audio_used,
    coalesce(used.output_image, 0) AS output_image_used,
    coalesce(used.rejected_prediction, 0) AS rejected_prediction_used,
    coalesce(used.web_search, 0) AS web_search_used, coalesce(used.web_fetch, 0) AS web_fetch_used
FROM farthing.entries
JOIN farthing.journals ON journals.id = entries.journal,
json_to_record(replace(entries.doc, '\u0000', '\ufffd')::json) AS one (
    id text, "group" text, attempt integer, endpoint text, model text, served text, upstream text, provider text,
    tier text, tenant text, team text, key text, feature text, tags jsonb, usage json, usage_source text,
    unknown_usage jsonb, cost bigint, list_cost bigint, saved jsonb, missing_prices jsonb, price_version text,
    policy text, cache text, status integer, error text, finish text, stream boolean, ttft bigint, latency bigint,
    overhead bigint, decisions jsonb, simulated boolean, superseded boolean, corrects text
)
LEFT JOIN LATERAL json_to_record(one.usage) AS used (
    input bigint, cache_read bigint, cache_write_5m bigint, cache_write_30m bigint, cache_write_1h bigint,
    cache_write_12h bigint, input_audio bigint, input_image bigint, input_video bigint, output bigint,
    reasoning bigint, output_audio bigint, output_image bigint, rejected_prediction bigint, web_search bigint,
    web_fetch bigint
) ON true;
