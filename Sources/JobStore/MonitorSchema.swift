import GRDB

/// The monitor's own tables. Times are seconds since 1970.
enum MonitorSchema {
    static func migrator() -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("v1") { db in
            try db.execute(sql: version1)
        }
        migrator.registerMigration("bulk") { db in
            try db.execute(sql: bulk)
        }
        migrator.registerMigration("bulk-starter") { db in
            try db.execute(sql: bulkStarter)
        }
        migrator.registerMigration("webhooks") { db in
            try db.execute(sql: webhooks)
        }
        return migrator
    }

    private static let version1 = """
        CREATE TABLE user (
            name          TEXT PRIMARY KEY,   -- lower case
            role          TEXT NOT NULL,
            password      TEXT NOT NULL,      -- scrypt, with its parameters and salt
            is_disabled   INTEGER NOT NULL DEFAULT 0,
            created_at    REAL NOT NULL,
            password_at   REAL NOT NULL,
            signed_in_at  REAL
        ) WITHOUT ROWID;

        CREATE TABLE session (
            id            TEXT PRIMARY KEY,   -- SHA-256 of what the browser's cookie holds
            user          TEXT REFERENCES user (name) ON DELETE CASCADE,   -- NULL: signed in with MONITOR_TOKEN
            credential    TEXT NOT NULL,      -- names the token that it was opened with; '' for a password
            created_at    REAL NOT NULL,
            used_at       REAL NOT NULL,
            address       TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX session_user ON session (user);

        CREATE TABLE token (
            id            TEXT PRIMARY KEY,
            hash          TEXT NOT NULL UNIQUE,   -- SHA-256 of the token
            name          TEXT NOT NULL,
            role          TEXT NOT NULL,
            created_by    TEXT NOT NULL,
            created_at    REAL NOT NULL,
            expires_at    REAL,
            revoked_at    REAL,
            used_at       REAL
        ) WITHOUT ROWID;

        CREATE TABLE secret (
            name          TEXT PRIMARY KEY,
            value         BLOB NOT NULL
        ) WITHOUT ROWID;

        CREATE TABLE audit (
            seq           INTEGER PRIMARY KEY AUTOINCREMENT,
            at            REAL NOT NULL,
            actor         TEXT NOT NULL,
            role          TEXT,
            address       TEXT,
            action        TEXT NOT NULL,
            target_kind   TEXT,
            target        TEXT,
            outcome       TEXT NOT NULL,
            detail        TEXT NOT NULL   -- JSON
        );
        CREATE INDEX audit_at ON audit (at);
        CREATE INDEX audit_actor ON audit (actor, seq);
        CREATE INDEX audit_action ON audit (action, seq);
        CREATE INDEX audit_target ON audit (target, seq);
        CREATE INDEX audit_outcome ON audit (outcome, seq);
        """
}
