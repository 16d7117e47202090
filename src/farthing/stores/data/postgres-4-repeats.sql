-- Idempotency-Keys by digest: the request that each stands for, who asks for it until when, and its reply in msgpack.

CREATE TABLE farthing.repeats (
    key bytea PRIMARY KEY,
    digest bytea NOT NULL,
    owner text NOT NULL,
    until bigint NOT NULL,
    reply bytea
);
CREATE INDEX ON farthing.repeats (until);
