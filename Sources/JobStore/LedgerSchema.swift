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

    private static let spanBeginning =
        "CAST(coalesce(new.finished_at, (julianday('now') - 2440587.5) * 86400) / \(EndedSpan.length) AS INTEGER) * \(EndedSpan.length)"

    private static func tally(what: String, service: String, name: String, since: String) -> String {
        let duration = "new.finished_at - \(since)"
        return """
            INSERT INTO ended VALUES (\(spanBeginning), '\(what)', \(service), \(name), new.state,
                \(DurationSlots.expression(duration)), 1, coalesce(\(duration), 0))
                ON CONFLICT DO UPDATE SET number = number + 1, seconds = seconds + excluded.seconds;
            """
    }

    private static func jobEnded(_ event: String, _ condition: String) -> String {
        """
        CREATE TRIGGER job_ended_\(event == "INSERT" ? "at_once" : "later") AFTER \(event) ON job
        WHEN \(condition) AND new.state IN ('succeeded', 'failed', 'dead', 'cancelled', 'skipped') BEGIN
            \(tally(what: "job", service: "new.service", name: "new.name", since: "new.started_at"))
        END;
        """
    }

    /// The words that a search by error goes through. Whoever runs jobs bounds their messages.
    private static func jobFailure(_ name: String, _ event: String, _ condition: String) -> String {
        """
        CREATE TRIGGER job_failed_\(name) AFTER \(event) ON job WHEN \(condition) AND new.state IN ('failed', 'dead') BEGIN
            INSERT OR REPLACE INTO failure VALUES (new.run_id, new.id,
                coalesce(json_extract(new.error, '$.type'), '') || char(10)
                || coalesce(json_extract(new.error, '$.message'), '') || char(10)
                || coalesce(json_extract(new.reason, '$.text'), ''));
        END;
        """
    }

    private static func runFailure(_ name: String, _ event: String, _ condition: String) -> String {
        """
        CREATE TRIGGER run_failed_\(name) AFTER \(event) ON run
        WHEN \(condition) AND new.state = 'failed' AND new.reason IS NOT NULL BEGIN
            INSERT OR REPLACE INTO failure VALUES (new.id, '', coalesce(json_extract(new.reason, '$.text'), ''));
        END;
        """
    }

    private static let version1 = """
        CREATE TABLE inbox (
            message_id   TEXT PRIMARY KEY,
            kind         TEXT NOT NULL,
            received_at  REAL NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX inbox_received ON inbox(received_at);

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
            headers      TEXT NOT NULL,   -- JSON, upstream's shape, without dcmpath
            modalities   TEXT NOT NULL DEFAULT '[]',   -- JSON [text], of its series, sorted
            failures     INTEGER NOT NULL DEFAULT 0,   -- how often it could not be planned
            problem      TEXT,            -- JSON reason: why it could not be planned last, while it has no run
            tried_at     REAL             -- when that was, unless nobody tries any more
        );
        CREATE INDEX event_unplanned ON event(tried_at) WHERE tried_at IS NOT NULL;
        CREATE INDEX event_received ON event(received_at);
        CREATE INDEX event_resource ON event(resource_id, seq);
        CREATE INDEX event_filter ON event(filter_code, seq);
        CREATE INDEX event_filtered ON event(seq) WHERE filter_code IS NOT NULL;

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
            begun_cleaning INTEGER NOT NULL DEFAULT 0,   -- a finalizer has started: files may be gone
            dcmpath      TEXT NOT NULL,
            headers      TEXT,            -- JSON, when the jobs see less than the event's headers
            added_params TEXT NOT NULL,   -- JSON
            created_at   REAL NOT NULL,
            finished_at  REAL
        );
        CREATE INDEX run_state ON run(state, id);
        CREATE INDEX run_finished ON run(finished_at) WHERE finished_at IS NOT NULL;
        CREATE INDEX run_event ON run(event_seq);
        CREATE INDEX run_resource ON run(resource_id, id);
        CREATE INDEX run_level ON run(level, id);
        -- For counting: all that is needed, without the runs themselves.
        CREATE INDEX run_brief ON run(id, state);

        CREATE TABLE run_modality (
            modality     TEXT NOT NULL,
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            PRIMARY KEY (modality, run_id)
        ) WITHOUT ROWID;
        CREATE INDEX run_modality_run ON run_modality(run_id);

        CREATE TABLE job (
            id           TEXT PRIMARY KEY,   -- '<run>.<position>'
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            position     INTEGER NOT NULL,
            name         TEXT NOT NULL,
            service      TEXT NOT NULL,
            stage        TEXT NOT NULL,
            channel      TEXT NOT NULL,
            priority     INTEGER NOT NULL,   -- the current one; the planned one is in the definition
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
            params       TEXT,               -- JSON, what a person had it retried with instead of the definition's
            discarded_by TEXT,               -- who took it off the list of the dead
            discarded_at REAL,
            UNIQUE (run_id, position)
        );
        CREATE INDEX job_name ON job(name, run_id);
        CREATE INDEX job_service ON job(service, run_id);
        -- What the router and its sweep look for is always a small part of all jobs.
        CREATE INDEX job_ready ON job(channel, run_id) WHERE state = 'ready';
        CREATE INDEX job_ready_service ON job(service, run_id) WHERE state = 'ready';
        CREATE INDEX job_dispatched ON job(channel, priority, dispatched_at) WHERE state = 'dispatched';
        CREATE INDEX job_retrying ON job(channel, priority, not_before) WHERE state = 'retrying';
        CREATE INDEX job_running ON job(started_at) WHERE state = 'running';
        -- And what the monitor looks for.
        CREATE INDEX job_queued ON job(channel, queued_at) WHERE state = 'ready' OR state = 'dispatched';
        CREATE INDEX job_broken ON job(state, id) WHERE state = 'failed' OR state = 'dead';
        CREATE INDEX job_dead ON job(discarded_at IS NULL, id) WHERE state = 'dead';
        CREATE INDEX job_unmended ON job(run_id) WHERE state IN ('failed', 'dead', 'cancelled') AND discarded_at IS NULL;

        -- What failed and dead jobs, and failed runs, give as the reason: little to search where the jobs themselves are much. Kept by
        -- triggers.
        CREATE TABLE failure (
            run_id       TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,
            job_id       TEXT NOT NULL,      -- '' for the run's own reason
            words        TEXT NOT NULL,      -- lines: the error's type, its message, the reason's text
            PRIMARY KEY (run_id, job_id)
        ) WITHOUT ROWID;
        \(jobFailure("at_once", "INSERT", "true"))
        \(jobFailure("later", "UPDATE OF state", "new.state <> old.state"))
        CREATE TRIGGER job_mended AFTER UPDATE OF state ON job
        WHEN old.state IN ('failed', 'dead') AND new.state NOT IN ('failed', 'dead') BEGIN
            DELETE FROM failure WHERE run_id = new.run_id AND job_id = new.id;
        END;
        \(runFailure("at_once", "INSERT", "true"))
        \(runFailure("later", "UPDATE OF state", "new.state <> old.state"))
        CREATE TRIGGER run_mended AFTER UPDATE OF state ON run WHEN old.state = 'failed' AND new.state <> 'failed' BEGIN
            DELETE FROM failure WHERE run_id = new.id AND job_id = '';
        END;

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
            params       TEXT,               -- JSON, what it ran with, when that was not what had been planned
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

        -- Counts, kept by triggers: counting a million rows for each look at the overview would cost more than the work itself.
        CREATE TABLE job_tally (
            service      TEXT NOT NULL,
            channel      TEXT NOT NULL,
            priority     INTEGER NOT NULL,
            state        TEXT NOT NULL,
            jobs         INTEGER NOT NULL,
            PRIMARY KEY (service, channel, priority, state)
        ) WITHOUT ROWID;
        CREATE TRIGGER job_counted AFTER INSERT ON job BEGIN
            INSERT INTO job_tally VALUES (new.service, new.channel, new.priority, new.state, 1)
                ON CONFLICT DO UPDATE SET jobs = jobs + 1;
        END;
        CREATE TRIGGER job_recounted AFTER UPDATE OF state, priority ON job
        WHEN new.state <> old.state OR new.priority <> old.priority BEGIN
            UPDATE job_tally SET jobs = jobs - 1
                WHERE service = old.service AND channel = old.channel AND priority = old.priority AND state = old.state;
            INSERT INTO job_tally VALUES (new.service, new.channel, new.priority, new.state, 1)
                ON CONFLICT DO UPDATE SET jobs = jobs + 1;
        END;
        CREATE TRIGGER job_uncounted AFTER DELETE ON job BEGIN
            UPDATE job_tally SET jobs = jobs - 1
                WHERE service = old.service AND channel = old.channel AND priority = old.priority AND state = old.state;
        END;

        -- Of the dead ones: those that a person took off the list.
        CREATE TABLE discard_tally (
            service      TEXT NOT NULL,
            channel      TEXT NOT NULL,
            jobs         INTEGER NOT NULL,
            PRIMARY KEY (service, channel)
        ) WITHOUT ROWID;
        CREATE TRIGGER job_discarded AFTER UPDATE OF discarded_at ON job
        WHEN old.discarded_at IS NULL AND new.discarded_at IS NOT NULL BEGIN
            INSERT INTO discard_tally VALUES (new.service, new.channel, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
        END;
        CREATE TRIGGER job_taken_back AFTER UPDATE OF discarded_at ON job
        WHEN old.discarded_at IS NOT NULL AND new.discarded_at IS NULL BEGIN
            UPDATE discard_tally SET jobs = jobs - 1 WHERE service = old.service AND channel = old.channel;
        END;
        CREATE TRIGGER job_discarded_gone AFTER DELETE ON job WHEN old.discarded_at IS NOT NULL BEGIN
            UPDATE discard_tally SET jobs = jobs - 1 WHERE service = old.service AND channel = old.channel;
        END;

        CREATE TABLE run_tally (
            state        TEXT PRIMARY KEY,
            runs         INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TRIGGER run_counted AFTER INSERT ON run BEGIN
            INSERT INTO run_tally VALUES (new.state, 1) ON CONFLICT DO UPDATE SET runs = runs + 1;
        END;
        CREATE TRIGGER run_recounted AFTER UPDATE OF state ON run WHEN new.state <> old.state BEGIN
            UPDATE run_tally SET runs = runs - 1 WHERE state = old.state;
            INSERT INTO run_tally VALUES (new.state, 1) ON CONFLICT DO UPDATE SET runs = runs + 1;
        END;
        CREATE TRIGGER run_uncounted AFTER DELETE ON run BEGIN
            UPDATE run_tally SET runs = runs - 1 WHERE state = old.state;
        END;

        CREATE TABLE event_tally (
            code         TEXT PRIMARY KEY,   -- the filter's, '' for events that went on
            events       INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TRIGGER event_counted AFTER INSERT ON event BEGIN
            INSERT INTO event_tally VALUES (coalesce(new.filter_code, ''), 1) ON CONFLICT DO UPDATE SET events = events + 1;
        END;
        CREATE TRIGGER event_uncounted AFTER DELETE ON event BEGIN
            UPDATE event_tally SET events = events - 1 WHERE code = coalesce(old.filter_code, '');
        END;

        -- What ended, in spans of five minutes: throughput, failures and durations of the last days without a look at the jobs themselves.
        CREATE TABLE ended (
            at           INTEGER NOT NULL,   -- where the span begins, seconds since 1970
            what         TEXT NOT NULL,      -- 'job' or 'run'
            service      TEXT NOT NULL,      -- '' for runs
            name         TEXT NOT NULL,      -- the job's; a run's level
            state        TEXT NOT NULL,
            slot         INTEGER NOT NULL,   -- which durations: see DurationSlots; -1 for what never started
            number       INTEGER NOT NULL,
            seconds      REAL NOT NULL,      -- all of them together
            PRIMARY KEY (at, what, service, name, state, slot)
        ) WITHOUT ROWID;
        \(jobEnded("INSERT", "true"))
        \(jobEnded("UPDATE OF state", "new.state <> old.state"))
        CREATE TRIGGER run_ended AFTER UPDATE OF state ON run WHEN new.state <> old.state AND new.state <> 'active' BEGIN
            \(tally(what: "run", service: "''", name: "new.level", since: "new.created_at"))
            DELETE FROM ended WHERE at < \(spanBeginning) - \(EndedSpan.kept);
        END;
        CREATE TRIGGER run_declined AFTER INSERT ON run WHEN new.state <> 'active' BEGIN
            \(tally(what: "run", service: "''", name: "new.level", since: "new.created_at"))
        END;

        -- Events that retention has deleted. Orthanc may still hold what they were about, and ingest asks.
        CREATE TABLE settled (
            snapshot     TEXT PRIMARY KEY,
            had_run      INTEGER NOT NULL
        ) WITHOUT ROWID;

        -- Runs that retention has deleted and whose files are still to go.
        CREATE TABLE expired_run (
            id           TEXT PRIMARY KEY,
            dcmpath      TEXT NOT NULL,
            artifacts    TEXT NOT NULL    -- JSON [path]
        ) WITHOUT ROWID;

        CREATE TABLE retention (
            id           INTEGER PRIMARY KEY CHECK (id = 1),
            examined_fact INTEGER NOT NULL,  -- facts up to here are gone, or go with their runs
            deleted_fact INTEGER NOT NULL    -- the newest that was deleted
        );
        INSERT INTO retention VALUES (1, 0, 0);

        -- How the router sees the broker.
        CREATE TABLE broker (
            id           INTEGER PRIMARY KEY CHECK (id = 1),
            condition    TEXT NOT NULL,
            reason       TEXT,
            since        REAL NOT NULL,
            reported_at  REAL NOT NULL
        );

        CREATE TABLE worker (
            id           TEXT PRIMARY KEY,
            host         TEXT NOT NULL,
            info         TEXT NOT NULL,      -- JSON: pid, version, slots, channels, state
            busy         INTEGER NOT NULL,   -- leases held at the last heartbeat
            started_at   REAL NOT NULL,
            seen_at      REAL NOT NULL
        ) WITHOUT ROWID;

        CREATE TABLE channel (
            name         TEXT PRIMARY KEY
        ) WITHOUT ROWID;

        -- What people have paused: a channel, or a service in all channels.
        CREATE TABLE pause (
            kind         TEXT NOT NULL,      -- channel | service
            name         TEXT NOT NULL,
            paused_by    TEXT NOT NULL,
            paused_at    REAL NOT NULL,
            PRIMARY KEY (kind, name)
        ) WITHOUT ROWID;

        -- One row for each folder of the registry, written whenever the router (re)reads it.
        CREATE TABLE service (
            name         TEXT PRIMARY KEY,
            jobs         TEXT NOT NULL,      -- JSON [JobDefinition]
            problems     TEXT NOT NULL,      -- JSON [{severity,file,entry,key,value,allowed,nearest,message}]
            needs        TEXT NOT NULL DEFAULT '{}',   -- JSON {job: [job]}: what its settings say in dependsOn
            loaded_at    REAL NOT NULL
        ) WITHOUT ROWID;

        -- Undecodable messages that went to the dead-letter exchange. They stay until a person decides, and what was decided after that.
        CREATE TABLE dead_message (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            at           REAL NOT NULL,
            queue        TEXT NOT NULL,      -- where it came from
            routing_key  TEXT NOT NULL,
            reason       TEXT NOT NULL,
            message_id   TEXT,
            type         TEXT,
            size         INTEGER NOT NULL,
            state        TEXT NOT NULL DEFAULT 'parked',   -- parked | requeueing | requeued | discarded
            decided_by   TEXT,
            decided_at   REAL,
            problem      TEXT,               -- why it could not be requeued
            properties   TEXT NOT NULL,      -- JSON: what goes with it to its queue
            held         INTEGER NOT NULL DEFAULT 0,          -- bytes of body
            body         BLOB                -- NULL when it is not kept, and once it was requeued or discarded
        );
        -- Whoever wants one of the two states alone asks for both beside it: SQLite takes the index for these very words only.
        CREATE INDEX dead_message_open ON dead_message(seq) WHERE state IN ('parked', 'requeueing');
        CREATE INDEX dead_message_held ON dead_message(held) WHERE held > 0;

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
