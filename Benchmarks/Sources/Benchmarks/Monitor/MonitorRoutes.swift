import Foundation
import GRDB
import JobStore

/// What the readers ask for: every page and every read of the API, with filters that match many, few and none.
struct MonitorRoutes: Sendable {
    struct Route: Sendable {
        var name: String
        /// Asked in turn, so that hardly any answer is one that was just given.
        var paths: [String]
    }

    private(set) var routes: [Route]
    /// Paths that answer otherwise than by 200, with their status: they are not measured.
    private(set) var absent: [(path: String, status: Int)] = []

    /// What it would be done to is counted exactly, run by run: asked once, after everything else.
    static let largest = Route(
        name: "/bulk/new, all runs that succeeded", paths: ["/bulk/new?kind=runs&action=reprocess&state=succeeded"])

    /// Costs a server next to nothing: what is left of it is the machine, the connection and the reader.
    static let floor = "/healthz"

    /// - Parameters:
    ///   - folder: the folder STATE.
    ///   - logs: the folder LOGS; what the jobs printed whose logs are asked for is written into it.
    init(folder: URL, logs: URL, port: Int) throws {
        let database = try DatabaseQueue(path: Ledger.file(in: folder).path)
        func texts(_ sql: String) throws -> [String] { try database.read { try String.fetchAll($0, sql: sql) } }
        let newest = try texts("SELECT id FROM run ORDER BY id DESC LIMIT 40")
        let count = try database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM run") ?? 0 }
        let spread = try texts("SELECT id FROM run WHERE rowid % \(max(1, count / 44)) = 7 AND state = 'succeeded' LIMIT 40")
        for run in spread { try Self.writeLog(of: run, in: logs) }
        let failed = try texts("SELECT id FROM run WHERE state = 'failed' ORDER BY id DESC LIMIT 40")
        let active = try texts("SELECT id FROM run WHERE state = 'active' ORDER BY id DESC LIMIT 40")
        let resources = try texts("SELECT resource_id FROM run WHERE rowid % \(max(1, count / 40)) = 9 LIMIT 40")
        let events = try texts("SELECT CAST(seq AS TEXT) FROM event WHERE seq % \(max(1, count / 40)) = 7 LIMIT 40")
        let jobs = try texts("SELECT id FROM job WHERE state IN ('failed', 'dead') ORDER BY id DESC LIMIT 40")
        let days = (0..<40).map { day in
            Date().addingTimeInterval(-Double(day * 2 + 1) * 86400).formatted(.iso8601.year().month().day())
        }
        func page(_ path: String, _ name: String? = nil) -> Route { Route(name: name ?? path, paths: [path]) }
        func each(_ name: String, _ values: [String], _ path: (String) -> String) -> Route { Route(name: name, paths: values.map(path)) }

        routes = [
            page(Self.floor), page("/assets/monitor.css"), page("/readyz"), page("/metrics"),
            page("/"), page("/?range=1h"), page("/?range=7d"),
            page("/runs"), each("/runs, far back", spread) { "/runs?cursor=\($0)" }, page("/runs?limit=200"),
        ]
        for state in ["failed", "active", "cancelled", "declined"] { routes.append(page("/runs?state=\(state)")) }
        routes += [
            page("/runs?level=study", "/runs?level= (most)"), page("/runs?level=patient", "/runs?level= (some)"),
            page("/runs?modality=CT", "/runs?modality= (many)"), page("/runs?modality=MG", "/runs?modality= (few)"),
            page("/runs?service=dcm2nii", "/runs?service= (most)"), page("/runs?service=cardiac", "/runs?service= (some)"),
            page("/runs?service=mammo", "/runs?service= (few)"), page("/runs?service=nothing", "/runs?service= (none)"),
            each("/runs, one day", days) { "/runs?from=\($0)&to=\($0)T23:59" },
            page("/runs?from=\(days[35])", "/runs?from= (most)"),
            page("/runs?error=cuda", "/runs?error= (many)"), each("/runs?error= (one)", resources) { "/runs?error=\($0.prefix(5))" },
            page("/runs?q=lungs", "/runs?q= (a job's name)"), each("/runs?q= (a run's id)", spread) { "/runs?q=\($0.prefix(20))" },
            each("/runs?q= (a study's id)", resources) { "/runs?q=\($0)" }, page("/runs?q=0", "/runs?q= (one character)"),
            page("/runs?state=failed&service=lungs&modality=CT&level=study", "/runs, four conditions"),
            page("/runs?service=lungs&modality=MR", "/runs, two that exclude each other"),
            page("/runs?state=failed&error=cuda&service=lungs", "/runs, failed, error and service"),
            each("/runs/{id}, new", newest) { "/runs/\($0)" }, each("/runs/{id}, any", spread) { "/runs/\($0)" },
            each("/runs/{id}, failed", failed) { "/runs/\($0)" }, each("/runs/{id}, active", active) { "/runs/\($0)" },
            each("/jobs/{id}", spread) { "/jobs/\($0).3" }, each("/jobs/{id}, failed", jobs) { "/jobs/\($0)" },
            page("/workers"), page("/queues"), page("/services"), page("/dead"), each("/dead, far back", spread) { "/dead?cursor=\($0).4" },
            page("/events"), each("/events, far back", events) { "/events?cursor=\($0)" }, page("/events?filtered=true"),
            page("/events?filtered=false"), page("/events?reason=modality", "/events?reason= (many)"),
            page("/events?reason=own-result", "/events?reason= (few)"), page("/events?reason=nothing", "/events?reason= (none)"),
            page("/dead?service=lungs", "/dead?service="), page("/dead?type=ModuleNotFoundError", "/dead?type="),
            page("/dead?error=torch", "/dead?error="), page("/dead?discarded=true"),
            page("/audit"), page("/bulk"), page("/bulk/new?kind=runs&action=retry&state=failed", "/bulk/new, failed runs"),
            page("/bulk/new?kind=jobs&action=retry&state=dead", "/bulk/new, dead jobs"),
            page("/bulk/new?kind=runs&action=reprocess&service=mammo", "/bulk/new, runs of a rare service"),
            page("/account"), page("/users"), page("/webhooks"),
        ]
        let api = "/api/v1"
        routes += [
            page("\(api)/runs"), page("\(api)/runs?limit=500"), page("\(api)/runs?state=failed"), page("\(api)/runs?service=mammo"),
            page("\(api)/runs?modality=CT"), page("\(api)/runs?error=cuda"), page("\(api)/runs?q=0"),
            each("\(api)/runs?event=", resources) { "\(api)/runs?event=\($0)" },
            each("\(api)/runs/{id}", spread) { "\(api)/runs/\($0)" }, each("\(api)/runs/{id}, active", active) { "\(api)/runs/\($0)" },
            each("\(api)/jobs/{id}", spread) { "\(api)/jobs/\($0).4" }, each("\(api)/jobs/{id}/log", spread) { "\(api)/jobs/\($0).4/log" },
            page("\(api)/workers"), page("\(api)/queues"), page("\(api)/services"), page("\(api)/dead"), page("\(api)/events"),
            page("\(api)/events?filtered=true"), page("\(api)/bulk"), page("\(api)/audit"), page("\(api)/webhooks"),
            page("\(api)/openapi.json"),
        ]
        // Cursors are the API's own: as far back as ten large pages go.
        let connection = try HTTPConnection(port: port)
        var path = "\(api)/runs?limit=500"
        var far: [String] = []
        for _ in 0..<10 {
            let answer = try connection.get(path)
            guard let body = try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any], let next = body["next"] as? String
            else { break }
            path = "\(api)/runs?limit=500&cursor=\(next)"
            far.append("\(api)/runs?limit=50&cursor=\(next)")
        }
        if !far.isEmpty { routes.append(Route(name: "\(api)/runs, far back", paths: far)) }
        for (index, route) in routes.enumerated() {
            routes[index].paths = try route.paths.filter { path in
                let status = try connection.get(path).status
                guard status != 200 else { return true }
                guard [303, 307, 403, 404].contains(status) else { throw BenchmarkError("\(path) answers \(status).") }
                absent.append((path, status))
                return false
            }
        }
        routes.removeAll { $0.paths.isEmpty }
    }

    /// What the fifth job of a run printed, which has this name in the run's attempts.
    private static func writeLog(of run: String, in logs: URL) throws {
        let file = logs.appending(path: "runs/\(run)/4-1.log")
        guard !FileManager.default.fileExists(atPath: file.path) else { return }
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        let lines = (1...1000).map { "slice \($0) of 1000: \u{1b}[32mok\u{1b}[0m, \($0 * 37 % 911) voxels above the threshold\n" }
        try Data(lines.joined().utf8).write(to: file)
    }
}
