-- Times are milliseconds since 1970, UTC; digests 64 hexadecimal digits; lists and free forms JSON.

CREATE TABLE fleet (
  row INTEGER PRIMARY KEY CHECK (row = 1),
  id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  ca TEXT NOT NULL,
  created INTEGER NOT NULL
) STRICT;

-- Numbers that must not come back though their rows may go.
CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  secret TEXT NOT NULL UNIQUE,
  uses INTEGER NOT NULL CHECK (uses > 0),
  used INTEGER NOT NULL CHECK (used BETWEEN 0 AND uses),
  expires INTEGER NOT NULL,
  node TEXT,
  site TEXT,
  labels TEXT NOT NULL,
  location TEXT,
  prefixes TEXT NOT NULL,
  needs_approval INTEGER NOT NULL,
  created INTEGER NOT NULL,
  revoked INTEGER
) STRICT;

CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  node TEXT NOT NULL,
  site TEXT,
  labels TEXT NOT NULL,
  location TEXT,
  prefixes TEXT NOT NULL,
  reported TEXT NOT NULL,
  key TEXT NOT NULL,
  previous_key TEXT,
  certificate_expires INTEGER NOT NULL,
  standing TEXT NOT NULL CHECK (standing IN ('pending', 'approved', 'revoked')),
  revoked INTEGER CHECK ((revoked IS NOT NULL) = (standing = 'revoked')),
  reason TEXT,
  token TEXT NOT NULL REFERENCES tokens (id),
  enrolled INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX agents_of_nodes ON agents (node) WHERE standing <> 'revoked';

-- The addresses that count, of agents that are not revoked; no site is ''.
CREATE TABLE addresses (
  site TEXT NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL REFERENCES agents (id),
  PRIMARY KEY (site, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_of_agents ON addresses (agent);

CREATE TABLE sightings (
  agent TEXT PRIMARY KEY REFERENCES agents (id),
  at INTEGER NOT NULL,
  facts TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
  node TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  revision INTEGER NOT NULL,
  PRIMARY KEY (node, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE contents (
  digest TEXT PRIMARY KEY,
  files TEXT NOT NULL,
  bindings TEXT NOT NULL
) STRICT;

CREATE TABLE revisions (
  number INTEGER PRIMARY KEY,
  content TEXT NOT NULL REFERENCES contents (digest),
  author TEXT NOT NULL,
  message TEXT NOT NULL,
  source TEXT NOT NULL,
  created INTEGER NOT NULL
) STRICT;

CREATE TABLE assignments (
  node TEXT NOT NULL,
  number INTEGER NOT NULL,
  revision INTEGER NOT NULL REFERENCES revisions (number),
  digest TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('sent', 'trial', 'confirmed', 'refused', 'fell')),
  reason TEXT CHECK ((reason IS NOT NULL) = (state IN ('refused', 'fell'))),
  sent INTEGER NOT NULL,
  tried INTEGER,
  ended INTEGER CHECK ((ended IS NOT NULL) = (state IN ('confirmed', 'refused', 'fell'))),
  ruleset BLOB NOT NULL,
  PRIMARY KEY (node, number)
) STRICT;

CREATE TABLE rollouts (
  number INTEGER PRIMARY KEY,
  revision INTEGER NOT NULL REFERENCES revisions (number),
  waves TEXT NOT NULL,
  state TEXT NOT NULL,
  is_active INTEGER NOT NULL,
  results TEXT NOT NULL,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_rollout ON rollouts (is_active) WHERE is_active = 1;

CREATE TABLE events (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  node TEXT,
  body TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  change TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  before TEXT,
  after TEXT
) STRICT;
CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;

CREATE TABLE access (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  secret TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  last_used INTEGER,
  revoked INTEGER
) STRICT;
