import Foundation
import GRDB
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Dashboard

/// Bulk operations and dead letters as somebody without JavaScript does them.
@Suite(.timeLimit(.minutes(2)))
struct BulkPageTests {
    /// `count` runs in which one job died of `reason`.
    private static func addDead(
        _ count: Int, _ sample: SampleLedger, service: String = "lungs", reason: String = "out-of-memory", type: String? = nil,
        secondsAgo: Double = 500
    ) throws -> [String] {
        try (0..<count).map { number in
            let resource = SampleLedger.resource(900 + number)
            var jobs = Array(SampleLedger.done().prefix(2))
            jobs[1].name = service
            jobs[1].service = service
            jobs[1].state = .dead
            jobs[1].reason = Reason(reason, "It died: \(reason).")
            jobs[1].failure = type.map { JobExit.Failure(type: $0, message: "What \($0) says of 100% and a_b.", traceback: nil) }
            let event = try sample.addEvent(resource: resource, secondsAgo: secondsAgo)
            let run = try sample.addRun(
                event: event, resource: resource, secondsAgo: secondsAgo, state: .failed, reason: Reason("job-dead", "Job died."),
                duration: 20, jobs: jobs)
            return "\(run).1"
        }
    }

    /// The hidden fields of the form that starts it.
    private static func fields(_ page: Answer) -> [String: String] {
        guard let form = page.text.firstMatch(of: /id="order">(.*?)<\/form>/)?.output.1 else { return [:] }
        return Dictionary(form.matches(of: /name="([a-z]+)" value="([^"]*)"/).map { (String($0.output.1), String($0.output.2)) }) { $1 }
    }

    private static func links(_ page: Answer, _ start: String) -> [String] {
        page.text.matches(of: /href="([^"]+)"/).map { String($0.output.1).replacing("&amp;", with: "&") }.filter { $0.hasPrefix(start) }
    }

    private static func look(_ dashboard: RunningDashboard, _ path: String, _ cookie: String? = nil) async throws -> (Answer, String) {
        let page = try await dashboard.get(path, headers: cookie.map { ["Cookie": $0] } ?? [:])
        let issued = page.headers["set-cookie"]?.split(separator: ";").first.map(String.init)
        return (page, issued ?? cookie ?? "")
    }

    @Test("From the list over the question to the record: the number is the same everywhere, and a second click orders nothing")
    func order() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let dead = try Self.addDead(25, sample)
        try await RunningDashboard.serving(sample) { dashboard in
            let (list, cookie) = try await Self.look(dashboard, "/dead?service=lungs")
            #expect(list.text.contains("Retry all 25 that match"))
            let link = try #require(Self.links(list, "/bulk/new?").first { $0.contains("service=lungs") && !$0.contains("reason=") })
            let (question, _) = try await Self.look(dashboard, link, cookie)
            #expect(question.status == 200)
            #expect(question.text.contains("<button class=\"primary\">Retry 25 jobs</button>"))
            #expect(question.text.contains("and 5 more") && question.text.contains("Service: lungs"))
            let ordered = dead.sorted()
            #expect(question.text.contains("/jobs/\(ordered[19])\"") && !question.text.contains("/jobs/\(ordered[20])\""))
            // To look orders nothing.
            #expect(try await dashboard.store.openBulks().isEmpty)
            let fields = Self.fields(question)
            let started = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: fields)
            #expect(started.status == 303)
            let page = try #require(started.headers["location"])
            let again = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: fields)
            #expect(again.status == 303 && again.headers["location"] == page)
            let open = try await dashboard.store.openBulks()
            #expect(open.map(\.total) == [25])
            let deadline = ContinuousClock.now + .seconds(20)
            while dashboard.commands.sent.count < 25, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(20)) }
            #expect(dashboard.commands.sent.map(\.target).sorted() == ordered)
            let answers = dashboard.commands.sent.map { command in
                let isRefused = command.target == ordered[3]
                let data: JSONValue = ["id": .string(command.id), "outcome": .string(isRefused ? "refused: Not now." : "done")]
                return data.text
            }
            try await sample.database.write { db in
                for text in answers {
                    try db.execute(sql: "INSERT INTO fact (at, kind, data) VALUES (1, 'command.done', ?)", arguments: [text])
                }
            }
            let id = try #require(open.first?.id)
            while try await dashboard.store.bulk(id)?.state != .done, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
            let record = try await dashboard.get(page)
            #expect(record.text.contains("24 of 25 done, 1 left as they were"))
            #expect(record.text.contains("Not now.") && record.text.contains("/jobs/\(ordered[3])\""))
            #expect(!record.text.contains("/jobs/\(ordered[4])\""))
            let all = try await dashboard.get(page + "?items=done&limit=10")
            #expect(all.text.contains("/jobs/\(ordered[4])\"") && all.text.contains("cursor="))
            let listed = try await dashboard.get("/bulk").text
            #expect(listed.contains("Retry 25 jobs") && listed.contains("href=\"\(page)\""))
        }
    }

    @Test("What has become something else is not started: the page says how many it was and is, and starts exactly these")
    func changed() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        let dead = try Self.addDead(3, sample)
        try await RunningDashboard.serving(sample) { dashboard in
            let (question, cookie) = try await Self.look(dashboard, "/bulk/new?kind=jobs&action=retry&state=dead&service=lungs")
            let more = try Self.addDead(2, sample)
            let asked = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: Self.fields(question))
            #expect(asked.status == 409)
            #expect(asked.text.contains("it was 3 jobs when you looked, and is 5 jobs now"))
            #expect(try await dashboard.store.openBulks().isEmpty && dashboard.commands.sent.isEmpty)
            // And one more comes: it is not among those that were shown, and is not done.
            _ = try Self.addDead(1, sample)
            let fields = Self.fields(asked)
            #expect(fields["count"] == "5")
            let started = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: fields)
            #expect(started.status == 303)
            let open = try #require(try await dashboard.store.openBulks().first)
            let items = try await dashboard.store.bulkItems(open.id, from: 0, limit: 10).map(\.target)
            #expect(items == (dead + more).sorted())
            // Nothing left: nothing to press.
            try await sample.database.write { try $0.execute(sql: "UPDATE job SET state = 'succeeded' WHERE service = 'lungs'") }
            let (none, _) = try await Self.look(dashboard, "/bulk/new?kind=jobs&action=retry&state=dead&service=lungs", cookie)
            #expect(none.status == 200 && none.text.contains("Nothing to retry") && Self.fields(none).isEmpty)
        }
    }

    @Test("Rows chosen by hand are one order; with none chosen it is not everything")
    func chosen() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            let (list, cookie) = try await Self.look(dashboard, "/runs?state=failed")
            #expect(list.text.contains("name=\"id\" value=\"\(hospital.failed)\" form=\"choice\""))
            #expect(list.text.contains("Retry all 2 that match") && !list.text.contains("Cancel all"))
            let form = "/bulk/new?kind=runs&chosen=yes&action=retry"
            #expect(try await dashboard.get(form).status == 400)
            let (question, _) = try await Self.look(dashboard, form + "&id=\(hospital.failed)&id=\(hospital.active)", cookie)
            #expect(question.text.contains("Chosen by hand: 2") && question.text.contains("It is still active."))
            let started = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: Self.fields(question))
            #expect(started.status == 303)
            let open = try #require(try await dashboard.store.openBulks().first)
            #expect(try await dashboard.store.bulkItems(open.id, from: 0, limit: 10).map(\.target) == [hospital.failed])
            let all = try await dashboard.get("/runs").text
            #expect(all.contains("Cancel all 4 that are active") && all.contains("Retry all 3 that failed or were cancelled"))
        }
    }

    @Test("A group without an error's type is one of its own; the channel of a record's list is kept")
    func withoutType() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try Self.addDead(3, sample)
        _ = try Self.addDead(2, sample, type: "MemoryError")
        try await RunningDashboard.serving(sample) { dashboard in
            func count(_ path: String) async throws -> Int {
                try await dashboard.get(path).text.matches(of: /name="id" value="/).count
            }
            let page = try await dashboard.get("/dead?service=lungs")
            let groups = Self.links(page, "/dead?").filter { $0.contains("reason=out") && $0.contains("service=lungs") }
            #expect(groups.count == 2)
            var found: [Int] = []
            for group in groups { found.append(try await count(group)) }
            #expect(found == [3, 2])
            let none = try await dashboard.get(groups[0]).text
            #expect(none.contains("Error type: none") && none.contains("Retry all 3 that match"))
            for (action, title) in [("retry", "Retry 3 jobs"), ("discard", "Discard 3 jobs")] {
                let link = try #require(
                    Self.links(page, "/bulk/new?").first { $0.contains("type=%2D") && $0.contains("action=\(action)&") })
                let question = try await dashboard.get(link).text
                #expect(question.contains(title) && question.contains("Error type: none"), "\(action)")
            }
            #expect(try await count("/dead?service=lungs&channel=default") == 5)
            #expect(try await count("/dead?service=lungs&channel=other") == 0)
            #expect(try await dashboard.get("/bulk/new?kind=jobs&action=discard&state=dead&discarded=true").status == 400)
        }
    }

    @Test("What was sent and never answered is neither done nor failed: the record says so, and what to do")
    func unanswered() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        let id = "6f9619ff-8b86-d011-b42d-00c04fc964fe"
        let record = BulkRecord(
            id: id, kind: "runs", action: "retry", filter: ["state": "failed"], actor: "otto", previewedAt: Date(), leftOut: [:], total: 2)
        try await store.addPreview(record, [(target: hospital.failed, mark: "x"), (target: hospital.dead, mark: "x")])
        #expect(try await store.startBulk(record, fact: 0, audit: 999, at: Date()))
        let items = [(hospital.failed, BulkItem.State.failed, BulkRunner.unanswered), (hospital.dead, .skipped, "Cancelled by otto.")]
            .enumerated().map { BulkItem(sequence: $0, target: $1.0, mark: "x", state: $1.1, reason: $1.2) }
        _ = try await store.advanceBulk(id, items: items, position: 2)
        try await store.endBulk(id, .cancelled, at: Date())
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/bulk/\(id)?items=all").text
            for words in [
                "<h2>Not done, or unanswered</h2>", "1 unanswered, which may have been done", "unanswered</span>", "it may have been done.",
                "repeat it there if it was not.",
            ] { #expect(page.contains(words), "\(words)") }
            #expect(try await dashboard.get("/bulk").text.contains("<th class=\"n\">Unanswered</th>"))
        }
    }

    @Test("Of a filtered list, a group's links are about what was counted: the list's other conditions stay")
    func groupsOfAFilter() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try Self.addDead(4, sample, type: "MemoryError")
        _ = try Self.addDead(3, sample, type: "MemoryError", secondsAgo: 90_000)
        _ = try Self.addDead(2, sample, service: "bones", secondsAgo: 90_000)
        try await RunningDashboard.serving(sample) { dashboard in
            let hour = Date(timeIntervalSinceNow: -3600).formatted(.iso8601)
            let page = try await dashboard.get("/dead?to=\(hour)&channel=default")
            let lungs = Self.links(page, "/dead?").filter { $0.contains("service=lungs") && $0.contains("reason=") }
            #expect(lungs.count == 1 && lungs.allSatisfy { $0.contains("to=") && $0.contains("channel=default") })
            #expect(try await dashboard.get(lungs[0]).text.matches(of: /name="id" value="/).count == 3)
            let orders = Self.links(page, "/bulk/new?").filter { $0.contains("service=lungs") }
            #expect(orders.count == 2)
            for order in orders { #expect(try await dashboard.get(order).text.contains(" 3 jobs?"), "\(order)") }
        }
    }

    @Test("The API lists the dead letters that the page lists, whatever both are asked")
    func api() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let lungs = try Self.addDead(4, sample, type: "MemoryError")
        let bones = try Self.addDead(3, sample, service: "bones", reason: "exception", type: "KeyError", secondsAgo: 90_000)
        try await sample.database.write { db in
            try db.execute(sql: "UPDATE job SET discarded_at = 1, discarded_by = 'otto' WHERE id = ?", arguments: [lungs[0]])
            try db.execute(sql: "INSERT INTO fact (at, kind, data) VALUES (1, 'job.discarded', '{}')")
        }
        try await RunningDashboard.serving(sample) { dashboard in
            let hour = Date(timeIntervalSinceNow: -3600).formatted(.iso8601)
            let expected: [(query: String, ids: [String])] = [
                ("", lungs.dropFirst() + bones + ["\(hospital.dead).4"]), ("service=bones", bones), ("name=bones", bones),
                ("channel=default", lungs.dropFirst() + bones), ("channel=other", []), ("reason=out-of-memory", Array(lungs.dropFirst())),
                ("type=KeyError", bones), ("type=-", ["\(hospital.dead).4"]), ("error=memoryerror", Array(lungs.dropFirst())),
                ("run=\(bones[0].dropLast(2).lowercased())", [bones[0]]), ("to=\(hour)", bones),
                ("from=\(hour)&service=lungs", Array(lungs.dropFirst())), ("service=", lungs.dropFirst() + bones + ["\(hospital.dead).4"]),
                ("discarded=true", [lungs[0]]), ("discarded=true&service=bones", []),
            ]
            for (query, ids) in expected {
                let jobs = try await dashboard.get("/api/v1/dead?\(query)").json["jobs"]?.array ?? []
                let listed = jobs.compactMap { $0["id"]?.string }
                #expect(Set(listed) == Set(ids) && listed.count == ids.count, "\(query)")
                let page = try await dashboard.get("/dead?\(query)").text
                #expect(page.matches(of: /name="id" value="([^"]+)"/).map { String($0.output.1) } == listed, "\(query)")
            }
            // Page by page it is the same; a cursor of another filter is none.
            let first = try await dashboard.get("/api/v1/dead?service=bones&limit=2").json
            let next = try #require(first["next"]?.string)
            let second = try await dashboard.get("/api/v1/dead?service=bones&limit=2&cursor=\(next)").json
            let both = [first, second].flatMap { $0["jobs"]?.array ?? [] }.compactMap { $0["id"]?.string }
            #expect(both == bones.sorted().reversed() && second["next"] == .null)
            #expect(try await dashboard.get("/api/v1/dead?service=lungs&limit=2&cursor=\(next)").status == 400)
            #expect(try await dashboard.get("/api/v1/dead?from=yesterday").status == 400)
        }
    }

    @Test("A viewer sees what would be done and the records, and starts nothing; the cancel button stops the rest")
    func roles() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        _ = try Self.addDead(2, sample)
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("vera", .viewer)
            try await dashboard.addUser("otto", .operator)
            let vera = try await dashboard.signIn("vera").cookie
            let otto = try await dashboard.signIn("otto").cookie
            let path = "/bulk/new?kind=jobs&action=retry&service=lungs"
            let seen = try await dashboard.get(path, headers: ["Cookie": vera])
            #expect(seen.status == 200 && seen.text.contains("Retry 2 jobs") && Self.fields(seen).isEmpty)
            #expect(try await !dashboard.get("/dead", headers: ["Cookie": vera]).text.contains("name=\"id\""))
            let fields = Self.fields(try await dashboard.get(path, headers: ["Cookie": otto]))
            let started = try await dashboard.send("POST", "/bulk", headers: ["Cookie": otto], form: fields)
            let page = try #require(started.headers["location"])
            #expect(try await dashboard.get(page, headers: ["Cookie": vera]).text.contains("by</span> otto"))
            #expect(try await !dashboard.get(page, headers: ["Cookie": vera]).text.contains("Cancel the rest"))
            let csrf = try #require(fields["csrf"])
            let cancelled = try await dashboard.send("POST", page + "/cancel", headers: ["Cookie": otto], form: ["csrf": csrf])
            #expect(cancelled.status == 303)
            #expect(try await dashboard.get(page, headers: ["Cookie": otto]).text.contains("Cancelled by otto."))
            let before = try await dashboard.get("/bulk/6f9619ff-8b86-d011-b42d-00c04fc964ff", headers: ["Cookie": otto])
            #expect(before.status == 404)
        }
    }

    @Test("Dead letters by service, what they died of, text, run and age; the groups count what their links show")
    func dead() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        let lungs = try Self.addDead(4, sample, type: "MemoryError")
        let bones = try Self.addDead(3, sample, service: "bones", reason: "exception", type: "KeyError", secondsAgo: 90_000)
        try await RunningDashboard.serving(sample) { dashboard in
            let page = try await dashboard.get("/dead")
            #expect(page.text.contains("8</span></h2>"))
            let groups = Self.links(page, "/dead?").filter { $0.contains("reason=") }
            #expect(groups.count == 3)
            var found: [Int] = []
            for group in groups {
                let part = try await dashboard.get(group)
                found.append(part.text.matches(of: /name="id" value="/).count)
            }
            #expect(found == [4, 3, 1])
            func ids(_ query: String) async throws -> Set<String> {
                let text = try await dashboard.get("/dead?\(query)").text
                return Set(text.matches(of: /name="id" value="([^"]+)"/).map { String($0.output.1) })
            }
            let hour = Date(timeIntervalSinceNow: -3600).formatted(.iso8601)
            #expect(try await ids("service=bones") == Set(bones))
            #expect(try await ids("error=memoryerror") == Set(lungs))
            #expect(try await ids("error=100%25+and+a_b") == Set(lungs + bones))
            #expect(try await ids("error=a%25b").isEmpty)
            #expect(try await ids("run=\(hospital.dead.lowercased())") == ["\(hospital.dead).4"])
            #expect(try await ids("reason=crash-limit") == ["\(hospital.dead).4"])
            #expect(try await ids("to=\(hour)") == Set(bones))
            #expect(try await ids("from=\(hour)&type=MemoryError") == Set(lungs))
            // Why, from the run itself: who was lost how often.
            #expect(page.text.contains("workers were lost while they ran it"))
            // The link means what the list shows, times included.
            let old = try await dashboard.get("/dead?to=\(hour)")
            let link = try #require(Self.links(old, "/bulk/new?").first { $0.contains("to=") && !$0.contains("reason=") })
            #expect(try await dashboard.get(link).text.contains("Retry 3 jobs"))
            // Discarding is for dead ones, and what was discarded is off the list.
            let away = try #require(Self.links(old, "/bulk/new?").first { $0.contains("action=discard") })
            let (question, cookie) = try await Self.look(dashboard, away)
            #expect(question.text.contains("Discard 3 jobs") && question.text.contains("leave the dead letters"))
            let failed = try await dashboard.get("/bulk/new?kind=jobs&action=discard&state=failed").text
            #expect(failed.contains("Nothing to discard") && failed.contains("Only a dead job can be discarded."))
            let started = try await dashboard.send("POST", "/bulk", headers: ["Cookie": cookie], form: Self.fields(question))
            #expect(started.status == 303)
            let deadline = ContinuousClock.now + .seconds(20)
            while dashboard.commands.sent.count < 3, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(20)) }
            #expect(dashboard.commands.sent.allSatisfy { $0.action == .discardJob })
            #expect(Set(dashboard.commands.sent.map(\.target)) == Set(bones))
            try await sample.database.write { db in
                try db.execute(
                    sql: "UPDATE job SET discarded_at = 1, discarded_by = 'otto' WHERE id = ?", arguments: [bones[0]])
                try db.execute(sql: "INSERT INTO fact (at, kind, data) VALUES (1, 'job.discarded', '{}')")
            }
            var left = try await ids("service=bones")
            while left.count == 3, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(50))
                left = try await ids("service=bones")
            }
            #expect(left == Set(bones.dropFirst()))
            #expect(try await ids("discarded=true") == [bones[0]])
        }
    }
}
