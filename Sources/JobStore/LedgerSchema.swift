import GRDB

/// The ledger's tables. Times are seconds since 1970 (REAL); JSON is text; states are the raw values of `Jobs`.
enum LedgerSchema {
    static func migrator() -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("v1") { db in
            try db.execute(sql: version1)
        }
        return migrator
    }

    private static let version1 = """
        CREATE TABLE inbox (
            message_id   TEXT PRIMARY KEY,
            kind         TEXT NOT NULL,
            received_at  REAL NOT NULL
        ) WITHOUT ROWID;

        -- One row for each event that ingest published, filtered ones included.
        CREATE TABLE event (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            snapshot     TEXT NOT NULL UNIQUE,
            server       TEXT NOT NULL,
            level        TEXT NOT NULL,
            resource_id  TEXT NOT NULL,
            observed_at  REAL NOT NULL,
            received_at  REAL NOT NULL,
            follows      TEXT,
            filter_code  TEXT,
            filter_text  TEXT,
            series       TEXT NOT NULL,   -- JSON [{id,instances}]
            refused      TEXT NOT NULL,   -- JSON {seriesId: reason}
            headers      TEXT NOT NULL    -- JSON, upstream's shape, without dcmpath
        );
        CREATE INDEX event_resource ON event(resource_id, seq);
        CREATE INDEX event_filter ON event(filter_code, seq);

        CREATE TABLE run (
            id           TEXT PRIMARY KEY,
            event_seq    INTEGER NOT NULL REFERENCES event(seq),
            origin       TEXT NOT NULL,   -- 'event', or 'reprocess:<run>'
            dedupe_key   TEXT NOT NULL UNIQUE,
            server       TEXT NOT NULL,
            level        TEXT NOT NULL,
            resource_id  TEXT NOT NULL,
            state        TEXT NOT NULL,
            reason       TEXT,            -- JSON {code,text,subject}
            concern      TEXT,            -- JSON reason: why the run cannot end better than failed
            dcmpath      TEXT NOT NULL,
            headers      TEXT,            -- JSON, when the jobs see less than the event's headers
            added_params TEXT NOT NULL,   -- JSON
            created_at   REAL NOT NULL,
            finished_at  REAL
        );
        CREATE INDEX run_state ON run(state, id);
        CREATE INDEX run_event ON run(event_seq);
        CREATE INDEX run_resource ON run(resource_id, id);

        CREATE TABLE job (
            id           TEXT PRIMARY KEY,   -- '<run>.<position>'
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            position     INTEGER NOT NULL,
            name         TEXT NOT NULL,
            service      TEXT NOT NULL,
            stage        TEXT NOT NULL,
            channel      TEXT NOT NULL,
            priority     INTEGER NOT NULL,
            definition   TEXT NOT NULL,      -- JSON JobDefinition
            state        TEXT NOT NULL,
            reason       TEXT NOT NULL,      -- JSON {code,text,subject}
            attempt      INTEGER NOT NULL,
            dispatch     INTEGER NOT NULL,
            token        INTEGER NOT NULL,
            crashes      INTEGER NOT NULL,
            failures     INTEGER NOT NULL,
            cancel_requested INTEGER NOT NULL,
            worker       TEXT,
            claim        TEXT,               -- the id of the claim that was granted
            not_before   REAL,
            queued_at    REAL,
            dispatched_at REAL,
            started_at   REAL,
            finished_at  REAL,
            error        TEXT,               -- JSON {type,message,traceback}
            result       TEXT,               -- JSON
            UNIQUE (run_id, position)
        );
        CREATE INDEX job_state ON job(state, channel);
        CREATE INDEX job_service ON job(service, channel, state);
        CREATE INDEX job_name ON job(name, id);

        CREATE TABLE edge (
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            child        INTEGER NOT NULL,
            parent       INTEGER NOT NULL,
            condition    TEXT NOT NULL,
            origin       TEXT NOT NULL,
            satisfied_by INTEGER,
            PRIMARY KEY (run_id, child, parent)
        ) WITHOUT ROWID;

        CREATE TABLE attempt (
            job_id       TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,
            attempt      INTEGER NOT NULL,
            token        INTEGER NOT NULL,
            worker       TEXT NOT NULL,
            claimed_at   REAL NOT NULL,
            progress     TEXT,               -- JSON {fraction,text}
            exit         TEXT,               -- JSON JobExit, or NULL while it runs
            lost_reason  TEXT,               -- JSON reason, when the attempt ended without a result
            ended_at     REAL,
            PRIMARY KEY (job_id, attempt, token)
        ) WITHOUT ROWID;

        CREATE TABLE decision (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            body         TEXT NOT NULL       -- JSON Decision
        );
        CREATE INDEX decision_run ON decision(run_id, seq);

        -- What has to reach the broker. A row goes when the broker has confirmed it.
        CREATE TABLE outbox (
            id           INTEGER PRIMARY KEY AUTOINCREMENT,
            kind         TEXT NOT NULL,      -- hint | dead
            job_id       TEXT NOT NULL,
            attempt      INTEGER NOT NULL,
            dispatch     INTEGER NOT NULL,
            body         TEXT NOT NULL,      -- JSON OutboxMessage
            UNIQUE (kind, job_id, attempt, dispatch)
        );

        CREATE TABLE fact (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            at           REAL NOT NULL,
            kind         TEXT NOT NULL,
            run_id       TEXT,
            job_id       TEXT,
            data         TEXT NOT NULL       -- JSON
        );
        CREATE INDEX fact_run ON fact(run_id, seq);

        CREATE TABLE worker (
            id           TEXT PRIMARY KEY,
            host         TEXT NOT NULL,
            info         TEXT NOT NULL,      -- JSON: pid, version, slots, channels, state
            busy         INTEGER NOT NULL,   -- leases held at the last heartbeat
            started_at   REAL NOT NULL,
            seen_at      REAL NOT NULL
        ) WITHOUT ROWID;

        CREATE TABLE channel (
            name         TEXT PRIMARY KEY,
            paused_by    TEXT,
            paused_at    REAL
        ) WITHOUT ROWID;

        -- One row for each folder of the registry, written whenever the router (re)reads it.
        CREATE TABLE service (
            name         TEXT PRIMARY KEY,
            jobs         TEXT NOT NULL,      -- JSON [JobDefinition]
            problems     TEXT NOT NULL,      -- JSON [{severity,file,entry,key,message}]
            loaded_at    REAL NOT NULL
        ) WITHOUT ROWID;

        -- Undecodable messages that went to the dead-letter exchange. Their bodies stay on the broker.
        CREATE TABLE dead_message (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            at           REAL NOT NULL,
            queue        TEXT NOT NULL,
            reason       TEXT NOT NULL,
            message_id   TEXT,
            type         TEXT,
            size         INTEGER NOT NULL
        );

        CREATE TABLE audit (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            at           REAL NOT NULL,
            actor        TEXT NOT NULL,
            action       TEXT NOT NULL,
            target       TEXT NOT NULL,
            outcome      TEXT NOT NULL
        );
        """
}
