import Foundation
import GRDB
import JobStore
import Jobs
import Synchronization
import Testing

@testable import Dashboard

@Suite(.timeLimit(.minutes(2)))
struct PageDetailTests {
    @Test("The overview's charts say the same in words and as a table", arguments: ["1h", "24h", "7d", "nonsense"])
    func charts(range: String) async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 20)
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/?range=\(range)").text
            #expect(page.matches(of: /<svg class="chart" role="img"><title>[^<]+<\/title><desc>[^<]+<\/desc>/).count == 2)
            #expect(page.contains("As a table") && page.contains("95th percentile"))
            #expect(page.contains("<b>dcm2nii</b>"))
        }
    }

    @Test(
        "A list of runs, its tabs and its summary count the same",
        arguments: [
            "", "?service=dcm2nii", "?level=series", "?modality=CT", "?error=CalledProcess", "?service=built-in&error=lost",
            "?from=2001-01-01", "?to=2001-01-01T10:00", "?q=export&level=patient", "?service=nobody",
        ])
    func counts(query: String) async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 5)
        try await RunningDashboard.serving(sample) { dashboard in
            var tabs: [String: Int] = [:]
            for state in ["", "active", "failed", "succeeded", "cancelled", "declined"] {
                let path = "/runs" + query + (query.isEmpty ? "?" : "&") + "limit=200" + (state.isEmpty ? "" : "&state=\(state)")
                let page = try await dashboard.get(path).text
                let rows = page.matches(of: /<td><a class="mono" href="\/runs\/[0-9A-Z]{26}"/).count
                for tab in page.matches(of: /<a href="\/runs[^"]*"( aria-current="page")?>(\w+) <span class="n">(\d+)<\/span>/) {
                    let name = tab.output.2 == "All" ? "" : tab.output.2.lowercased()
                    let count = Int(tab.output.3)
                    #expect(tabs[name] == nil || tabs[name] == count, "\(path)")
                    tabs[name] = count
                }
                #expect(tabs[state] == rows, "\(path)")
            }
            #expect(tabs.count == 6)
        }
    }

    @Test("A row of a run gives its template every field that it has")
    func rowFields() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let runs = try await LedgerReader(path: sample.path).runs(limit: 50).items
        let pages = try #require(OrthancPages("https://orthanc.example"))
        for run in runs {
            let row = RunRow(run, pages, at: sample.now)
            for field in Mirror(reflecting: row).children {
                let name = try #require(field.label)
                #expect(row.child(named: name).map { "\($0)" } == Self.shown(field.value), "\(name)")
            }
        }
        #expect(runs.contains { $0.reason != nil } && runs.contains { $0.reason == nil })
    }

    private static func shown(_ value: Any) -> String? {
        let mirror = Mirror(reflecting: value)
        if mirror.displayStyle == .optional { return mirror.children.first.map { "\($0.value)" } }
        return "\(value)"
    }

    @Test("Every character of ASCII is escaped alike, alone and beside others")
    func escapes() throws {
        for code in 0...0x7F as ClosedRange<UInt32> {
            let text = String(try #require(UnicodeScalar(code)))
            #expect(HTMLText.escape(text + "é") == HTMLText.escape(text) + "é", "\(code)")
        }
    }

    @Test(
        "What cannot be read in a filter is said", arguments: ["from=yesterday", "to=2026-13-45", "level=image", "state=lost", "limit=201"])
    func refused(query: String) async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { dashboard in
            let status = try await dashboard.get("/runs?\(query)").status
            #expect(status == 400)
        }
    }

    @Test("A run's page marks the critical path and shows its workers")
    func run() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/runs/\(hospital.succeeded)").text
            #expect(page.contains("Critical path"))
            #expect(page.matches(of: /class="node s-succeeded critical"/).count == 5)
            #expect(!page.contains("Ended well at attempt 1."))
            #expect(page.contains("By worker") && page.contains("timeline lane"))
        }
    }

    @Test("A log is searched whole, and its colours are ours")
    func log() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let text = "\u{1B}[31mred <b>\u{1B}[0m\nplain needle here\n10 %\r100 % done\n\u{1B}]0;title\u{7}<script>x</script> NEEDLE\n"
        try sample.writeFile("logs/runs/\(hospital.active)/2-1-1.log", Data(text.utf8))
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/jobs/\(hospital.active).2").text
            #expect(page.contains("<b class=\"c1\">red &lt;b&gt;</b>"))
            #expect(page.contains("100 % done") && !page.contains("10 %\r"))
            #expect(!page.contains("title\u{7}") && page.contains("&lt;script&gt;x&lt;/script&gt;"))
            let found = try await dashboard.get("/jobs/\(hospital.active).2?find=needle").text
            #expect(found.contains("2 lines hold it"))
            #expect(found.contains("<span class=\"number\">2</span>plain <mark>needle</mark> here"))
            #expect(found.contains("&lt;script&gt;x&lt;/script&gt; <mark>NEEDLE</mark>"))
            let tail = try await dashboard.get("/jobs/\(hospital.active).2/log?offset=0&style=1.32").json
            #expect(tail["html"]?.string?.contains("c1") == true && tail["next"]?.integer == Int64(text.utf8.count))
        }
    }

    @Test("A long log is searched piece by piece, backwards, and no line is lost or found twice")
    func logPieces() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let lines = (1...1000).map { $0 % 7 == 0 ? "\($0) a NeeDle" : "\($0) \u{1B}[31mnee\u{1B}[0mdles of others, ünd so fort" }
        try sample.writeFile("logs/runs/\(hospital.active)/2-1-1.log", Data((lines.joined(separator: "\n") + "\n").utf8))
        let ledger = LedgerReader(path: sample.path)
        let attempt = try #require(try await ledger.attempts(ofJob: "\(hospital.active).2")?.first)
        for (text, window, expected) in [
            ("a needle", 5_000, 142), ("NEEDLES", 4_999, 858), ("ÜND", 20_000, 858), ("nowhere", 3_000, 0), ("needle", 1 << 20, 1000),
        ] {
            var (found, before, requests): ([String], Int64?, Int) = ([], nil, 0)
            repeat {
                let search = LogSearch(text, before: before)
                let result = try await search.run(in: attempt, most: 10_000, logs: sample.logs, window: Int64(window))
                #expect(result.count == result.matches.count && result.start < result.end && result.end - result.start <= window)
                found = result.matches.map(\.text) + found
                if result.start == 0 { #expect(result.matches.allSatisfy { $0.line != nil }) }
                before = result.start
                requests += 1
            } while before != 0 && requests < 100
            #expect(before == 0 && found.count == expected, "\(text)")
            #expect(found.compactMap { Int($0.prefix { $0.isNumber }) } == found.compactMap { Int($0.prefix { $0.isNumber }) }.sorted())
            #expect(Set(found).count == found.count)
        }
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/jobs/\(hospital.active).2?find=needle&before=1000").text
            #expect(page.contains("searched were bytes 0 to 1\u{202F}000 of"))
            let status = try await dashboard.get("/jobs/\(hospital.active).2?find=needle&before=x").status
            #expect(status == 400)
        }
    }

    @Test("A run shows what its event holds and what it has stored, and leads to Orthanc")
    func orthanc() async throws {
        let sample = try SampleLedger()
        let (resource, series) = (SampleLedger.resource(1), SampleLedger.resource(2))
        let event = try sample.addEvent(resource: resource, series: [.init(id: series, instances: 1), .init(id: "odd", instances: 120)])
        let jobs = [
            SampleLedger.SampleJob(name: "preview", service: "preview", state: .succeeded, started: 1, finished: 2),
            SampleLedger.SampleJob(
                name: "keep", service: "keep", stage: .post, state: .succeeded, started: 2, finished: 3,
                result: ["instances": 1, "series": [.string(series), "javascript:alert(1)"], "sent": ["PACS": 2]], isStoring: true),
        ]
        let first = try sample.addRun(event: event, resource: resource, secondsAgo: 90, state: .failed, jobs: [jobs[0]])
        let run = try sample.addRun(event: event, resource: resource, secondsAgo: 60, state: .succeeded, jobs: jobs)
        let pages = try #require(OrthancPages("http://images.example:8042/"))
        try await RunningDashboard.serving(sample, orthanc: pages) { dashboard in
            let link = "href=\"http://images.example:8042/app/explorer.html#study?uuid=\(resource)\""
            let list = try await dashboard.get("/runs").text
            #expect(list.contains(link) && list.contains("2 series, 121 images"))
            let page = try await dashboard.get("/runs/\(run)").text
            #expect(page.contains(link) && page.contains("href=\"/runs/\(first)\" rel=\"prev\""))
            #expect(page.contains("Stored in Orthanc: 1 object in 1 series; sent 2 objects to PACS."))
            #expect(page.contains("http://images.example:8042/app/explorer.html#series?uuid=\(series)\""))
            #expect(!page.contains("javascript:") && !page.contains("uuid=odd"))
            let api = try await dashboard.get("/api/v1/runs/\(run)").json
            #expect(api["series"]?.integer == 2 && api["instances"]?.integer == 121)
        }
    }

    @Test(
        "Addresses of Orthanc's pages",
        arguments: [
            ("http://a:8042", "orthanc", "http://a:8042"), ("ct=https://ct/orthanc/, mr=http://mr", "ct", "https://ct/orthanc"),
            ("ct=https://ct,mr=http://mr", "orthanc", nil), ("http://u:p@a", "orthanc", nil), ("ftp://a", "orthanc", nil),
            ("", "orthanc", nil),
            ("a=http://a,a=http://b", "a", nil), ("http://a?x=1", "orthanc", nil), ("javascript:alert(1)", "orthanc", nil),
        ] as [(String, String, String?)])
    func addresses(text: String, server: String, expected: String?) {
        let id = SampleLedger.resource(1)
        #expect(OrthancPages(text)?.url("study", id, server: server) == expected.map { "\($0)/app/explorer.html#study?uuid=\(id)" })
        #expect(OrthancPages(text)?.url("study", "x", server: server) == nil)
    }

    @Test("An attempt that did not succeed says how far it had got")
    func reached() async throws {
        let sample = try SampleLedger()
        let event = try sample.addEvent(resource: "r")
        let run = try sample.addRun(
            event: event, resource: "r", secondsAgo: 60, state: .failed,
            jobs: [.init(name: "a", service: "s", state: .failed, reason: Reason("failed", "Failed."), started: 1, finished: 9)],
            attempts: [
                .init(job: 0, claimed: 1, ended: 9, progress: ["fraction": 0.4, "text": "two <of> five"], lost: Reason("x", "Lost."))
            ])
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/jobs/\(run).0").text
            #expect(page.contains("Had got to 40 %: two &lt;of&gt; five"))
        }
    }

    @Test("Jobs whose workers are all drained are told so")
    func drained() async throws {
        let sample = try SampleLedger()
        try sample.addWorker("w-1", channels: ["default"], state: "draining", machine: ["isDrained": true])
        let event = try sample.addEvent(resource: "r")
        let run = try sample.addRun(
            event: event, resource: "r", secondsAgo: 60, state: .active,
            jobs: [.init(name: "a", service: "s", state: .dispatched, reason: Reason("queued", "Queued."), queued: 1)])
        try await RunningDashboard.serving(sample) { dashboard in
            let job = try await dashboard.get("/jobs/\(run).0").text
            #expect(job.contains("is drained and takes no new job: resume worker <a href=\"/workers#worker-w%2D1\">w-1</a>"))
            #expect(!job.contains("No worker serves"))
            let overview = try await dashboard.get("/").text
            #expect(overview.contains("The only worker of channel default is drained: 1 job waits."))
        }
    }

    @Test("A long error does not fill the page: its beginning, and all of it behind a click that needs no script")
    func longError() async throws {
        let sample = try SampleLedger()
        let resource = SampleLedger.resource(3)
        let event = try sample.addEvent(resource: resource)
        let lines = (1...40).map { "line \($0) <of> the trouble" }
        func job(_ message: String) throws -> String {
            var jobs = Array(SampleLedger.done().prefix(2))
            jobs[1].state = .failed
            jobs[1].reason = Reason("exception", "It failed.")
            jobs[1].failure = JobExit.Failure(type: "ValueError", message: message, traceback: "Traceback: \(message)")
            return try sample.addRun(event: event, resource: resource, secondsAgo: 60, state: .failed, duration: 20, jobs: jobs) + ".1"
        }
        let (long, short) = (try job(lines.joined(separator: "\n")), try job(lines[0...1].joined(separator: "\n")))
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/jobs/\(long)").text
            let failure = try #require(page.firstMatch(of: #/<section id="failure"[^>]*>(.*?)</section>/#.dotMatchesNewlines()))
            let parts = String(failure.output.1).components(separatedBy: "<details id=\"message\">")
            #expect(parts.count == 2)
            #expect(parts[0].contains("line 6 &lt;of&gt; the trouble …") && !parts[0].contains("line 7 "))
            #expect(parts.last?.contains("40 lines, 990 B") == true)
            for line in lines { #expect(parts.last?.contains(HTMLText.escape(line)) == true) }
            // It ends with the same, and is closed, too.
            #expect(parts.last?.contains("<details><summary>Traceback</summary>") == true)
            let other = try await dashboard.get("/jobs/\(short)").text
            #expect(other.contains("<details open><summary>Traceback</summary>"))
            #expect(other.contains("line 2 &lt;of&gt; the trouble</p>") && !other.contains("All of it"))
        }
    }

    @Test(
        "Folded is only what is long",
        arguments: [
            ("a", 1, false), ("a\n", 8, false), ("a\n", 9, true), (String(repeating: "x", count: 600), 1, false),
            (String(repeating: "x", count: 700), 1, true), ("", 1, false),
        ])
    func folded(piece: String, count: Int, isFolded: Bool) {
        let text = String(repeating: piece, count: count).trimmingCharacters(in: .newlines)
        let folded = FoldedText(text)
        #expect((folded.whole != nil) == isFolded && (folded.head == text) != isFolded)
        #expect(folded.head.count <= 502 || !isFolded)
        #expect(folded.whole == nil || folded.whole == text)
    }

    @Test("A job's page has no empty rows and cards")
    func lean() async throws {
        let sample = try SampleLedger()
        let event = try sample.addEvent(resource: "r")
        let run = try sample.addRun(
            event: event, resource: "r", secondsAgo: 60, state: .active, jobs: [.init(name: "a", service: "", stage: .export)])
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/jobs/\(run).0").text
            for absent in [
                "<dt>Function</dt>", "<dt>Queued</dt>", "<dt>Took</dt>", "<h2>Artifacts</h2>", "<h2>Values</h2>", "<h2>Depends on</h2>",
            ] { #expect(!page.contains(absent), "\(absent)") }
        }
    }
}

struct TerminalTextTests {
    private func html(_ text: String) -> String {
        var terminal = TerminalText()
        return terminal.html(text, stream: "s")
    }

    @Test(
        "Colours become classes, everything else is text",
        arguments: [
            ("plain", "plain"),
            ("\u{1B}[1;31mx\u{1B}[0my", "<b class=\"c1 cb\">x</b>y"),
            ("\u{1B}[38;5;9mx\u{1B}[39my", "<b class=\"c9\">x</b>y"),
            ("\u{1B}[38;5;196mx", "x"),
            ("\u{1B}[38;2;1;2;3mx", "x"),
            ("\u{1B}[48;5;4;32mx", "<b class=\"c2\">x</b>"),
            ("\u{1B}[\"><script>mx", "cript&gt;mx"),
            ("\u{1B}[2Ja\u{1B}[10;3Hb", "ab"),
            ("\u{1B}[31", ""),
            ("\u{1B}", ""),
            ("a\rb\nc\r\n", "b\nc\n"),
            ("\u{1B}[31m<", "<b class=\"c1\">&lt;</b>"),
            ("\u{1B}[999999999999999999999m&", "&amp;"),
            ("1 INFO ERROR is a word\n2 WARNING <low>\nok", "1 INFO ERROR is a word\n<b class=\"warning\">2 WARNING &lt;low&gt;</b>\nok"),
            ("app: Error: gone\n", "<b class=\"error\">app: Error: gone</b>\n"),
            ("no ERRORS here", "no ERRORS here"),
        ])
    func colours(text: String, expected: String) {
        #expect(html(text) == "<span class=\"s\">\(expected)</span>")
    }

    @Test("A piece goes on with the colours that the one before ended in")
    func state() {
        var first = TerminalText()
        _ = first.html("\u{1B}[1;4;95mx", stream: "s")
        var second = TerminalText(state: first.state)
        #expect(second.html("y", stream: "s") == "<span class=\"s\"><b class=\"c13 cb cu\">y</b></span>")
        var unending = TerminalText()
        #expect(unending.html("a\u{1B}]0;title\nb", stream: "stdout") == "<span class=\"stdout\">a\nb</span>")
        // Many finds in one line are not a mark each.
        let marked = PageController.marked(String(repeating: "a", count: 2000), "a")
        #expect(marked.matches(of: /<mark>/).count == 50 && marked.count == 2000 + 50 * 13)
        var hostile = TerminalText(state: "31.\"><script>.-5")
        #expect(hostile.html("y", stream: "s") == "<span class=\"s\"><b class=\"c1\">y</b></span>")
    }
}

struct SharingTests {
    private final class Counter: Sendable {
        private let value: Mutex<Int64>
        init(_ value: Int64 = 0) { self.value = Mutex(value) }
        var now: Int64 { value.withLock { $0 } }
        func next() -> Int64 {
            value.withLock { value in
                value += 1
                return value
            }
        }
    }

    @Test("Fifty who ask at once are one look; after a change there is one more")
    func shared() async throws {
        let looks = Counter()
        let version = Counter()
        let reads = SharedReads(lifetime: .seconds(60), patience: .zero, version: { version.now }, required: { _ in 0 })
        let look: @Sendable () async throws -> Int64 = {
            try await Task.sleep(for: .milliseconds(20))
            return looks.next()
        }
        for expected in [1, 2] as [Int64] {
            let answers = try await withThrowingTaskGroup(of: Int64.self, returning: Set<Int64>.self) { group in
                for _ in 0..<50 { group.addTask { try await reads.get("key", look).value } }
                return try await group.reduce(into: []) { $0.insert($1) }
            }
            #expect(answers == [expected] && looks.now == expected)
            _ = version.next()
        }
    }

    @Test("A bar of the charts that is over is read once; what came since is in it")
    func bars() async throws {
        let sample = try SampleLedger()
        let now = sample.now
        let day = Int(ChartRange.day.start(at: now).timeIntervalSince1970)
        let (early, late) = (day + 3600, Int(now.timeIntervalSince1970) / EndedSpan.length * EndedSpan.length)
        func add(_ number: Int, at: Int, _ state: String) throws {
            try sample.write { db in
                for what in ["job", "run"] {
                    try db.execute(
                        sql: """
                            INSERT INTO ended VALUES (?, ?, ?, 'n', ?, 7, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number
                            """, arguments: [at, what, what == "job" ? "s" : "", state, number, number])
                }
            }
        }
        func numbers(_ spans: [EndedSpan]) -> [String: Int] {
            Dictionary(spans.map { ($0.state, $0.durations.count) }, uniquingKeysWith: +)
        }
        try add(5, at: early, "succeeded")
        try add(1, at: late, "failed")
        let bars = EndedBars(ledger: LedgerReader(path: sample.path))
        for range in [ChartRange.day, .week] {
            let read = try await bars.activity(range, at: now)
            #expect(numbers(read.jobs) == ["succeeded": 5, "failed": 1] && numbers(read.runs) == numbers(read.jobs))
            #expect(Set(read.runs.map(\.at)).count == 2)
        }
        // Not as it happens in a ledger, and so it shows who looks again.
        try add(100, at: early, "succeeded")
        try add(2, at: late, "failed")
        let again = try await bars.activity(.day, at: now)
        #expect(numbers(again.jobs) == ["succeeded": 5, "failed": 3] && numbers(again.runs) == numbers(again.jobs))
        // What has left the chart is in it no more, and a clock that went back sees what was there.
        let later = try await bars.activity(.day, at: now.addingTimeInterval(23 * 3600))
        #expect(numbers(later.jobs) == ["failed": 3])
        let back = try await bars.activity(.day, at: now)
        #expect(numbers(back.jobs) == ["succeeded": 105, "failed": 3])
    }

    @Test("Who asks after a change never gets what was read before it")
    func fresh() async throws {
        let truth = Counter()
        let reads = SharedReads(lifetime: .seconds(60), patience: .zero, version: { truth.now }, required: { _ in 0 })
        for _ in 0..<5 {
            let now = truth.next()
            let read = try await reads.get("key") { truth.now }.value
            #expect(read == now)
        }
    }

    @Test("With patience nobody waits for the newest, and it comes all the same")
    func patient() async throws {
        let truth = Counter()
        let recent = Recent<Int64>(for: .seconds(60), spacing: .zero, patience: .seconds(60), version: { truth.now }) { truth.now }
        let first = try await recent.get()
        _ = truth.next()
        let second = try await recent.get()
        #expect(first == 0 && second == 0)
        let deadline = ContinuousClock.now + .seconds(20)
        var last = second
        while last == 0, .now < deadline {
            try await Task.sleep(for: .milliseconds(5))
            last = try await recent.get()
        }
        #expect(last == 1)
    }

    @Test("A page that says it knows a fact shows it, and soon it does")
    func truthful() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for step in 1...4 {
                let reason = "Step \(step) went wrong"
                let fact = try sample.write { db in
                    try db.execute(
                        sql: "UPDATE run SET reason = ? WHERE id = ?",
                        arguments: [#"{"code":"x","text":"\#(reason)"}"#, hospital.failed])
                    try db.execute(
                        sql: "INSERT INTO fact (at, kind, run_id, data) VALUES (1, 'run.failed', ?, '{}')", arguments: [hospital.failed])
                    return db.lastInsertedRowID
                }
                dashboard.feed.ring()
                var waiting: Set = ["/", "/runs", "/runs?state=failed", "/runs/\(hospital.failed)"]
                let deadline = ContinuousClock.now + .seconds(60)
                while !waiting.isEmpty, .now < deadline {
                    for path in waiting {
                        let page = try await dashboard.get(path).text
                        let known = try #require(page.firstMatch(of: /data-fact="(\d+)"/).flatMap { Int64($0.output.1) })
                        guard known >= fact else { continue }
                        #expect(page.contains(reason), "\(path) says that it knows fact \(known)")
                        waiting.remove(path)
                    }
                }
                #expect(waiting.isEmpty)
            }
        }
    }

    @Test("What happened to a run is on its page, and on its jobs', at once")
    func atOnce() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            for step in 1...4 {
                for path in ["/runs/\(hospital.failed)", "/jobs/\(hospital.dead).4"] { _ = try await dashboard.get(path) }
                let (run, job) = (#"{"code":"x","text":"Run \#(step)"}"#, #"{"code":"x","text":"Job \#(step)"}"#)
                let fact = try sample.write { db in
                    try db.execute(sql: "UPDATE run SET reason = ? WHERE id = ?", arguments: [run, hospital.failed])
                    try db.execute(sql: "UPDATE job SET reason = ? WHERE id = ?", arguments: [job, "\(hospital.dead).4"])
                    for id in [hospital.failed, hospital.dead] {
                        try db.execute(sql: "INSERT INTO fact (at, kind, run_id, data) VALUES (1, 'x', ?, '{}')", arguments: [id])
                    }
                    return db.lastInsertedRowID
                }
                dashboard.feed.ring()
                try await waitUntil { dashboard.feed.latest >= fact }
                let (first, second) = try await (
                    dashboard.get("/runs/\(hospital.failed)").text, dashboard.get("/jobs/\(hospital.dead).4").text
                )
                #expect(first.contains("Run \(step)"))
                #expect(second.contains("Job \(step)"))
            }
        }
    }

    @Test("A page knows no more than the oldest of its parts")
    func oldest() async throws {
        let truth = Counter()
        let shared = SharedReads(lifetime: .seconds(60), patience: .seconds(60), version: { truth.now }, required: { _ in 0 })
        let counts = Recent<Overview>(for: .seconds(60), version: { truth.now }) { throw CancellationError() }
        var first = PageReads(shared, counts, from: truth.next())
        let old = try await first.get("old") { truth.now }
        #expect(old == 1 && first.fact == 1)
        var second = PageReads(shared, counts, from: truth.next())
        let new = try await second.get("new") { truth.now }
        #expect(new == 2 && second.fact == 2)
        let shown = try await second.get("old") { truth.now }
        #expect(shown == 1 && second.fact == 1)
    }

    @Test("Whoever comes while something is read is content with that")
    func meanwhile() async throws {
        let (truth, looks) = (Counter(), Counter())
        let others = Mutex<[Task<Int64, any Error>]>([])
        let recent = Mutex<Recent<Int64>?>(nil)
        let made = Recent<Int64>(for: .seconds(60), spacing: .seconds(5), patience: .seconds(60), version: { truth.now }) {
            let found = truth.next()
            _ = looks.next()
            others.withLock { others in
                others = (0..<10).map { _ in Task { [made = recent.withLock { $0 }] in try #require(try await made?.get()) } }
            }
            for _ in 0..<100 { await Task.yield() }
            return found
        }
        recent.withLock { $0 = made }
        #expect(try await made.get() == 1)
        for other in others.withLock({ $0 }) {
            let answer = try await other.value
            #expect(answer == 1)
        }
        #expect(looks.now == 1)
    }

    @Test("What costs much is shared for longer")
    func costly() async throws {
        let truth = Counter()
        let recent = Recent<Int64>(for: .seconds(60), spacing: .zero, patience: .nanoseconds(1), version: { truth.now }) {
            try await Task.sleep(for: .milliseconds(50))
            return truth.now
        }
        _ = try await recent.get()
        _ = truth.next()
        let soon = try await recent.get()
        #expect(soon == 0)
    }

    @Test("What was done by hand is waited for, however patient one is")
    func commanded() async throws {
        let (truth, commands) = (Counter(), Counter())
        let recent = Recent<Int64>(
            for: .seconds(60), spacing: .zero, patience: .seconds(60), version: { truth.now }, required: { commands.now }
        ) { truth.now }
        _ = try await recent.get()
        _ = (truth.next(), commands.next())
        let read = try await recent.get()
        #expect(read == 1)
    }

    @Test("A failure is nobody's last word")
    func failure() async throws {
        struct Away: Error {}
        let calls = Counter()
        let recent = Recent<Int64>(for: .seconds(60), spacing: .zero) {
            let call = calls.next()
            if call == 1 { throw Away() }
            return call
        }
        await #expect(throws: Away.self) { _ = try await recent.get() }
        let second = try await recent.get()
        #expect(second == 2)
    }

    @Test("What is shared for long is read again soon after a failure", .timeLimit(.minutes(1)))
    func longAfterFailure() async throws {
        struct Away: Error {}
        let calls = Counter()
        let reads = SharedReads(version: { 0 }, required: { _ in 0 })
        let load: @Sendable () async throws -> Int64 = {
            let call = calls.next()
            if call == 1 { throw Away() }
            return call
        }
        await #expect(throws: Away.self) { _ = try await reads.get("key", for: .seconds(600), load) }
        let second = try await reads.get("key", for: .seconds(600), load).value
        #expect(second == 2)
    }

    private struct Broker: BrokerQueues {
        func depth(of queue: String) async -> QueueDepth? {
            queue == "gone" ? nil : QueueDepth(messages: 7, consumers: 2)
        }
    }

    @Test("A queue that is not there is left out")
    func depths() async throws {
        let depths = QueueDepths(Broker())
        let readings = await depths.get(["there", "gone"], waitingAtMost: .seconds(20))
        #expect(readings == ["there": .init(depth: QueueDepth(messages: 7, consumers: 2), growth: nil)])
    }
}

struct ChartTests {
    private func span(_ at: Double, _ state: String, _ number: Int, slot: Int = 13) -> EndedSpan {
        EndedSpan(
            at: Date(timeIntervalSince1970: at), service: "", name: "study", state: state,
            durations: DurationCounts(slot: slot, number: number, seconds: 1.25 * Double(number)))
    }

    @Test("Each span falls into its bar; what is outside is left out")
    func bars() {
        let chart = ActivityChart(
            [span(-1, "succeeded", 9), span(0, "succeeded", 3), span(299, "failed", 2), span(300, "cancelled", 1), span(900, "failed", 9)],
            from: Date(timeIntervalSince1970: 0), count: 3, length: 300)
        #expect(
            chart.bars.map(\.succeeded) == [3, 0, 0] && chart.bars.map(\.failed) == [2, 0, 0] && chart.bars.map(\.other) == [0, 1, 0])
        #expect(chart.bars[0].durations.timed == 5)
        #expect(chart.counts("run").contains("6 runs ended, 2 of them failed"))
    }

    @Test("Scales end at round numbers", arguments: [(0.0, 1.0), (1, 1), (3, 4), (5, 6), (7, 10), (61, 100), (0.35, 0.4)])
    func ceiling(value: Double, expected: Double) {
        #expect(abs(ActivityChart.ceiling(value) - expected) < 1e-9)
    }

    @Test("Rates", arguments: [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.014, "1.4 %"), (0.5, "50 %"), (1.0, "100 %")])
    func rate(share: Double, text: String) {
        #expect(JobFigures.percent(share) == text)
    }
}
