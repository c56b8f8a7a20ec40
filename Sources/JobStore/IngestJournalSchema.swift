import GRDB

/// Ingest's tables. Times are seconds since 1970 (REAL) where they are ours, and Orthanc's own text where they are Orthanc's.
enum IngestJournalSchema {
    static func migrator() -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("v1") { db in
            try db.execute(sql: version1)
        }
        // Which configuration refused something of the resource; '' when nothing was refused.
        migrator.registerMigration("v2") { db in
            try db.execute(sql: "ALTER TABLE snapshot ADD COLUMN filter TEXT NOT NULL DEFAULT ''")
        }
        // What became of each resource, what is still to be done, and which ones Orthanc no longer has.
        migrator.registerMigration("v3") { db in
            try db.execute(sql: version3)
        }
        // How many of each kind there are: the monitor asks every second, and a hospital has a million of them.
        migrator.registerMigration("v4") { db in
            try db.execute(sql: version4)
        }
        return migrator
    }

    private static let version1 = """
        CREATE TABLE cursor (
            server      TEXT PRIMARY KEY,
            seq         INTEGER NOT NULL,
            resource    TEXT NOT NULL,
            date        TEXT NOT NULL,
            updated_at  REAL NOT NULL
        ) WITHOUT ROWID;

        CREATE TABLE snapshot (
            server      TEXT NOT NULL,
            level       TEXT NOT NULL,
            resource    TEXT NOT NULL,
            snapshot    TEXT NOT NULL,
            last_update TEXT NOT NULL,
            origin      TEXT NOT NULL,
            series      BLOB NOT NULL,   -- JSON {seriesId: hash}
            recorded_at REAL NOT NULL,
            PRIMARY KEY (server, level, resource)
        ) WITHOUT ROWID;

        CREATE TABLE level (
            server        TEXT NOT NULL,
            level         TEXT NOT NULL,
            first_seen_at REAL NOT NULL,
            is_baselined  INTEGER NOT NULL,
            PRIMARY KEY (server, level)
        ) WITHOUT ROWID;

        CREATE TABLE source (
            server        TEXT PRIMARY KEY,
            state         TEXT NOT NULL,
            last_seq      INTEGER NOT NULL,
            cursor_seq    INTEGER NOT NULL,
            lag           INTEGER NOT NULL,
            checked_at    REAL NOT NULL,
            error_code    TEXT,
            error_text    TEXT
        ) WITHOUT ROWID;
        """

    private static let version3 = """
        ALTER TABLE snapshot ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
        ALTER TABLE snapshot ADD COLUMN reason_text TEXT NOT NULL DEFAULT '';
        -- Since when a sweep has not found it in Orthanc.
        ALTER TABLE snapshot ADD COLUMN gone_since REAL;
        CREATE INDEX snapshot_account ON snapshot (server, level, gone_since, origin, reason_code);

        -- Resources that have no event yet, or have grown since.
        CREATE TABLE pending (
            server      TEXT NOT NULL,
            level       TEXT NOT NULL,
            resource    TEXT NOT NULL,
            since       REAL NOT NULL,
            reason_code TEXT NOT NULL,
            reason_text TEXT NOT NULL,
            PRIMARY KEY (server, level, resource)
        ) WITHOUT ROWID;

        -- How many resources Orthanc listed when the last sweep came to its end.
        ALTER TABLE level ADD COLUMN listed INTEGER;
        ALTER TABLE level ADD COLUMN swept_at REAL;
        """

    private static let version4 = """
        CREATE TABLE account (
            server      TEXT NOT NULL,
            level       TEXT NOT NULL,
            origin      TEXT NOT NULL,
            reason_code TEXT NOT NULL,
            is_gone     INTEGER NOT NULL,
            resources   INTEGER NOT NULL,
            PRIMARY KEY (server, level, origin, reason_code, is_gone)
        ) WITHOUT ROWID;
        INSERT INTO account
            SELECT server, level, origin, reason_code, gone_since IS NOT NULL, COUNT(*) FROM snapshot GROUP BY 1, 2, 3, 4, 5;
        CREATE TRIGGER snapshot_counted AFTER INSERT ON snapshot BEGIN
            INSERT INTO account VALUES (new.server, new.level, new.origin, new.reason_code, new.gone_since IS NOT NULL, 1)
                ON CONFLICT DO UPDATE SET resources = resources + 1;
        END;
        CREATE TRIGGER snapshot_recounted AFTER UPDATE OF origin, reason_code, gone_since ON snapshot
        WHEN new.origin <> old.origin OR new.reason_code <> old.reason_code OR (new.gone_since IS NULL) <> (old.gone_since IS NULL) BEGIN
            UPDATE account SET resources = resources - 1 WHERE server = old.server AND level = old.level AND origin = old.origin
                AND reason_code = old.reason_code AND is_gone = (old.gone_since IS NOT NULL);
            INSERT INTO account VALUES (new.server, new.level, new.origin, new.reason_code, new.gone_since IS NOT NULL, 1)
                ON CONFLICT DO UPDATE SET resources = resources + 1;
        END;
        CREATE TRIGGER snapshot_uncounted AFTER DELETE ON snapshot BEGIN
            UPDATE account SET resources = resources - 1 WHERE server = old.server AND level = old.level AND origin = old.origin
                AND reason_code = old.reason_code AND is_gone = (old.gone_since IS NOT NULL);
        END;
        CREATE INDEX pending_since ON pending (since);
        """
}
