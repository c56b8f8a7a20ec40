import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(1)))
struct MetricsTests {
    @Test("What ends after the monitor's start is measured once, with what a scrape needs to add it up")
    func histograms() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let count = #/dcm_job_attempt_seconds_count\{service="dcm2nii",state="succeeded"\} (\d+)/#
            // Until the monitor follows, nothing of what comes is counted.
            var text = ""
            let deadline = ContinuousClock.now + .seconds(20)
            repeat {
                try await sample.database.write { db in
                    for (kind, run, job) in [
                        ("job.running", hospital.succeeded, "\(hospital.succeeded).2"),
                        ("job.succeeded", hospital.succeeded, "\(hospital.succeeded).2"), ("run.succeeded", hospital.succeeded, nil),
                        ("job.failed", hospital.failed, "\(hospital.failed).2"),
                    ] as [(String, String, String?)] {
                        let attempt = try job.flatMap { try Int.fetchOne(db, sql: "SELECT attempt FROM job WHERE id = ?", arguments: [$0]) }
                        try db.execute(
                            sql:
                                "INSERT INTO fact (at, kind, run_id, job_id, data) VALUES (?, ?, ?, ?, json_object('attempt', ?, 'reason', 'exception'))",
                            arguments: [1.0, kind, run, job, attempt])
                    }
                }
                try await Task.sleep(for: .milliseconds(50))
                text = try await dashboard.get("/metrics").text
            } while text.firstMatch(of: count) == nil && ContinuousClock.now < deadline
            #expect(text.contains(#"dcm_job_failures_total{reason="exception",service="dcm2nii"}"#))
            #expect(text.contains(#"dcm_run_seconds_bucket{le="+Inf",level="study",state="succeeded"}"#))
            #expect(text.contains("dcm_job_wait_seconds_bucket"))
            #expect(text.contains(#/\ndcm_leases \d+\n/#))
            let problems = Exposition(text).problems
            #expect(problems.isEmpty, "\(problems)")
        }
    }

    @Test("The router's commits are told as long as it speaks")
    func vitals() {
        let vitals = RouterVitals()
        let now = Date()
        var message = VitalsMessage()
        message.add(3, 0.004)
        message.add(64, 9)
        vitals.note(message, at: now)
        #expect(vitals.current(at: now + 29)?.inputs == 67)
        #expect(vitals.current(at: now + 31) == nil)
        let text = MetricsText(nil, vitals: message, isBrokerConnected: true, streams: 0, at: now).text
        #expect(text.contains("dcm_router_commit_seconds_bucket{le=\"0.0025\"} 0\n"))
        #expect(text.contains("dcm_router_commit_seconds_bucket{le=\"0.005\"} 1\n"))
        #expect(text.contains("dcm_router_commit_seconds_bucket{le=\"+Inf\"} 2\n"))
        #expect(text.contains("dcm_router_commit_seconds_count 2\n"))
        #expect(Exposition(text).problems.isEmpty)
    }

    @Test("Every metric that the dashboard and the alert rules ask for is there")
    func deployment() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .resolvingSymlinksInPath()
        let dashboard = try String(contentsOf: root.appending(path: "deploy/grafana/dcm-processor.json"), encoding: .utf8)
        #expect(try JSONValue(json: Data(dashboard.utf8))["panels"]?.array?.isEmpty == false)
        let rules = try String(contentsOf: root.appending(path: "deploy/prometheus/alerts.yml"), encoding: .utf8)
        try await sample.database.write { db in
            try db.execute(sql: "INSERT OR IGNORE INTO broker (id, condition, since, reported_at) VALUES (1, 'open', 1, 1)")
        }
        var vitals = VitalsMessage()
        vitals.add(1, 0.001)
        let ofTheRouter = MetricsText(nil, vitals: vitals, isBrokerConnected: true, streams: 0, at: Date()).text
        try await RunningDashboard.serving(sample) { running in
            let served = try await running.get("/metrics").text + ofTheRouter
            let families = Set(served.matches(of: #/# TYPE (\w+) /#).map { String($0.output.1) })
            for text in [dashboard, rules] {
                let asked = Set(text.matches(of: #/\bdcm_[a-z_]+/#).map { String($0.output) })
                #expect(asked.count > 10)
                for name in asked {
                    let family = ["_bucket", "_count", "_sum"].first {
                        name.hasSuffix($0) && families.contains(String(name.dropLast($0.count)))
                    }
                    #expect(families.contains(name) || family != nil, "\(name)")
                }
            }
        }
    }

    /// A question to Prometheus, and the words with which its answer is shown.
    private struct Question {
        var expression: String
        var words: String

        /// Names of labels in matchers, groupings and joins.
        var labels: Set<String> {
            let matchers = expression.matches(of: #/\{([^}]*)\}/#).flatMap { $0.output.1.matches(of: #/(\w+)\s*(?:=~|!~|!=|=)/#) }
            return Set(matchers.map { String($0.output.1) }).union(groups)
        }

        var groups: Set<String> {
            Set(
                expression.matches(of: #/\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/#).flatMap {
                    $0.output.1.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
                })
        }

        /// What the words name: `{{service}}` in a panel, `{{ $labels.service }}` in a rule.
        var shown: Set<String> {
            let panel = words.matches(of: #/\{\{\s*(\w+)\s*\}\}/#).map { String($0.output.1) }
            return Set(panel + words.matches(of: #/\$labels\.(\w+)/#).map { String($0.output.1) })
        }

        var isAggregated: Bool { expression.contains(#/\b(?:sum|min|max|histogram_quantile)\b/#) }
        var names: Set<String> { Set(expression.matches(of: #/\bdcm_[a-z_]+/#).map { String($0.output) }) }
    }

    private static func questions(dashboard: String, rules: String) throws -> [Question] {
        let panels = try JSONValue(json: Data(dashboard.utf8))["panels"]?.array ?? []
        let asked = panels.flatMap { $0["targets"]?.array ?? [] }.map {
            Question(expression: $0["expr"]?.string ?? "", words: $0["legendFormat"]?.string ?? "")
        }
        let alerts = rules.components(separatedBy: "- alert: ").dropFirst().map { rule in
            let expression = rule.firstMatch(of: #/expr: (.*?)\n +(?:for|labels):/#.dotMatchesNewlines())?.output.1 ?? ""
            return Question(expression: String(expression), words: rule.components(separatedBy: "annotations:").last ?? "")
        }
        return asked + alerts
    }

    @Test("Every label that the dashboard and the alert rules ask for or show is one of the metric's own")
    func labels() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        try await sample.fillJournal()
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .resolvingSymlinksInPath()
        let questions = try Self.questions(
            dashboard: String(contentsOf: root.appending(path: "deploy/grafana/dcm-processor.json"), encoding: .utf8),
            rules: String(contentsOf: root.appending(path: "deploy/prometheus/alerts.yml"), encoding: .utf8))
        #expect(questions.count > 35 && questions.allSatisfy { !$0.expression.isEmpty && !$0.words.isEmpty })
        var durations = Durations.Values()
        durations.jobs[["s", "failed"], default: .work].add(1)
        durations.waits[["default", "high"], default: .wait].add(1)
        durations.runs[["study", "failed"], default: .work].add(1)
        durations.failures[["s", "timeout"]] = 1
        var vitals = VitalsMessage()
        vitals.add(1, 0.001)
        let webhook = MonitorWebhook(
            id: "w", name: "w", url: "https://a.example", events: [.runFailed], secret: "x", createdBy: "root", createdAt: Date(),
            place: .start)
        let measured = MetricsText(
            nil, durations: durations, vitals: vitals, isBrokerConnected: true, streams: 0, webhooks: [webhook], at: Date()
        ).text
        try await RunningDashboard.serving(sample) { running in
            // By metric: what Prometheus adds to all, and its own.
            var known: [String: Set<String>] = ["up": ["job", "instance"]]
            for line in (try await running.get("/metrics").text + measured).split(separator: "\n") where !line.hasPrefix("#") {
                let name = String(line.prefix { $0 != "{" && $0 != " " })
                let labels = line.matches(of: #/[{,](\w+)="/#).map { String($0.output.1) }
                known[name, default: ["job", "instance"]].formUnion(labels)
            }
            for question in questions {
                let labels = question.names.union(question.expression.hasPrefix("up{") ? ["up"] : []).reduce(into: Set<String>()) {
                    $0.formUnion(known[$1] ?? [])
                }
                #expect(question.labels.isSubset(of: labels), "\(question.labels.subtracting(labels)) in \(question.expression)")
                // An aggregate has only what it is grouped by.
                let left = question.isAggregated ? question.groups : labels
                #expect(question.shown.isSubset(of: left), "\(question.shown.subtracting(left)) shown of \(question.expression)")
            }
        }
    }

    @Test("What is no exposition is found")
    func strict() {
        for wrong in [
            "a 1\n", "# HELP a A.\n# TYPE a gauge\na 1\na 1\n", "# HELP a A.\n# TYPE a gauge\na{b=\"c} 1\n",
            "# HELP a A.\n# TYPE a gauge\na x\n", "# HELP a A.\n# TYPE a counter\na 1", "# HELP a A.\n# TYPE a counter\na 1\n",
            "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
            "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        ] {
            #expect(!Exposition(wrong).problems.isEmpty, "\(wrong)")
        }
    }
}

/// Reads Prometheus' text format as strictly as it is meant.
private struct Exposition {
    var problems: [String] = []

    init(_ text: String) {
        if !text.hasSuffix("\n") { problems.append("no line feed at the end") }
        var types: [String: String] = [:]
        var helped: Set<String> = []
        var current: String?
        var series: Set<String> = []
        var buckets: [String: [(edge: String, count: Double)]] = [:]
        var counts: [String: Double] = [:]
        var sums: Set<String> = []
        for line in text.split(separator: "\n") {
            if let help = line.wholeMatch(of: #/# HELP ([a-zA-Z_:][\w:]*) \S.*/#) {
                if !helped.insert(String(help.output.1)).inserted { problems.append("helped twice: \(line)") }
            } else if let type = line.wholeMatch(of: #/# TYPE ([a-zA-Z_:][\w:]*) (gauge|counter|histogram)/#) {
                let name = String(type.output.1)
                if types[name] != nil || !helped.contains(name) { problems.append("typed twice or without help: \(line)") }
                types[name] = String(type.output.2)
                current = name
                if type.output.2 == "counter", !name.hasSuffix("_total") { problems.append("a counter without _total: \(name)") }
            } else if let sample = line.wholeMatch(
                of: #/([a-zA-Z_:][\w:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)/#)
            {
                let name = String(sample.output.1)
                guard let current, let type = types[current] else {
                    problems.append("a sample of no family: \(line)")
                    continue
                }
                let suffix = name.dropFirst(current.count)
                let allowed = type == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
                if !name.hasPrefix(current) || !allowed.contains(String(suffix)) { problems.append("not of \(current): \(line)") }
                guard let value = Double(sample.output.3) else {
                    problems.append("no number: \(line)")
                    continue
                }
                let labels = String(sample.output.2 ?? "")
                if !series.insert(name + labels).inserted { problems.append("twice: \(line)") }
                if type != "gauge", value < 0 { problems.append("negative: \(line)") }
                guard type == "histogram" else { continue }
                let edge = labels.firstMatch(of: #/(?:^|,)le="([^"]+)"/#).map { String($0.output.1) }
                let key = current + labels.replacing(#/(^|,)le="[^"]+"/#, with: "").trimmingCharacters(in: [","])
                switch suffix {
                case "_bucket": buckets[key, default: []].append((edge ?? "", value))
                case "_count": counts[key] = value
                default: sums.insert(key)
                }
            } else {
                problems.append("not understood: \(line)")
            }
        }
        for (key, all) in buckets {
            let edges = all.map { Double($0.edge == "+Inf" ? "inf" : $0.edge) ?? -1 }
            if edges != edges.sorted() || edges.last != .infinity { problems.append("edges of \(key)") }
            if all.map(\.count) != all.map(\.count).sorted() { problems.append("not cumulative: \(key)") }
            if counts[key] != all.last?.count || !sums.contains(key) { problems.append("count or sum of \(key)") }
        }
        if Set(buckets.keys) != Set(counts.keys) { problems.append("a histogram without buckets") }
    }
}
