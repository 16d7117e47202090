-- What limits count: accounts, what was spent and is held of them by slice of time, holds, and who holds.

CREATE TABLE farthing.owners (owner text PRIMARY KEY, seen timestamptz NOT NULL);

-- A hash index, since a name may be longer than a B-tree takes.
CREATE TABLE farthing.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    known boolean NOT NULL DEFAULT false,
    EXCLUDE USING hash (name WITH =)
);

CREATE TABLE farthing.cells (
    account bigint NOT NULL,
    slice bigint NOT NULL,
    spent bigint NOT NULL,
    held bigint NOT NULL,
    expired bigint NOT NULL,
    PRIMARY KEY (account, slice)
) WITH (fillfactor = 50);

CREATE TABLE farthing.holds (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    owner text NOT NULL,
    expired boolean NOT NULL DEFAULT false,
    claims json NOT NULL,
    entry bytea NOT NULL
);
CREATE INDEX ON farthing.holds (owner, number);

-- Begins an owner's batch: locks the accounts that some holds and names reach, each from a slice on, and gives what
-- they and the holds are. An owner's batches come one after the other, even those whose outcome it never learnt.
CREATE FUNCTION farthing.open_accounts(acting text, ids text[], names text[], slices bigint[]) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
    oldest bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('farthing.owner ' || acting, 0));
    INSERT INTO farthing.owners VALUES (acting, clock_timestamp()) ON CONFLICT DO NOTHING;
    SELECT array_agg(reached.name ORDER BY reached.name), array_agg(reached.slice ORDER BY reached.name)
    INTO touched, oldest
    FROM (
        SELECT each.name, min(each.slice) AS slice FROM (
            SELECT claim.account AS name, claim.slice
            FROM farthing.holds, json_to_recordset(claims) AS claim (account text, slice bigint)
            WHERE id = ANY (ids)
            UNION ALL
            SELECT * FROM unnest(names, slices)
        ) AS each GROUP BY each.name
    ) AS reached;
    INSERT INTO farthing.accounts (name)
    SELECT missing FROM unnest(touched) AS missing
    WHERE NOT EXISTS (SELECT FROM farthing.accounts WHERE name = missing)
    ON CONFLICT DO NOTHING;
    PERFORM FROM farthing.accounts WHERE name = ANY (touched) ORDER BY id FOR UPDATE;
    RETURN json_build_object(
        'holds', (
            SELECT coalesce(json_agg(json_build_array(id, owner, expired, claims)), '[]')
            FROM farthing.holds WHERE id = ANY (ids)
        ),
        'known', (
            SELECT coalesce(json_agg(name), '[]') FROM farthing.accounts WHERE name = ANY (touched) AND known
        ),
        'cells', (
            SELECT coalesce(json_agg(json_build_array(name, slice, spent, held, expired)), '[]')
            FROM unnest(touched, oldest) AS reached (name, from_slice)
            JOIN farthing.accounts USING (name)
            JOIN farthing.cells ON cells.account = accounts.id AND cells.slice >= from_slice
        )
    );
END $$;
