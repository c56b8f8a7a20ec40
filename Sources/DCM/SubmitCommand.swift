import ArgumentParser
import Foundation
import Stack

struct SubmitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "submit",
        abstract: "Has what Orthanc holds processed: backfill, and once more with --again.",
        discussion: """
            Goes the way of new images: filters apply, and what has had its run gets no second one unless --again says so. Ends with \
            status 1 when anything failed. In a container: docker compose exec ingest dcm-tool submit --all
            """,
    )

    @OptionGroup var location: HomeOptions

    @Option(help: ArgumentHelp("series, study or patient: what the ids are, or what is listed.", valueName: "LEVEL"))
    var level = "study"

    @Option(help: ArgumentHelp("One of several Orthanc servers (default: all of them).", valueName: "NAME"))
    var server: String?

    @Option(help: ArgumentHelp("All that was updated on this day or later, 2026-01-31 or 2026-01-31T12:00:00Z.", valueName: "DATE"))
    var since: String?

    @Flag(help: "All that Orthanc has.")
    var all = false

    @Flag(help: "A new run also for what has had one. Its results come as further series beside those of the runs before.")
    var again = false

    @Option(
        help: ArgumentHelp("As --again, under a name: what has had its run under that name gets no further one.", valueName: "NAME"))
    var replay: String?

    @Option(help: ArgumentHelp("At most so many a second (default: SUBMIT_RATE of ingest).", valueName: "N"))
    var rate: Double?

    @Option(help: ArgumentHelp("Ingest's endpoint (default: INGEST_URL, else the stack's).", valueName: "URL"))
    var url: String?

    @Argument(help: ArgumentHelp("Orthanc's ids, five groups of eight hexadecimal digits.", valueName: "ORTHANC-ID"))
    var ids: [String] = []

    func validate() throws {
        guard ["series", "study", "patient"].contains(level) else {
            throw ValidationError("--level is '\(level)'; it has to be series, study or patient.")
        }
        guard [!ids.isEmpty, since != nil, all].count(where: { $0 }) == 1 else {
            throw ValidationError("Say what to submit: ids, or --since DATE, or --all.")
        }
        if let id = ids.first(where: { !Self.isIdentifier($0) }) {
            throw ValidationError(
                "'\(id)' is not an Orthanc id: five groups of eight hexadecimal digits, as in the address bar of Orthanc Explorer. "
                    + "DICOM UIDs are found with POST /tools/lookup.")
        }
        if let since, Self.date(since) == nil {
            throw ValidationError("--since is '\(since)'; it has to be a day such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z.")
        }
        if let replay, !(1...64).contains(replay.utf8.count) {
            throw ValidationError("--replay has \(replay.utf8.count) bytes; it takes 1 to 64.")
        }
        if let rate, !(0.01...1000).contains(rate) {
            throw ValidationError("--rate is \(rate); it has to be a number from 0.01 to 1000.")
        }
    }

    func run() async throws {
        let api = try endpoint()
        let isListed = ids.isEmpty
        var resources = ids.map { IngestAPI.Resource(id: $0, server: server) }
        if isListed {
            resources = try await api.resources(level: level, server: server, since: since.flatMap(Self.date)) { count in
                if isatty(STDOUT_FILENO) == 1 { show("\(count) \(plural) listed", isLast: false) }
            }
            show("\(resources.count) \(plural) listed", isLast: true)
        }
        let replay = self.replay ?? (again ? UUID().uuidString.lowercased() : nil)
        let manner = IngestAPI.Manner(level: level, replay: replay, isBulk: rate == nil && resources.count > 1)
        let submitting = Submitting(submit: { try await api.submit($0, manner) }, rate: rate)
        var toldAt = ContinuousClock.now
        let tally = try await submitting.run(resources, isListed: isListed) { tally in
            guard ContinuousClock.now - toldAt > (isatty(STDOUT_FILENO) == 1 ? .milliseconds(250) : .seconds(10)) else { return }
            toldAt = .now
            show(tally.line, isLast: false)
        }
        show(tally.summary, isLast: true)
        if tally.failed > 0 {
            show("  \(Self.advice(replay: replay))", isLast: true)
            throw ExitCode.failure
        }
    }

    private var plural: String { ["study": "studies", "patient": "patients"][level] ?? "series" }

    private func endpoint() throws -> IngestAPI {
        let environment = ProcessInfo.processInfo.environment
        func variable(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        if let url = url ?? (location.path == nil ? variable("INGEST_URL") : nil) {
            return IngestAPI(base: Self.trimmed(url), token: variable("INGEST_TOKEN"))
        }
        // Inside ingest's container there is no stack's file, but ingest's own settings.
        if location.path == nil, !FileSystem.exists(location.home.endpointsFile), let port = variable("INGEST_PORT") {
            return IngestAPI(base: "http://127.0.0.1:\(port)", token: variable("INGEST_TOKEN"))
        }
        guard let endpoints = try? Endpoints.read(location.home), endpoints.pids.ingest != nil else {
            throw StackError(
                .notFound,
                "No stack runs in \(location.home.folder.path); './dcm up\(location.suffix)' starts it, --home names another, "
                    + "and --url names an ingest that runs elsewhere on this machine.")
        }
        guard let url = endpoints.ingest else {
            throw StackError(
                .notFound,
                "The stack in \(location.home.folder.path) was started by an older version; './dcm down\(location.suffix)' and "
                    + "'./dcm up\(location.suffix)' give its ingest an endpoint.")
        }
        return IngestAPI(base: url, token: endpoints.ingestToken)
    }

    /// What to do when something failed. With --again the same command would give everything that has been done one more run.
    static func advice(replay: String?) -> String {
        let command = replay.map { "the same command with --replay \($0) and without --again" } ?? "the same command again"
        return "\(command) goes on, what is done is known then"
    }

    private static func trimmed(_ url: String) -> String {
        url.hasSuffix("/") ? trimmed(String(url.dropLast())) : url
    }

    static func isIdentifier(_ text: String) -> Bool {
        text.wholeMatch(of: /[0-9a-f]{8}(-[0-9a-f]{8}){4}/) != nil
    }

    /// A day begins at midnight here.
    static func date(_ text: String) -> Date? {
        if let date = try? Date(text, strategy: .iso8601) { return date }
        guard text.wholeMatch(of: /[0-9]{4}-[0-9]{2}-[0-9]{2}/) != nil else { return nil }
        return try? Date(text, strategy: Date.ISO8601FormatStyle(timeZone: .current).year().month().day())
    }
}

/// Progress in one line of a terminal, or in a log a line each time.
private func show(_ text: String, isLast: Bool) {
    guard isatty(STDOUT_FILENO) == 1 else { return say(text) }
    print("\r\u{1b}[K\(text)", terminator: isLast ? "\n" : "")
    fflush(nil)
}
