import AMQP
import ArgumentParser
import Foundation
import JobStore
import Pipeline
import Stack

/// The monitor as it is delivered, a process of its own, with a large ledger that is written to.
struct MonitorBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "monitor",
        abstract: "Every page and read of the API while a large ledger is written to; what open pages cost; memory.",
    )

    @Option(help: "How many jobs the ledger holds.")
    var jobs = 1_000_000

    @Option(help: "A folder that keeps the ledger for the next time; one in the temporary folder, removed afterwards, unless given.")
    var folder: String?

    @Option(help: "The checkout whose monitor is measured.")
    var checkout = ProcessInfo.processInfo.environment["DCM_CHECKOUT"] ?? FileManager.default.currentDirectoryPath

    @Option(help: "The dcm-monitor to measure; the release build of the checkout unless given.")
    var monitor: String?

    @Option(help: "How many read at once.")
    var readers = 10

    @Option(help: "Milliseconds that a reader waits between an answer and the next question.")
    var pause = 100

    @Option(help: "Seconds that they read.")
    var seconds = 90

    @Option(help: "How many times each route is asked by one reader alone.")
    var alone = 12

    @Option(help: "Jobs that end in a second meanwhile.")
    var rate = 100

    @Option(help: ArgumentHelp("How many pages are open; each number is measured.", valueName: "pages"))
    var pages = [0, 10, 50]

    @Option(help: "Seconds that they are watched.")
    var followed = 20

    @Flag(help: "Only makes the ledger.")
    var fillOnly = false

    private var executable: String { monitor ?? "\(checkout)/.build/release/dcm-monitor" }

    func validate() throws {
        guard jobs >= 10_000, readers > 0, seconds > 0, alone > 0, rate > 0, pause >= 0, followed > 0, pages.allSatisfy({ $0 >= 0 }) else {
            throw ValidationError("There are at least 10,000 jobs; the other numbers are at least 1.")
        }
        guard fillOnly || FileManager.default.isExecutableFile(atPath: executable) else {
            throw ValidationError("There is no monitor at \(executable): swift build -c release --product dcm-monitor")
        }
    }

    func run() async throws {
        let place =
            folder.map { URL(filePath: $0) } ?? FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)")
        defer { if folder == nil { try? FileManager.default.removeItem(at: place) } }
        print("## Monitor\n\n\(Host.description)\n")
        let ledger = MonitorLedger(folder: place.appending(path: "state"))
        let known = try ledger.jobs()
        if known == 0 {
            let began = ContinuousClock.now
            try await ledger.fill(jobs: jobs)
            print("The ledger was made in \((ContinuousClock.now - began).inSeconds.fraction(0)) s.")
        }
        let size = (try? FileManager.default.attributesOfItem(atPath: ledger.file.path)[.size] as? NSNumber)?.doubleValue ?? .nan
        print("\(try ledger.jobs()) jobs in \((size / 1_048_576).fraction(0)) MiB.\n")
        guard !fillOnly else { return }
        try await PrivateBroker.withTemporary("bench-broker") { broker in
            try await AMQPClient.with(broker.amqpURL, topology: PipelineTopology.router(channels: ["default"])) { client in
                try await measure(ledger, broker, client, place)
            }
        }
    }

    private func measure(_ ledger: MonitorLedger, _ broker: PrivateBroker, _ client: AMQPClient, _ place: URL) async throws {
        let writer = MonitorWriter(ledger: try Ledger(folder: ledger.folder), client: client, jobsPerSecond: rate)
        let process = try await start(ledger, broker, place)
        let writing = Task { try await writer.run() }
        do {
            let port = try Self.port(process)
            var memory = MarkdownTable("memory of the monitor", "resident MiB", "highest so far")
            func note(_ when: String) {
                let now = ProcessUsage.memory(of: process.pid)
                memory.append(when, now?.resident.fraction(0) ?? "?", now?.peak.fraction(0) ?? "?")
            }
            note("when it is ready")
            let routes = try MonitorRoutes(folder: ledger.folder, logs: place.appending(path: "logs"), port: port)
            for (path, status) in routes.absent { print("Not measured: \(path) answers \(status).") }
            note("each of \(routes.routes.reduce(0) { $0 + $1.paths.count }) addresses asked once")
            try await read(routes.routes, port, process, writer)
            note("after \(readers) readers")
            for line in try await follow(ledger, port, process, writer) { memory.append(line.when, line.resident, line.peak) }
            let largest = try await ask(MonitorRoutes.largest, 0, try HTTPConnection(port: port), process)
            note("after `\(MonitorRoutes.largest.name)`")
            print(
                "`\(MonitorRoutes.largest.name)`: \(largest.seconds.fraction(1)) s, \(largest.processor.fraction(1)) s of processor time.\n"
            )
            print("\(memory)\n\nLoad after: \(Host.load)\n")
            writing.cancel()
            _ = try? await writing.value
            await process.terminate()
        } catch {
            writing.cancel()
            _ = try? await writing.value
            await process.terminate()
            throw error
        }
    }

    // MARK: Pages and the API

    private func read(
        _ routes: [MonitorRoutes.Route], _ port: Int, _ process: ManagedProcess, _ writer: MonitorWriter
    ) async throws {
        let connection = try HTTPConnection(port: port)
        // The writer's own needs of the monitor are no part of an answer.
        let idle = try await cost(of: process) { try await Task.sleep(for: .seconds(3)) }
        var single = routes.map { _ in (seconds: [Double](), processor: [Double]()) }
        // One route after the other: what was asked a moment ago may wait its turn before it is read anew.
        for number in 0..<alone {
            for (index, route) in routes.enumerated() {
                let answer = try await ask(route, number + 3, connection, process)
                single[index].seconds.append(answer.seconds)
                single[index].processor.append(max(0, answer.processor - idle.processor / idle.wall * answer.seconds))
            }
        }
        let before = writer.jobs
        let began = ContinuousClock.now
        var busy = (processor: 0.0, wall: 1.0)
        let seconds = try await MonitorReaders(port: port, routes: routes).read(readers, pause: .milliseconds(pause)) {
            busy = try await cost(of: process) { try await Task.sleep(for: .seconds(self.seconds)) }
        }
        let written = Double(writer.jobs - before) / (ContinuousClock.now - began).inSeconds
        let floor = seconds[routes.firstIndex { $0.name == MonitorRoutes.floor } ?? 0].percentile(0.95)
        var table = MarkdownTable("", "alone, ms", "processor ms", "p50 ms", "p95 ms", "p99 ms", "longest", "p95 to the floor's")
        for (index, route) in routes.enumerated() {
            let all = seconds[index]
            guard !all.isEmpty else { throw BenchmarkError("\(route.name) was not asked: more seconds are needed.") }
            table.append(
                "`\(route.name)`", (single[index].seconds.median * 1000).fraction(1),
                (single[index].processor.median * 1000).fraction(1), (all.percentile(0.5) * 1000).fraction(1),
                (all.percentile(0.95) * 1000).fraction(1),
                (all.percentile(0.99) * 1000).fraction(1),
                ((all.max() ?? .nan) * 1000).fraction(1), (all.percentile(0.95) / floor).fraction(1))
        }
        let all = seconds.flatMap { $0 }
        print(
            """
            \(readers) readers, a pause of \(pause) ms; \((Double(all.count) / Double(self.seconds)).fraction(0)) answers/s, \
            the monitor used \((busy.processor / busy.wall).percent) of a core; meanwhile \(written.fraction(0)) jobs/s ended. \
            All answers: p50 \((all.percentile(0.5) * 1000).fraction(1)) ms, p95 \((all.percentile(0.95) * 1000).fraction(1)) ms, \
            p99 \((all.percentile(0.99) * 1000).fraction(1)) ms. Load after: \(Host.load).

            \(table)

            """)
    }

    private func ask(
        _ route: MonitorRoutes.Route, _ number: Int, _ connection: HTTPConnection, _ process: ManagedProcess
    ) async throws -> (seconds: Double, processor: Double) {
        var answer: HTTPConnection.Answer?
        let cost = try await cost(of: process) { answer = try connection.get(route.paths[number % route.paths.count]) }
        guard let answer, answer.status == 200 else { throw BenchmarkError("\(route.name) answers \(answer?.status ?? 0).") }
        return (answer.seconds, cost.processor)
    }

    // MARK: Open pages

    /// - Returns: memory with each number of pages.
    private func follow(
        _ ledger: MonitorLedger, _ port: Int, _ process: ManagedProcess, _ writer: MonitorWriter
    ) async throws -> [(when: String, resident: String, peak: String)] {
        var table = MarkdownTable(
            "open pages", "the monitor's processor", "facts/s", "pages read/s", "p50 ms", "p95 ms", "commit to all streams, p50 ms",
            "p95 ms",
            "commit to all pages, p50 ms", "p95 ms")
        var memory: [(when: String, resident: String, peak: String)] = []
        for count in pages {
            let open = try OpenPages(count, of: ledger.folder, port: port)
            try await Task.sleep(for: .seconds(5))
            let first = ContinuousClock.now
            let cost = try await cost(of: process) { try await Task.sleep(for: .seconds(followed)) }
            let last = ContinuousClock.now
            let committed = writer.commits(from: first, to: last)
            // What was committed at the very end is still on its way.
            if let newest = committed.keys.max() {
                try await poll(
                    for: .seconds(60),
                    orThrow: StackError(.timedOut, "After a minute some of \(count) open pages did not show fact \(newest).")
                ) {
                    try open.isShown(newest) ? true : nil
                }
            }
            let seen = try open.end()
            let used = ProcessUsage.memory(of: process.pid)
            memory.append(("\(count) open pages", used?.resident.fraction(0) ?? "?", used?.peak.fraction(0) ?? "?"))
            guard count > 0 else {
                table.append("0", (cost.processor / cost.wall).percent, "", "", "", "", "", "", "", "")
                continue
            }
            let heard = committed.compactMap { fact, commit in seen.heard(fact).map { ($0 - commit).inSeconds } }
            let shown = committed.compactMap { fact, commit in seen.shown(fact).map { ($0 - commit).inSeconds } }
            guard !committed.isEmpty, heard.count == committed.count, shown.count == committed.count else {
                throw BenchmarkError(
                    "Of \(committed.count) facts \(heard.count) reached all of \(count) open pages, and \(shown.count) were shown there.")
            }
            let reads = seen.reads.filter { $0.at > first && $0.at < last }.map(\.seconds)
            func milliseconds(_ values: [Double], _ share: Double) -> String { (values.percentile(share) * 1000).fraction(0) }
            table.append(
                String(count), (cost.processor / cost.wall).percent, (Double(committed.count) / (last - first).inSeconds).fraction(0),
                (Double(reads.count) / (last - first).inSeconds).fraction(1), milliseconds(reads, 0.5), milliseconds(reads, 0.95),
                milliseconds(heard, 0.5), milliseconds(heard, 0.95), milliseconds(shown, 0.5), milliseconds(shown, 0.95))
        }
        print("\(table)\n\nLoad after: \(Host.load)\n")
        return memory
    }

    /// Processor seconds of a process while `body` runs, and the seconds that it took.
    private func cost(of process: ManagedProcess, _ body: () async throws -> Void) async throws -> (processor: Double, wall: Double) {
        let before = ProcessUsage.threadSeconds(of: process.pid)
        let began = ContinuousClock.now
        try await body()
        return (ProcessUsage.threadSeconds(of: process.pid) - before, (ContinuousClock.now - began).inSeconds)
    }

    // MARK: The monitor

    private func start(_ ledger: MonitorLedger, _ broker: PrivateBroker, _ place: URL) async throws -> ManagedProcess {
        try await .ready(
            "monitor", executable, in: place,
            [
                "AMQP_URL": broker.amqpURL, "STATE": ledger.folder.path, "DATA": place.appending(path: "data").path,
                "LOGS": place.appending(path: "logs").path, "MONITOR_PORT": "0", "LOG_LEVEL": "info",
            ])
    }

    /// The port that it says it listens on.
    private static func port(_ process: ManagedProcess) throws -> Int {
        let log = try String(contentsOf: process.command.logFile, encoding: .utf8)
        for line in log.split(separator: "\n") where line.contains("Monitor is listening") {
            if let port = line.firstMatch(of: /port[=":]+\s*"?(\d+)/)?.1, let number = Int(port) { return number }
        }
        throw BenchmarkError("The monitor's log does not tell its port: \(process.command.logFile.path)")
    }
}

extension Collection<Double> {
    /// The value that `share` of them (0...1) do not exceed; not a number without values.
    func percentile(_ share: Double) -> Double {
        let sorted = sorted()
        return sorted.isEmpty ? .nan : sorted[Swift.min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }
}

extension ProcessUsage {
    /// Processor seconds of all threads that a process has now, exact where ``status(of:)`` counts ticks of the clock.
    static func threadSeconds(of pid: pid_t) -> Double {
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []
        return threads.reduce(0) { sum, thread in
            let text = (try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/schedstat", encoding: .utf8)) ?? ""
            return sum + (text.split(separator: " ").first.flatMap { Double($0) } ?? 0) / 1e9
        }
    }
}
