-- Gateway keys, never the keys themselves, and a number that grows with every change of them.

CREATE TABLE farthing.keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    doc text NOT NULL
);

CREATE TABLE farthing.revision (number bigint NOT NULL);
INSERT INTO farthing.revision VALUES (0);
