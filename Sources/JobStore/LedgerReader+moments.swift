import GRDB
package import Jobs

/// What the metrics measure: what began and what ended, each once, as its fact came.
package struct LedgerMoments: Sendable {
    /// The end of an attempt, or of a job without one.
    package struct JobEnd: Sendable, Hashable {
        package var service: String
        /// succeeded, failed, dead, cancelled; retrying for an attempt that failed and is not the last.
        package var state: String
        /// The reason's code.
        package var reason: String
        /// From claim to end, in seconds; nil for what never ran.
        package var seconds: Double?
    }

    package struct JobStart: Sendable, Hashable {
        package var channel: String
        package var priority: Priority
        /// From being ready to its start, in seconds.
        package var waited: Double
    }

    package struct RunEnd: Sendable, Hashable {
        package var level: String
        package var state: String
        package var seconds: Double
    }

    package var jobEnds: [JobEnd] = []
    package var jobStarts: [JobStart] = []
    package var runEnds: [RunEnd] = []
    /// The last fact that was looked at.
    package var last: Int64
}

extension LedgerReader {
    /// What happened after a fact, at most `limit` facts of it. Costs what happened, not what there is.
    package func moments(after sequence: Int64, limit: Int64 = 2000) async throws -> LedgerMoments {
        try await read { db in
            let newest = try Int64.fetchOne(db, sql: "SELECT max(seq) FROM fact") ?? 0
            var moments = LedgerMoments(last: max(sequence, min(newest, sequence + limit)))
            let range: StatementArguments = [sequence, moments.last]
            // Unary plus: by number, not by run.
            moments.jobEnds = try Row.fetchAll(
                db,
                sql: """
                    SELECT job.service, substr(fact.kind, 5) AS state, coalesce(json_extract(fact.data, '$.reason'), '') AS reason,
                        (SELECT ended_at - claimed_at FROM attempt WHERE job_id = fact.job_id
                            AND attempt = json_extract(fact.data, '$.attempt') AND ended_at IS NOT NULL ORDER BY token DESC LIMIT 1) AS seconds
                    FROM fact JOIN job ON job.id = fact.job_id
                    WHERE fact.seq > ? AND fact.seq <= ?
                        AND fact.kind IN ('job.succeeded', 'job.failed', 'job.dead', 'job.cancelled', 'job.retrying')
                    """, arguments: range
            ).map { .init(service: $0["service"], state: $0["state"], reason: $0["reason"], seconds: $0["seconds"]) }
            moments.jobStarts = try Row.fetchAll(
                db,
                sql: """
                    SELECT job.channel, job.priority, max(0, job.started_at - job.queued_at) AS waited
                    FROM fact JOIN job ON job.id = fact.job_id
                    WHERE fact.seq > ? AND fact.seq <= ? AND fact.kind = 'job.running'
                        AND job.started_at IS NOT NULL AND job.queued_at IS NOT NULL
                    """, arguments: range
            ).map { .init(channel: $0["channel"], priority: try $0.raw(Priority.self, "priority"), waited: $0["waited"]) }
            moments.runEnds = try Row.fetchAll(
                db,
                sql: """
                    SELECT run.level, substr(fact.kind, 5) AS state, max(0, run.finished_at - run.created_at) AS seconds
                    FROM fact JOIN run ON run.id = fact.run_id
                    WHERE fact.seq > ? AND fact.seq <= ? AND fact.kind IN ('run.succeeded', 'run.failed', 'run.cancelled')
                        AND run.finished_at IS NOT NULL
                    """, arguments: range
            ).map { .init(level: $0["level"], state: $0["state"], seconds: $0["seconds"]) }
            return moments
        }
    }
}
